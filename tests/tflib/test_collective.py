"""What is alike for all engines, and what the graph is without others."""

import numpy as np

from pylib import usable_cores
from tflib import collective, layers, tf, utils
from tflib.collective import Alone, Workers

ADDRESSES = ['a:1', 'b:1', 'b:2', 'c:3']


def test_gpus_and_threads_are_shared_by_the_workers_of_a_machine():
    first, second = (Workers(ADDRESSES, rank) for rank in (1, 2))
    lonely = Workers(ADDRESSES, 0)
    assert collective.gpus_of('all', lonely, {}) == 'all'
    assert collective.gpus_of('2,3', lonely, {}) == '2,3'
    assert [collective.gpus_of('all', each, {}) for each in (first, second)] == ['0', '1']
    assert [collective.gpus_of('2,3', each, {}) for each in (first, second)] == ['2', '3']
    visible = {'CUDA_VISIBLE_DEVICES': '5,7'}
    assert [collective.gpus_of('all', each, visible) for each in (first, second)] == ['5', '7']
    # A batch system has given this process one.
    assert collective.gpus_of('all', second, {'CUDA_VISIBLE_DEVICES': '6'}) == 'all'
    share = max(1, usable_cores() // 2)
    assert [collective.threads_of(-1, each) for each in (first, second)] == [share, share]
    assert collective.threads_of(-1, lonely) == -1
    assert collective.threads_of(3, first) == 3


def test_alone_nothing_is_added_to_a_graph():
    with tf.Graph().as_default() as graph:
        x = tf.constant([1., 2.])
        before = len(graph.get_operations())
        workers = Alone()
        with workers.scope(), workers.in_order():
            assert workers.average([x])[0] is x
        assert workers.agreement()(None, 143) == 143
        assert workers.exchange(3) == [3]
        assert workers.meet({'a': (1,)}) == [{'a': [1]}]
        assert len(graph.get_operations()) == before


def test_pooled_moments_are_those_of_all_values():
    random = np.random.RandomState(0)
    parts = random.normal(1000, 1, [3, 50, 2]).astype(np.float32)
    rows = np.stack([parts.mean(1), parts.var(1)], 1)
    with tf.Graph().as_default(), utils.session() as session:
        mean, variance = session.run(layers.pooled_moments(tf.constant(rows)))
    np.testing.assert_allclose(mean, parts.reshape(-1, 2).mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, parts.astype(np.float64).reshape(-1, 2).var(0), rtol=1e-3)


def test_shared_statistics_of_one_are_those_of_its_batch():
    """The same output, moving averages and gradients as without, but for rounding."""
    x = np.random.RandomState(0).normal(3, 2, [4, 5, 5, 3]).astype(np.float32)
    results = []
    for scope in (layers.shared_statistics(Alone().gather), None):
        with tf.Graph().as_default(), utils.session() as session:
            x_ = tf.constant(x)
            if scope:
                with scope:
                    y = layers.batch_norm(x_, True, decay=.5)
            else:
                y = layers.batch_norm(x_, True, decay=.5)
            gradient, = tf.gradients(tf.reduce_sum(y ** 3), x_)
            session.run(tf.global_variables_initializer())
            results.append(session.run([y, gradient]) + session.run(
                [v.read_value() for v in tf.global_variables()]))
    for shared, own in zip(*results):
        np.testing.assert_allclose(shared, own, rtol=1e-4, atol=1e-4)


def test_times_of_a_trace():
    """Overlaps count once, on all devices together."""
    metadata = tf.RunMetadata()
    for device, nodes in (('CPU:0', (('a = MatMul(x, y)', 0, 30), ('b = Add(a, c)', 20, 40),
                                     ('r = CollectiveReduce(a)', 35, 100),
                                     ('h = HorovodAllreduce(b)', 90, 120), ('unknown', 0, 999))),
                          ('CPU:1', (('c = Conv2D(x)', 110, 130), ('k = Const()', 0, 999)))):
        stats = metadata.step_stats.dev_stats.add(device=device)
        for label, start, end in nodes:
            stats.node_stats.add(timeline_label=label, all_start_micros=5_000_000,
                                 op_start_rel_micros=start, op_end_rel_micros=end)
    seconds = collective.traced_seconds(metadata)
    np.testing.assert_allclose([seconds['compute'], seconds['exchange']], [60e-6, 85e-6])
