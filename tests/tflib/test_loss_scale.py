"""The loss-scale rule against sequences worked out by hand, and skipped updates."""

import numpy as np
import pytest

from tflib import loss_scale, tf, utils


def run_rule(steps, **options):
    """[(scale, good, bad, skipped)] after each step of a text of . (finite) and x (overflow)."""
    with tf.Graph().as_default(), utils.session() as session:
        manager = loss_scale.ExponentialLossScale('D', **options)
        finite = tf.placeholder(tf.bool, [])
        update = manager.update(finite)
        session.run(tf.global_variables_initializer())
        states = []
        for step in steps:
            session.run(update, {finite: step == '.'})
            states.append(tuple(session.run([manager.scale, manager.good_steps, manager.bad_steps,
                                             manager.skipped])))
        return states


def test_growth_after_good_steps():
    states = run_rule('...', start=8., grow_every=3)
    assert states == [(8, 1, 0, 0), (8, 2, 0, 0), (16, 0, 0, 0)]


def test_shrinkage_after_bad_steps_which_good_ones_do_not_reset():
    states = run_rule('.x..x', start=8., grow_every=10, shrink_every=2)
    assert states == [(8, 1, 0, 0), (8, 0, 1, 1), (8, 1, 1, 1), (8, 2, 1, 1), (4, 0, 0, 2)]


def test_growth_resets_bad_steps():
    states = run_rule('x..x', start=8., grow_every=2, shrink_every=2)
    assert states == [(8, 0, 1, 1), (8, 1, 1, 1), (16, 0, 0, 1), (16, 0, 1, 2)]


def test_scale_stays_between_one_and_the_largest_float():
    assert run_rule('xxx', start=2., shrink_every=1, shrinkage=.25)[-1][0] == 1
    assert run_rule('..', start=2.5e38, grow_every=1)[-1][:2] == (pytest.approx(2.5e38), 0)
    assert run_rule('.', start=1.6e38, grow_every=1)[-1][0] == pytest.approx(3.2e38)


def test_two_to_the_32_wastes_34_updates():
    """Why the scale starts at 2^15 here, and not at ModelZoo's 2^32."""
    steps, scale = 0, 2. ** 32
    while scale > 2. ** 15:
        scale = run_rule('xx', start=scale)[-1][0]
        steps += 2
    assert steps == 34


def build(manager):
    """(update, placeholder that multiplies the loss, gradient) of a one-weight model with Adam."""
    factor = tf.placeholder(tf.float32, [])
    weight = tf.get_variable('weight', initializer=[1., -2.])
    unused = tf.get_variable('unused', initializer=[1.])
    optimizer = loss_scale.LossScaleOptimizer(tf.train.AdamOptimizer(.1), manager)
    loss = tf.reduce_sum(weight * weight) * factor
    pairs = optimizer.compute_gradients(loss, [weight, unused])
    return optimizer.apply_gradients(pairs), factor, pairs[0][0]


def test_an_overflow_skips_the_update_bitwise():
    with tf.Graph().as_default(), utils.session() as session:
        manager = loss_scale.ExponentialLossScale('D', start=4., shrink_every=1)
        update, factor, _ = build(manager)
        session.run(tf.global_variables_initializer())
        states = tf.global_variables()
        kept = [v for v in states if loss_scale.SCOPE not in v.op.name]
        session.run(update, {factor: 1.})
        before = session.run(kept)
        session.run(update, {factor: np.inf})
        for old, new in zip(before, session.run(kept)):
            np.testing.assert_array_equal(old, new)
        assert session.run([manager.scale, manager.skipped]) == [2, 1]
        session.run(update, {factor: 1.})
        assert (session.run(kept)[0] != before[0]).any()


@pytest.mark.parametrize('scale', [1., 2. ** 15])
def test_gradients_are_those_of_the_loss(scale):
    with tf.Graph().as_default(), utils.session() as session:
        _, factor, gradient = build(loss_scale.FixedLossScale('D', scale))
        session.run(tf.global_variables_initializer())
        np.testing.assert_allclose(session.run(gradient, {factor: .5}), [1, -2], rtol=1e-6)


def test_a_fixed_scale_skips_too_and_stays():
    with tf.Graph().as_default(), utils.session() as session:
        manager = loss_scale.FixedLossScale('D', 8.)
        update, factor, _ = build(manager)
        session.run(tf.global_variables_initializer())
        session.run(update, {factor: np.nan})
        assert session.run([manager.scale, manager.skipped]) == [8, 1]
    with pytest.raises(ValueError, match='at least 1'):
        loss_scale.FixedLossScale('D', .5)


def test_each_optimizer_has_a_manager_of_its_own():
    with tf.Graph().as_default():
        for name in 'dg':
            loss_scale.make_optimizer(tf.train.AdamOptimizer(), name, 8., 'cpu')
        names = [v.op.name for v in tf.global_variables()]
    assert sorted(names) == sorted(f'loss_scale/{name}/{part}' for name in 'dg' for part in
                                   ('loss_scale', 'good_steps', 'bad_steps', 'skipped'))
