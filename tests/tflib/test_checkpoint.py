"""Checkpoints: found, checked, restored, refused."""

import os
import shutil
import tempfile

import pytest
from conftest import ROOT

from pylib import RunFailed, UserError
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
    """Where the published code starts anew without a word."""
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


def saved(folder, *names, keep=2, is_kept_for_good=None):
    """Save checkpoints that hold x = 1, 2, ... and so many iterations."""
    with tf.Graph().as_default(), utils.session() as session:
        x, counter = tf.get_variable('x', [50], tf.float32, tf.zeros_initializer()), (
            utils.iteration_counter())
        checkpoints = checkpoint.Checkpoints(str(folder), keep, is_kept_for_good)
        session.run(tf.global_variables_initializer())
        if checkpoint.latest(str(folder)):
            checkpoints.restore(session, checkpoint.latest(str(folder)))
        for name in names:
            session.run([x.assign_add([1.] * 50), counter.assign_add(1)])
            checkpoints.save(session, name)
        return session.run(counter)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize('change', [cut, zero, type(ROOT).unlink],
                         ids=['cut', 'zeroed', 'missing'])
@pytest.mark.parametrize('part', ['.index', '.data-00000-of-00001'])
def test_a_damaged_newest_one_is_skipped_and_named(tmp_path, capfd, change, part):
    saved(tmp_path, 'a', 'b')
    change(tmp_path / ('b' + part))
    assert checkpoint.latest(str(tmp_path)) == str(tmp_path / 'a')
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith(f'warning: {tmp_path / "b"}: damaged checkpoint (')
    assert warning.endswith(f'taking the one before, {tmp_path / "a"}')
    # The damaged one goes first, so that two sound ones are kept.
    assert saved(tmp_path, 'c') == 2
    assert sorted(path.name for path in tmp_path.glob('*.index')) == ['a.index', 'c.index']
    assert not list(tmp_path.glob('b.*'))


@pytest.mark.parametrize('change', [cut, zero, type(ROOT).unlink],
                         ids=['cut', 'zeroed', 'missing'])
def test_a_damaged_state_file_does_not_matter(tmp_path, change):
    saved(tmp_path, 'a', 'b')
    change(tmp_path / 'checkpoint')
    assert checkpoint.latest(str(tmp_path)) == str(tmp_path / 'b')
    assert saved(tmp_path, 'c') == 3
    assert checkpoint.latest(str(tmp_path)) == str(tmp_path / 'c')


def test_values_that_are_not_finite_count_as_damage(tmp_path):
    """The published code saves the weights of a run that has failed."""
    write(tmp_path, 'good', x=1.)
    with tf.Graph().as_default(), utils.session() as session:
        x = tf.get_variable('net/x', initializer=float('nan'))
        session.run(tf.global_variables_initializer())
        tf.train.Saver([x]).save(session, str(tmp_path / 'bad'), write_meta_graph=False)
    assert checkpoint.damage(str(tmp_path / 'bad')) == '1 variables are not finite (net/x)'
    assert checkpoint.latest(str(tmp_path)) == str(tmp_path / 'good')


def test_without_a_sound_one_nothing_starts_anew(tmp_path):
    saved(tmp_path, 'a', 'b')
    for path in tmp_path.glob('*.index'):
        path.unlink()
    with pytest.raises(UserError, match='b: damaged checkpoint .*a: damaged checkpoint .*move '):
        checkpoint.latest(str(tmp_path))


def test_a_save_that_is_not_whole_is_not_published(tmp_path, monkeypatch):
    """What was written is read back."""
    saved(tmp_path, 'a')
    save = tf.train.Saver.save

    def broken(saver, session, path, **options):
        save(saver, session, path, **options)
        zero(type(tmp_path)(path + '.data-00000-of-00001'))
    monkeypatch.setattr(tf.train.Saver, 'save', broken)
    with pytest.raises(RunFailed, match='b: not saved, .*last good checkpoint is .*a$'):
        saved(tmp_path, 'b')
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'a.data-00000-of-00001', 'a.index', 'checkpoint']


def test_a_read_only_folder_is_named(read_only):
    with tf.Graph().as_default(), utils.session() as session:
        tf.get_variable('x', initializer=1.)
        checkpoints = checkpoint.Checkpoints(str(read_only), 2)
        session.run(tf.global_variables_initializer())
        with pytest.raises(RunFailed, match='b: could not be saved .*Permission denied'):
            checkpoints.save(session, 'b')
    assert not list(read_only.iterdir())


