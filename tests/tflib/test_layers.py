"""Layers against NumPy, and slim's variable names."""

import contextlib
import threading

import numpy as np
import pytest

from tflib import layers, tf, utils


def run(build):
    """Values of what `build()` returns, freshly initialized, and the variables' names."""
    with tf.Graph().as_default(), tf.variable_scope('', initializer=layers.GlorotUniform(0)), \
            utils.session() as session:
        fetches = build()
        session.run(tf.global_variables_initializer())
        return session.run(fetches), [v.op.name for v in tf.global_variables()]


def test_names_are_numbered_within_their_scope_and_shared_on_reuse():
    def build():
        x = tf.zeros([1, 4, 4, 3])
        for _ in range(2):
            with tf.variable_scope('net', reuse=tf.AUTO_REUSE):
                y = layers.conv2d(x, 2, 3, normalizer=layers.instance_norm)
                y = layers.conv2d(y, 2, 3)
                y = layers.flatten_fully_connected(layers.conv2d_transpose(y, 2, 3), 5)
        return y
    _, names = run(build)
    assert names == [
        'net/Conv/weights', 'net/Conv/InstanceNorm/beta', 'net/Conv/InstanceNorm/gamma',
        'net/Conv_1/weights', 'net/Conv_1/biases',
        'net/Conv2d_transpose/weights', 'net/Conv2d_transpose/biases',
        'net/flatten_fully_connected/fully_connected/weights',
        'net/flatten_fully_connected/fully_connected/biases']


def test_shapes_of_strided_layers():
    def build():
        x = tf.zeros([2, 6, 8, 3])
        return layers.conv2d(x, 5, 4, 2), layers.conv2d_transpose(x, 5, 4, 2)
    (down, up), _ = run(build)
    assert down.shape == (2, 3, 4, 5) and up.shape == (2, 12, 16, 5)


def test_glorot_uniform_has_slims_range_and_no_twins():
    def build():
        return [tf.get_variable(name, [3, 3, 16, 48]) for name in ('a', 'b')]
    (first, second), _ = run(build)
    limit = (6 / (9 * (16 + 48))) ** .5
    assert limit * .99 < np.abs(first).max() <= limit
    assert abs(first.mean()) < .03 * limit
    assert first.std() == pytest.approx(limit / 3 ** .5, .02)
    assert (first != second).any()


def test_initial_weights_are_the_same_on_every_tensorflow():
    weights, _ = run(lambda: tf.get_variable('weights', [2, 2]))
    np.testing.assert_allclose(
        weights, [[.48662031, .94832194], [.99961865, .22387612]], rtol=1e-6)


def test_batch_norm_in_training_and_inference():
    x = np.random.RandomState(0).normal(3, 2, [4, 5, 5, 2]).astype(np.float32)

    def build():
        y = layers.batch_norm(tf.constant(x), is_training=True, decay=.9)
        with tf.control_dependencies([y]):
            moved = [tf.identity(v) for v in tf.global_variables() if 'moving' in v.op.name]
        return y, moved
    (y, (mean, variance)), names = run(build)
    assert names == ['BatchNorm/' + name for name in ('beta', 'gamma', 'moving_mean',
                                                      'moving_variance')]
    wanted = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(y, wanted, atol=1e-4)
    np.testing.assert_allclose(mean, .1 * x.mean((0, 1, 2)), rtol=1e-4)
    unbiased = x.var((0, 1, 2)) * 100 / 99
    np.testing.assert_allclose(variance, .9 + .1 * unbiased, rtol=1e-4)
    y, _ = run(lambda: layers.batch_norm(tf.constant(x), is_training=False))
    np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-3), rtol=1e-4)


def test_instance_norm_keeps_samples_apart():
    x = np.random.RandomState(0).normal(3, 2, [4, 5, 5, 2]).astype(np.float32)
    y, _ = run(lambda: layers.instance_norm(tf.constant(x)))
    wanted = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-6)
    np.testing.assert_allclose(y, wanted, atol=1e-4)


def test_concat_label_tiles():
    label = [[1., 2.], [3., 4.]]
    y, _ = run(lambda: layers.concat_label(tf.zeros([2, 3, 3, 1]), tf.constant(label)))
    assert y.shape == (2, 3, 3, 3)
    np.testing.assert_array_equal(y[1, 2, 0], [0, 3, 4])


def test_shape_is_static_where_possible():
    with tf.Graph().as_default():
        batch, height = layers.shape(tf.placeholder(tf.float32, [None, 7]))
    assert isinstance(batch, tf.Tensor) and height == 7


