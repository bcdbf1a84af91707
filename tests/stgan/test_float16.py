"""Mixed precision as GPUs have it, without one: TensorFlow rewrites the graph as for a GPU, and the
CPU runs it, whose kernels for float16 are slow but there.
"""

import numpy as np
import pytest
from tensorflow.core.protobuf import device_properties_pb2
from tensorflow.python.grappler import cluster, tf_optimizer
from test_golden import Golden

from tflib import tf, utils

OUTPUT_TOLERANCE = .01      # of the largest value
MOVING_TOLERANCE = 1e-5     # batch norm's averages stay float32


def rewritten(graph, kept):
    """The GraphDef that a session on a V100 would run in mixed precision.

    Args:
        kept: operations that have to stay in it.
    """
    gpu = device_properties_pb2.NamedDevice(name='/job:localhost/task:0/device:GPU:0')
    gpu.properties.type, gpu.properties.environment['architecture'] = 'GPU', '7.0'
    config = utils.session_config('gpu', 'mixed')
    config.graph_options.rewrite_options.meta_optimizer_iterations = 1
    for operation in kept:
        graph.add_to_collection('train_op', operation)
    definition = tf_optimizer.OptimizeGraph(
        config, tf.train.export_meta_graph(graph=graph), verbose=False,
        cluster=cluster.Cluster(devices=[gpu]))
    for node in definition.node:
        node.device = ''
    return definition


def types(definition):
    """What the values of operations are, {operation type: {'float32', ...}}."""
    found = {}
    for node in definition.node:
        if 'T' in node.attr:
            found.setdefault(node.op, set()).add(tf.as_dtype(node.attr['T'].type).name)
    return found


class Float16Session:
    """A session on what becomes of the current graph on a GPU; `types` are those of its values."""

    def __init__(self, fetches):
        self._source = tf.get_default_graph()
        kept = [tensor.op for tensor in tf.nest.flatten(fetches)]
        for variable in tf.global_variables():
            kept += [variable.initializer, self._element(variable).op,
                     *(each.op for each in variable.initializer.inputs)]
        definition = rewritten(self._source, dict.fromkeys(kept))
        self.types = types(definition)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(definition, name='')
        self._session = utils.session('cpu', graph=graph, optimize=False)

    def _element(self, fetch):
        return self._source.as_graph_element(fetch)

    def run(self, fetches, feeds=None):
        """As of a session, for elements of the graph before it was rewritten."""
        names = tf.nest.map_structure(lambda fetch: self._element(fetch).name, fetches)
        return self._session.run(names, {self._element(key).name: value
                                         for key, value in (feeds or {}).items()})

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._session.close()


@pytest.fixture(scope='module', params=['stgan_wgan', 'attgan_lsgan'])
def golden(request):
    sessions = []

    def open_session(fetches):
        sessions.append(Float16Session(fetches))
        return sessions[-1]
    found = Golden(request.param, open_session=open_session, loss_scale=16.)
    found.types = sessions[0].types
    return found


def between_convolutions(apply):
    """Types that an operation has, {type: kinds}, whose neighbours on both sides are float16."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [2, 8, 8, 4])
        kernel = tf.get_variable('kernel', [3, 3, 4, 4])
        before = [tf.nn.conv2d(tf.nn.conv2d(images, kernel, 1, 'SAME'), kernel, 1, 'SAME')
                  for _ in range(2)]
        after = tf.nn.conv2d(apply(*before), kernel, 1, 'SAME')
        # What is fetched itself stays as it was.
        fetched = tf.nn.bias_add(tf.nn.conv2d(after, kernel, 1, 'SAME'), tf.zeros([4]))
        return types(rewritten(graph, [fetched.op, kernel.initializer]))


@pytest.mark.skipif(tf.__version__.startswith('1.'), reason='built without CUDA TensorFlow 1.15 '
                    'turns nothing but convolutions and products to float16')
def test_islands_stay_float32_between_float16_convolutions():
    """Where TensorFlow by itself would calculate most of them in float16."""
    islands = {
        'Abs': lambda one, _: tf.abs(one),
        'Mean': lambda one, _: tf.reduce_mean(one, axis=[1, 2], keepdims=True),
        'Rsqrt': lambda one, _: tf.rsqrt(one),
        'Sqrt': lambda one, _: tf.sqrt(one),
        'Square': lambda one, _: tf.square(one),
        'SquaredDifference': tf.math.squared_difference,
        'Sum': lambda one, _: tf.reduce_sum(one, axis=[1, 2], keepdims=True)}
    for operation, apply in islands.items():
        found = between_convolutions(apply)
        assert found['Conv2D'] == {'float16'} and found[operation] == {'float32'}, operation
    assert between_convolutions(lambda one, _: tf.nn.relu(one))['Relu'] == {'float16'}


@pytest.mark.slow
def test_convolutions_and_products_are_float16(golden):
    for operation in ('Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter', 'MatMul'):
        assert golden.types[operation] == {'float16'}, operation


@pytest.mark.slow
def test_golden_arrays(golden):
    for name in golden.group('out/', golden.wanted):
        assert golden.error('out/' + name) <= OUTPUT_TOLERANCE, name
    for name in golden.group('moved/', golden.wanted):
        assert golden.error('moved/' + name) <= MOVING_TOLERANCE, name
    for network, agreement in (('d_grad/', .995), ('g_grad/', .98)):
        wanted, seen = (np.concatenate([arrays[name].ravel() for name in sorted(golden.wanted)
                                        if name.startswith(network)])
                        for arrays in (golden.wanted, golden.seen))
        cosine = wanted @ seen / np.linalg.norm(wanted) / np.linalg.norm(seen)
        assert cosine >= agreement, network