def test_some_are_kept_for_good(tmp_path):
    def is_upper(name):
        return name.isupper()
    saved(tmp_path, *'aBcd', is_kept_for_good=is_upper)
    saved(tmp_path, *'EfGhij', is_kept_for_good=is_upper)
    assert ''.join(sorted(path.stem for path in tmp_path.glob('*.index'))) == 'BEGij'


def test_old_ones_are_deleted_although_the_state_file_is_lost(tmp_path):
    saved(tmp_path, *'abM')
    (tmp_path / 'checkpoint').unlink()
    saved(tmp_path, *'cd', is_kept_for_good=lambda name: name == 'M')
    assert ''.join(sorted(path.stem for path in tmp_path.glob('*.index'))) == 'Mcd'


def recorded(monkeypatch, folder):
    """List that takes note, in order, of what is done to the files of a folder.

    Entries are ('sync', inode), ('replace', inode, name) and ('unlink', name).
    """
    calls, fsync, replace, unlink = [], os.fsync, os.replace, os.unlink
    monkeypatch.setattr(os, 'fsync', lambda handle: calls.append(
        ('sync', os.fstat(handle).st_ino)) or fsync(handle))
    monkeypatch.setattr(os, 'replace', lambda source, target: calls.append(
        ('replace', os.stat(source).st_ino, os.path.basename(target))) or replace(source, target))

    def unlinked(path, **options):
        if os.path.dirname(str(path)) == str(folder):
            calls.append(('unlink', os.path.basename(path)))
        unlink(path, **options)
    monkeypatch.setattr(os, 'unlink', unlinked)
    return calls


def test_files_are_published_in_an_order_that_no_power_cut_can_spoil(tmp_path, monkeypatch):
    """Names and contents may reach the disk late and in any order, but for what is synced."""
    saved(tmp_path, *'ab')
    calls = recorded(monkeypatch, tmp_path)
    saved(tmp_path, 'c')
    inodes = {name: (tmp_path / name).stat().st_ino for name in
              ('c.data-00000-of-00001', 'c.index', 'checkpoint', '.')}
    data, index = ('c.data-00000-of-00001', 'c.index')
    order = [('sync', inodes[data]), ('replace', inodes[data], data),
             ('sync', inodes[index]), ('replace', inodes[index], index), ('sync', inodes['.']),
             ('sync', inodes['checkpoint']), ('replace', inodes['checkpoint'], 'checkpoint'),
             ('unlink', 'a.index'), ('unlink', 'a.data-00000-of-00001')]
    assert [call for call in calls if call in order] == order
    # Nothing else touches a checkpoint's files.
    assert [call for call in calls if call[0] != 'sync'] == [
        call for call in order if call[0] != 'sync']


def test_an_index_never_stands_beside_data_of_another_save(tmp_path, monkeypatch):
    saved(tmp_path, *'ab')
    calls = recorded(monkeypatch, tmp_path)
    saved(tmp_path, 'b')    # a run that goes back saves under the same name again
    assert [(call[0], call[-1]) for call in calls if call[0] != 'sync'][:3] == [
        ('unlink', 'b.index'), ('replace', 'b.data-00000-of-00001'), ('replace', 'b.index')]


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


# TensorFlow's readers take [ ] and \\ for parts of a pattern; the others are there to be sure.
NAMES = ['a[1]', '[a]', 'base [copy]', 'a[!b]', 'a]b[', 'a\\b', 'a*b?', '{a,b}', 'a b', 'a\'"b',
         '-a', 'ä\u6f22']


@pytest.mark.parametrize('name', NAMES)
def test_any_name_of_a_folder_and_of_a_checkpoint(tmp_path, capfd, name):
    folder = tmp_path / name
    assert saved(folder, 'x', 'y') == 2
    assert saved(folder, 'z') == 3    # which resumes
    assert sorted(path.name for path in folder.iterdir()) == sorted([
        'checkpoint', *(f'{letter}.{kind}' for letter in 'yz'
                        for kind in ('index', 'data-00000-of-00001'))])
    for path in list(folder.glob('z.*')):
        path.rename(folder / path.name.replace('z', name, 1))
    path = str(folder / name)
    assert checkpoint.damage(path) is None
    assert checkpoint.variables_in(path) == {'x': [50], 'counter/counter': []}
    with tf.Graph().as_default(), utils.session() as session:
        assert session.run(checkpoint.tensors(path, ['x'])['x']).tolist() == [3] * 50
    with checkpoint.reader(path) as reader:
        assert reader.get_tensor('counter/counter') == 3
    assert 'damaged' not in capfd.readouterr().err
    # Damage is found as anywhere else.
    cut(folder / (name + '.data-00000-of-00001'))
    assert checkpoint.damage(path)
    assert 'damaged' not in (checkpoint.damage(str(folder / 'y')) or '')


