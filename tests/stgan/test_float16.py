"""Mixed precision as GPUs have it, without one: TensorFlow rewrites the graph as for a GPU, and the
CPU runs it, whose kernels for float16 are slow but there.
"""

from collections import Counter

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


class Float16Session:
    """A session on what becomes of the current graph on a GPU.

    Attributes:
        types: {(operation type, type of its values): how many}.
    """

    def __init__(self, fetches):
        self._source = tf.get_default_graph()
        kept = [tensor.op for tensor in tf.nest.flatten(fetches)]
        for variable in tf.global_variables():
            kept += [variable.initializer, self._element(variable).op,
                     *(each.op for each in variable.initializer.inputs)]
        definition = rewritten(self._source, dict.fromkeys(kept))
        self.types = Counter((node.op, tf.as_dtype(node.attr['T'].type).name)
                             for node in definition.node if 'T' in node.attr)
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


@pytest.mark.slow
def test_convolutions_are_float16_and_islands_are_not(golden):
    found = {}
    for operation, kind in golden.types:
        found.setdefault(operation, set()).add(kind)
    for operation in ('Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter', 'MatMul'):
        assert found[operation] == {'float16'}
    for operation in ('Abs', 'Mean', 'Rsqrt', 'Sqrt', 'Square', 'SquaredDifference', 'Sum'):
        assert found[operation] == {'float32'}


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
