"""Checkpoints: found, checked, restored, refused."""

import shutil

import pytest

from pylib import UserError
from tflib import checkpoint, tf, utils


def write(folder, name='a', keep=5, **values):
    """Save variables of the given values as checkpoint `name`."""
    with tf.Graph().as_default(), utils.session() as session:
        for variable, value in values.items():
            with tf.variable_scope('net'):
                tf.get_variable(variable, initializer=value)
        checkpoints = checkpoint.Checkpoints(str(folder), keep)
        session.run(tf.global_variables_initializer())
        return checkpoints.save(session, name)


def test_latest_follows_the_state_file_even_after_a_move(tmp_path):
    assert checkpoint.latest(str(tmp_path)) is None
    write(tmp_path / 'old', 'a', x=1.)
    write(tmp_path / 'old', 'b', x=2.)
    shutil.move(str(tmp_path / 'old'), str(tmp_path / 'new'))
    assert checkpoint.latest(str(tmp_path / 'new')) == str(tmp_path / 'new' / 'b')
    (tmp_path / 'new' / 'checkpoint').write_text(
        'model_checkpoint_path: "/elsewhere/a"\nall_model_checkpoint_paths: "/elsewhere/a"\n')
    assert checkpoint.latest(str(tmp_path / 'new')) == str(tmp_path / 'new' / 'a')


def test_latest_without_state_file_is_the_newest_index(tmp_path):
    write(tmp_path, 'Epoch_(0)_(1of2).ckpt', x=1.)
    (tmp_path / 'checkpoint').unlink()
    assert checkpoint.latest(str(tmp_path)) == str(tmp_path / 'Epoch_(0)_(1of2).ckpt')


def test_misfits_are_listed(tmp_path):
    """Fault 4: the published code starts anew without a word."""
    path = write(tmp_path, same=1., reshaped=[1., 2.], surplus=3.)
    with tf.Graph().as_default(), utils.session() as session:
        with tf.variable_scope('net'):
            variables = [tf.get_variable('same', []), tf.get_variable('reshaped', [3]),
                         tf.get_variable('lacking', [])]
        with pytest.raises(UserError) as error:
            checkpoint.restore(session, path, variables)
    message = str(error.value)
    assert '1 missing (net/lacking)' in message
    assert '1 unexpected (net/surplus)' in message
    assert '1 reshaped (net/reshaped [2] instead of [3])' in message


def test_a_part_of_a_checkpoint(tmp_path):
    path = write(tmp_path, x=1., y=2.)
    with tf.Graph().as_default(), utils.session() as session:
        with tf.variable_scope('net'):
            x = tf.get_variable('x', [])
        checkpoint.restore(session, path, [x], scopes=('other',))
        assert session.run(x) == 1
        with pytest.raises(UserError, match=r'1 unexpected \(net/y\)'):
            checkpoint.restore(session, path, [x], scopes=('net',))


def test_slots_may_be_absent_but_not_silently(tmp_path, capfd):
    path = write(tmp_path, x=1.)
    with tf.Graph().as_default(), utils.session() as session:
        with tf.variable_scope('net'):
            x = tf.get_variable('x', [])
            slot = tf.get_variable('x/Adam', initializer=7.)
        session.run(tf.global_variables_initializer())
        checkpoint.restore(session, path, [x, slot])
        assert session.run([x, slot]) == [1, 7]
    warning = capfd.readouterr().err
    assert 'lacks 1 variables of optimizers, which start anew (net/x/Adam)' in warning


def test_optimizer_slots_are_no_surplus_for_a_part(tmp_path):
    with tf.Graph().as_default(), utils.session() as session:
        with tf.variable_scope('net'):
            x = tf.get_variable('x', [])
        tf.train.AdamOptimizer().minimize(x * x)
        session.run(tf.global_variables_initializer())
        path = checkpoint.Checkpoints(str(tmp_path), 1).save(session, 'a')
        checkpoint.restore(session, path, [x], scopes=('net',))


def test_older_checkpoints_are_deleted(tmp_path):
    with tf.Graph().as_default(), utils.session() as session:
        tf.get_variable('x', [])
        checkpoints = checkpoint.Checkpoints(str(tmp_path), keep=2)
        session.run(tf.global_variables_initializer())
        for name in 'abc':
            checkpoints.save(session, name)
    assert sorted(path.name for path in tmp_path.glob('*.index')) == ['b.index', 'c.index']


def test_fingerprint_tells_weights_apart(tmp_path):
    paths = [write(tmp_path / str(number), x=float(number)) for number in (1, 2)]
    again = write(tmp_path / 'again', x=1.)
    marks = [checkpoint.fingerprint(path) for path in [*paths, again]]
    assert marks[0] == marks[2] != marks[1]