def test_links_do_not_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'tmp'))
    (tmp_path / 'tmp').mkdir()
    saved(tmp_path / 'a[1]', 'x', 'y')
    assert checkpoint.latest(str(tmp_path / 'a[1]')) == str(tmp_path / 'a[1]' / 'y')
    assert not list((tmp_path / 'tmp').iterdir())


def test_impossible_names_are_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 't[1]'))
    (tmp_path / 't[1]').mkdir()
    with tf.Graph().as_default(), pytest.raises(UserError, match='unless TMPDIR names one'):
        tf.get_variable('x', [])
        checkpoint.Checkpoints(str(tmp_path / 'a[1]'), 2)


@pytest.mark.parametrize('meant', [
    'run/checkpoints/b', 'run/checkpoints/b.index', 'run/checkpoints/b.data-00000-of-00001',
    'run/checkpoints/b.meta', 'run/checkpoints', 'run/checkpoints/', 'run/checkpoints/checkpoint',
    'run', 'run/', 'run/checkpoints/a.index'])
def test_what_a_command_line_means(tmp_path, monkeypatch, meant):
    saved(tmp_path / 'run' / 'checkpoints', 'a', 'b')
    monkeypatch.chdir(tmp_path)
    name = 'a' if 'a.index' in meant else 'b'
    assert os.path.normpath(checkpoint.meant_by(meant, 'checkpoints')) == f'run/checkpoints/{name}'
    monkeypatch.chdir(tmp_path / 'run' / 'checkpoints')
    assert checkpoint.meant_by('checkpoint', 'checkpoints') == './b'
    assert checkpoint.meant_by('.', 'checkpoints') == './b'


@pytest.mark.parametrize('meant', ['nothing', 'empty', 'nothing.index', 'empty/checkpoint'])
def test_no_checkpoint_is_meant(tmp_path, meant):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=f'{meant}: no checkpoint; train first'):
        checkpoint.meant_by(str(tmp_path / meant), 'checkpoints')


@pytest.mark.parametrize('content', [b'{"img_size": 64}', b'', b'\xff\xd8\xff\xe0' * 50])
def test_other_files_are_no_checkpoints(tmp_path, content):
    (tmp_path / 'setting.txt').write_bytes(content)
    with pytest.raises(UserError, match='setting.txt: not a checkpoint; name one, one of its'):
        checkpoint.meant_by(str(tmp_path / 'setting.txt'), 'checkpoints')


def test_a_checkpoint_of_something_else_is_named(tmp_path):
    path = write(tmp_path, x=1.)
    with tf.Graph().as_default(), tf.variable_scope('other'):
        variables = [tf.get_variable('x', [])]
        with pytest.raises(UserError, match='holds net, of which this model has none .other.; it'):
            checkpoint.check_fits(path, variables)


STATES = {
    'Windows': (r'D:\\STGAN\\output\\128\\checkpoints\\{}', 'b'),
    'Windows, slashes': ('D:/STGAN/output/128/checkpoints/{}', 'b'),
    'another machine': ('/home/she/output/128/checkpoints/{}', 'b'),
    'never copied': ('/home/she/checkpoints/Epoch_(9)_(947of947).ckpt', None),
}


@pytest.mark.parametrize('state', STATES)
def test_the_state_file_of_another_machine(tmp_path, capfd, state):
    saved(tmp_path, 'a', 'b', 'c', keep=3)
    text, name = STATES[state]
    written = text.format(name)
    (tmp_path / 'checkpoint').write_text(f'model_checkpoint_path: "{written}"\n'
                                         f'all_model_checkpoint_paths: "{written}"\n')
    newest = str(tmp_path / (name or 'c'))
    assert checkpoint.require_newest(str(tmp_path)) == newest
    capfd.readouterr()
    assert checkpoint.latest(str(tmp_path)) == newest
    warnings = capfd.readouterr().err.splitlines()
    assert warnings == ([] if name else [
        f'warning: {tmp_path}/checkpoint: names Epoch_(9)_(947of947).ckpt, of which no file is '
        'there; the newest that is: c'])
    assert saved(tmp_path, 'd') == (4 if name is None else 3)
    assert checkpoint.latest(str(tmp_path)) == str(tmp_path / 'd')
