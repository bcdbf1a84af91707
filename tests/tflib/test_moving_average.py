"""Averages of weights against the recurrence worked out by hand, and who reads them."""

import numpy as np
import pytest

from tflib import checkpoint, moving_average, tf, utils

AVERAGE = 'net/weight/ExponentialMovingAverage'


@pytest.fixture
def stored(tmp_path):
    """A checkpoint of a weight 5 whose average is 4, and of a bias 7 without average."""
    with tf.Graph().as_default(), utils.session() as session:
        tf.get_variable('net/weight', initializer=5.)
        tf.get_variable('net/weight/Adam', initializer=1.)
        tf.get_variable(AVERAGE, initializer=4.)
        tf.get_variable('net/bias', initializer=7.)
        session.run(tf.global_variables_initializer())
        return checkpoint.Checkpoints(str(tmp_path), keep=2).save(session, 'model.ckpt')


def test_the_first_update_copies_and_later_ones_have_the_decay():
    values, decay, found = [3., 5., -2., 8.], .2, []
    with tf.Graph().as_default(), utils.session() as session:
        weight = tf.get_variable('weight', initializer=100.)
        value, count = tf.placeholder(tf.float32, []), tf.placeholder(tf.int64, [])
        with tf.control_dependencies([weight.assign(value, read_value=False)]):
            update = moving_average.update([weight], decay, count)
        average = next(v for v in tf.global_variables() if v is not weight)
        assert average.op.name == 'weight/ExponentialMovingAverage'
        assert average not in tf.trainable_variables()
        session.run(tf.global_variables_initializer())
        for number, each in enumerate(values):
            session.run(update, {value: each, count: number})
            found.append(session.run(average))
    second = .1 * 3 + .9 * 5             # 1 / (1 + 9), while that is less than the decay
    third = 2 / 11 * second - 9 / 11 * 2
    assert found == pytest.approx([3, second, third, .2 * third + .8 * 8], rel=1e-6)


def test_a_graph_for_editing_reads_averages_where_there_are_some():
    with tf.Graph().as_default(), utils.session() as session:
        tf.get_variable('net/weight', initializer=5.)
        tf.get_variable(AVERAGE, initializer=4.)
        tf.get_variable('net/bias', initializer=7.)
        with tf.variable_scope('', custom_getter=moving_average.get_average), \
                tf.variable_scope('net', reuse=True):
            read = [tf.get_variable(name, []) for name in ('weight', 'bias')]
        session.run(tf.global_variables_initializer())
        assert session.run(read) == [4, 7]


def test_editing_restores_averages_and_training_the_weights(stored):
    def restored(scopes, names):
        with tf.Graph().as_default(), utils.session() as session:
            variables = [tf.get_variable(name, []) for name in names]
            checkpoint.restore(session, stored, variables, scopes)
            return dict(zip(names, session.run(variables)))
    assert restored(['net'], ['net/weight', 'net/bias']) == {'net/weight': 4, 'net/bias': 7}
    everything = ['net/weight', 'net/weight/Adam', AVERAGE, 'net/bias']
    assert restored(None, everything) == dict(zip(everything, [5, 1, 4, 7]))
    with tf.Graph().as_default(), utils.session() as session:
        assert session.run(checkpoint.tensors(stored, ['net'])) == {'net/weight': 4, 'net/bias': 7}


def test_averages_that_are_not_finite_are_damage_to_editing(tmp_path):
    with tf.Graph().as_default(), utils.session() as session:
        for name, value in (('net/weight', 5.), (AVERAGE, np.inf)):
            tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, str(tmp_path / 'model.ckpt'))
    assert 'not finite (net/weight/ExponentialMovingAverage)' in checkpoint.damage(path, ['net'])