@pytest.mark.parametrize('kind, size', [('down', 8), ('down', 2), ('up', 4), ('up', 1)])
def test_products_are_convolutions(monkeypatch, kind, size):
    """Values and gradients of first and second order."""
    monkeypatch.setattr(layers, 'PRODUCT_KERNEL', 0)
    layer = {'down': layers.conv2d, 'up': layers.conv2d_transpose}[kind]
    images = np.random.RandomState(0).normal(size=[3, size, 2 * size, 5]).astype(np.float32)
    results = []
    for products in (contextlib.nullcontext(), layers.products()):
        with tf.Graph().as_default(), utils.session() as session:
            x = tf.constant(images)
            initializer = layers.GlorotUniform(0)
            with products, tf.variable_scope('', initializer=initializer):
                y = layer(x, 7, 4, 2, activation=tf.nn.tanh)
            weights = tf.global_variables()[0]
            slope, = tf.gradients(y, x)
            both = tf.gradients(tf.square(slope), [x, weights])
            session.run(tf.global_variables_initializer())
            kinds_used = {operation.type for operation in tf.get_default_graph().get_operations()}
            assert ('MatMul' in kinds_used) == bool(results)
            results.append(session.run([y, slope, *both]))
    for result, wanted in zip(*results):
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('kind, kernel_size, stride', [
    ('down', 1, 1), ('down', 3, 1), ('down', 5, 1), ('down', 4, 2), ('up', 3, 1), ('up', 4, 2)])
def test_the_gradient_of_a_deep_kernel_is_a_product(monkeypatch, kind, kernel_size, stride):
    """Values and gradients of first and second order."""
    monkeypatch.setattr(layers, 'GRADIENT_KERNEL', 0)
    layer = {'down': layers.conv2d, 'up': layers.conv2d_transpose}[kind]
    images = np.random.RandomState(0).normal(size=[3, 4, 8, 5]).astype(np.float32)
    results = []
    for products in (contextlib.nullcontext(), layers.products()):
        with tf.Graph().as_default(), utils.session() as session:
            x = tf.constant(images)
            with products, tf.variable_scope('', initializer=layers.GlorotUniform(0)):
                y = layer(x, 7, kernel_size, stride, activation=tf.nn.tanh)
            weights = tf.global_variables()[0]
            slopes = tf.gradients(y, [x, weights])
            both = [tf.gradients(tf.square(slope), [x, weights]) for slope in slopes]
            session.run(tf.global_variables_initializer())
            kinds_used = {operation.type for operation in tf.get_default_graph().get_operations()}
            assert ('MatMul' in kinds_used) == bool(results)
            assert ('Conv2DBackpropFilter' in kinds_used) != bool(results)
            results.append(session.run([y, *slopes, *both[0], *both[1]]))
    for result, wanted in zip(*results):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


def test_sums_by_rows_are_the_same_sums(monkeypatch):
    """Instance norm and biases: values and gradients of first and second order."""
    monkeypatch.setattr(layers, 'ROWS_MAP', 0)
    images = np.random.RandomState(0).normal(size=[3, 6, 4, 5]).astype(np.float32)
    results = []
    for arrangement in (contextlib.nullcontext(), layers.sums_by_rows()):
        with tf.Graph().as_default(), utils.session() as session:
            x = tf.constant(images)
            with arrangement, tf.variable_scope('', initializer=layers.GlorotUniform(0)):
                y = layers.conv2d(x, 7, 3, activation=tf.nn.tanh)
                y = layers.conv2d(y, 4, 3, normalizer=layers.instance_norm, activation=tf.nn.tanh)
            variables = tf.trainable_variables()
            slope, = tf.gradients(y, x)
            first = tf.gradients(tf.square(y), variables)
            second = tf.gradients(tf.square(slope), variables[:2] + variables[3:])
            session.run(tf.global_variables_initializer())
            operations = tf.get_default_graph().get_operations()
            assert ('BiasAdd' in {operation.type for operation in operations}) != bool(results)
            sums = [tf.get_static_value(operation.inputs[1]) for operation in operations
                    if operation.type == 'Mean']
            assert any(axes is not None and axes.size == 2 for axes in sums) != bool(results)
            results.append(session.run([y, slope, *first, *second]))
    for result, wanted in zip(*results):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_products_are_those_of_the_thread_that_asked(monkeypatch):
    """Two threads whose scopes overlap, the first to begin being the first to end."""
    monkeypatch.setattr(layers, 'PRODUCT_KERNEL', 0)
    kinds, began, looked = {}, threading.Event(), threading.Event()

    def build(name):
        with tf.Graph().as_default() as graph:
            layers.conv2d(tf.zeros([1, 4, 4, 3]), 7, 4, 2)
            kinds[name] = {operation.type for operation in graph.get_operations()}

    def without():
        assert began.wait(10)
        build('without')
        with layers.products():
            looked.set()
            thread.join()
            build('with')
        build('after')

    def first():
        with layers.products():
            began.set()
            assert looked.wait(10)
    thread, other = threading.Thread(target=first), threading.Thread(target=without)
    for each in (thread, other):
        each.start()
    other.join()
    build('here')
    assert {name: 'MatMul' in found for name, found in kinds.items()} == {
        'without': False, 'with': True, 'after': False, 'here': False}
