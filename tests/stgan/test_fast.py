"""What is arranged for speed equals what `models.py` and the published code describe."""

import numpy as np
import pytest

from scripts.bench import plain
from stgan import data, fast, graph, models
from stgan.config import RunConfig
from tflib import layers, tf, utils

BASE = {'img_size': 32, 'enc_dim': 4, 'dec_dim': 4, 'stu_dim': 4, 'dis_layers': 4}


@pytest.mark.parametrize('options', [
    {}, {'stu_norm': 'bn'}, {'use_stu': False, 'shortcut_layers': 1, 'inject_layers': 1},
    {'one_more_conv': 3}, *(pytest.param(options, marks=pytest.mark.slow) for options in (
        {'stu_norm': 'in'}, {'stu_state': 'gru'}, {'stu_state': 'direct'}, {'use_stu': False},
        {'inject_layers': 0}, {'stu_inject_layers': 0}, {'shortcut_layers': 0}, {'multi_inputs': 3},
        {'stu_dim': 8, 'stu_kernel_size': 1}, {'img_size': 64}))], ids=str)
@pytest.mark.parametrize('device, smallest_product', [
    ('cpu', 0), pytest.param('cpu', layers.PRODUCT_KERNEL, marks=pytest.mark.slow),
    pytest.param('gpu', 0, marks=pytest.mark.slow)])
def test_equals_the_plain_generator(monkeypatch, options, device, smallest_product):
    """On CPUs with no layer as a product, as models so small have none, and with all that can be.

    As it is arranged for GPUs too, though it runs on a CPU here.
    """
    monkeypatch.setattr(layers, 'PRODUCT_KERNEL', smallest_product)
    products, product, phases, by_phases = [], layers._down_product, [], fast._up_by_phases
    monkeypatch.setattr(layers, '_down_product',
                        lambda *args: products.append(args) or product(*args))
    monkeypatch.setattr(fast, '_up_by_phases',
                        lambda *args: phases.append(args) or by_phases(*args))
    config = RunConfig(**dict(BASE, **options))
    size, random = config.img_size, np.random.RandomState(0)
    images = random.uniform(-1, 1, [2, size, size, 3]).astype(np.float32)
    labels = random.uniform(-1, 1, [2, 3, config.n_att]).astype(np.float32)
    with tf.Graph().as_default(), utils.session() as session:
        zs = models.encode(config, tf.constant(images), is_training=False)
        zs = [tf.gather(z, [0, 0, 0, 1, 1, 1]) for z in zs]
        plain = models.decode(config, zs, tf.constant(labels.reshape(6, -1)), is_training=False)
        variables = {v.op.name: v for v in tf.global_variables()}
        # No vector, such as those of norms, may be at its neutral value.
        session.run([v.initializer for v in variables.values()], {
            v.initial_value: random.uniform(.5, 1.5, v.shape.as_list()) if v.shape.ndims == 1 else
            random.normal(scale=.1, size=v.shape.as_list()) for v in variables.values()})
        generator = fast.FastGenerator(config, variables, device)
        edited = generator.edit(generator.features(tf.constant(images)), tf.constant(labels))
        session.run(tf.local_variables_initializer())
        expected, result = session.run([plain, edited])
    assert bool(products) == (device == 'cpu' and smallest_product == 0)
    assert bool(phases) == (device == 'cpu')
    assert expected.std() > .01
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('options', [{}, {'mode': 'dcgan'}, {'mode': 'lsgan', 'stu_norm': 'bn'}],
                         ids=str)
def test_training_equals_the_plain_one(monkeypatch, options):
    """Losses, and weights after an iteration, with every layer that can be a product being one."""
    monkeypatch.setattr(layers, 'PRODUCT_KERNEL', 0)
    monkeypatch.setattr(layers, 'GRADIENT_KERNEL', 0)
    config = RunConfig(**dict(BASE, batch_size=2, n_d=2, dis_dim=4, dis_fc_dim=8, **options))
    random, size = np.random.RandomState(0), config.img_size
    images = random.uniform(-1, 1, [2, size, size, 3]).astype(np.float32)
    a, b = random.randint(0, 2, [2, 2, config.n_att])
    results, kinds = [], []
    for build in (plain.build, graph.build):
        with tf.Graph().as_default(), utils.session() as session:
            batch = data.Batch(tf.constant(images), tf.constant(a), tf.constant(b),
                               tf.constant(7, tf.int64))
            built = build(config, batch)
            kinds.append([operation.type for operation in
                          tf.get_default_graph().get_operations()])
            weights = utils.trainable_variables('D', *models.GENERATOR_SCOPES)
            session.run(tf.global_variables_initializer())
            values = []
            for update in built.updates:
                terms, _ = session.run([update.terms, update.op], {built.learning_rate: 1e-4})
                values += terms.values()
            results.append((values, session.run(weights)))
    assert kinds[1].count('MatMul') > kinds[0].count('MatMul')
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    for fast_weight, plain_weight in zip(results[1][1], results[0][1]):
        # An update moves a weight by 1e-4 or less, in its gradient's direction.
        assert np.mean(np.abs(fast_weight - plain_weight)) < 2e-6
