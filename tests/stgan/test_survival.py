"""Runs that survive: resuming, rolling back, stopping, broken disks."""

import dataclasses
import functools
import os
import resource
import signal
import subprocess
import time

import pytest

from pylib import FolderLock, Interrupted, NotFinite, RunFailed, UserError, read_json_lines
from scripts.bench import chaos
from stgan import data, loop, training
from stgan.celeba import CelebA
from stgan.config import RunConfig
from stgan.loop import Rollbacks
from tflib import checkpoint, tf

# Two layers each way: quick to build, with all parts of a training. Four iterations an epoch.
CONFIG = RunConfig(img_size=32, enc_layers=2, dec_layers=2, stu_layers=1, dis_layers=2,
                   shortcut_layers=1, inject_layers=1, stu_inject_layers=1, enc_dim=2, dec_dim=2,
                   stu_dim=2, dis_dim=2, dis_fc_dim=4, atts=('Male', 'Young'), batch_size=4, n_d=2,
                   epoch=2, lr=.002, n_sample=1, device='cpu', threads=2, experiment_name='run',
                   save_freq=2, log_images=True)


@pytest.fixture
def config(tmp_path, monkeypatch, toy_data):
    monkeypatch.chdir(tmp_path)
    return dataclasses.replace(CONFIG, dataroot=str(toy_data))


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory, toy_data):
    """Function from options to the folder of a run that nobody disturbed."""
    folders = {}

    def folder(**changes):
        key = tuple(changes.items())
        if key not in folders:
            path, previous = tmp_path_factory.mktemp('whole'), os.getcwd()
            os.chdir(str(path))
            try:
                training.train(dataclasses.replace(CONFIG, dataroot=str(toy_data), **changes))
            finally:
                os.chdir(previous)
            folders[key] = str(path / 'output' / 'run')
        return folders[key]
    return folder


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run is tidied up by its own code."""


def on_update(monkeypatch, number, act):
    """Call `act(values)` after update `number` (from 1) of the runs in this test, once."""
    run_update, calls = loop._Run._run_update, []

    def update(*arguments):
        values, images = run_update(*arguments)
        calls.append(1)
        return (act(values) or values if len(calls) == number else values), images
    monkeypatch.setattr(loop._Run, '_run_update', update)


def kill(values):
    raise Killed


def terminate(values):
    os.kill(os.getpid(), signal.SIGTERM)


def grids(folder):
    samples = os.path.join(folder, 'sample_training')
    return {name: open(os.path.join(samples, name), 'rb').read() for name in os.listdir(samples)}


def require_equal(folder, other):
    """Weights, optimizer state, loss scales, counter, log, sample grids: no tolerance."""
    assert chaos.require_equal(str(folder), str(other)) > 20
    assert grids(str(folder)) == grids(str(other))


@pytest.mark.parametrize('update, act', [
    pytest.param(3, terminate, marks=pytest.mark.slow),
    pytest.param(12, terminate, marks=pytest.mark.slow),
    pytest.param(15, terminate, marks=pytest.mark.slow),
    pytest.param(4, terminate, marks=pytest.mark.slow), (5, kill)],
    ids=['within an epoch', 'epoch end', 'one later', 'between D updates', 'between D and G'])
def test_bitwise_resume(config, monkeypatch, uninterrupted, update, act):
    """Updates 3k are those of G, iterations 4k the ends of epochs."""
    on_update(monkeypatch, update, act)
    with pytest.raises(Interrupted if act == terminate else Killed) as stopped:
        training.train(config)
    if act == terminate:
        assert stopped.value.exit_status == 143
        assert f'after iteration {-(-update // 3)} of 8' in str(stopped.value)
    training.train(config)
    require_equal(config.folder, uninterrupted())


@pytest.mark.slow
def test_resume_elsewhere_in_the_data_differs(config, monkeypatch, uninterrupted):
    """The negative control of bitwise resume."""
    training.train(dataclasses.replace(config, epoch=1))
    seek = data.TrainingBatches.seek
    monkeypatch.setattr(data.TrainingBatches, 'seek',
                        lambda batches, session, number: seek(batches, session, 0))
    training.train(config)
    with pytest.raises(RunFailed, match='variables differ'):
        chaos.require_equal(config.folder, uninterrupted())


@pytest.mark.slow
@pytest.mark.skipif(tf.__version__.startswith('1.'), reason='no 16 bits on the CPU')
def test_mixed_precision_resumes_exactly(config, monkeypatch, uninterrupted):
    config = dataclasses.replace(config, precision='mixed', loss_scale=2. ** 20)
    on_update(monkeypatch, 10, kill)
    with pytest.raises(Killed):
        training.train(config)
    training.train(config)
    require_equal(config.folder, uninterrupted(precision='mixed', loss_scale=2. ** 20))
    assert 'd_loss_scale' in read_json_lines(os.path.join(config.folder, 'metrics.jsonl'))[-1]


@pytest.mark.slow
def test_a_report_lost_between_checkpoint_and_sample_is_made_up_for(
        config, monkeypatch, uninterrupted):
    write = training.SampleGrid.write
    monkeypatch.setattr(training.SampleGrid, 'write', lambda *arguments: kill(None))
    with pytest.raises(Killed):
        training.train(config)
    monkeypatch.setattr(training.SampleGrid, 'write', write)
    training.train(config)
    require_equal(config.folder, uninterrupted())


def test_every_image_is_used_once_a_pass(uninterrupted, toy_data):
    """By what the graph says it used; scripts/bench/chaos.py does it across kills."""
    images = CelebA(str(toy_data)).part('train') + 1
    assert chaos.require_once_a_pass(uninterrupted(), images) == 1
    with pytest.raises(RunFailed, match='an image was used twice in pass 0'):
        chaos.require_once_a_pass(uninterrupted(), images[1:])


def infinite(values):
    return dict(values, d_loss=float('inf'))


@pytest.mark.slow
def test_rollback_takes_another_order_and_resumes_exactly(config, monkeypatch, capfd, toy_data):
    config, run_update = dataclasses.replace(config, on_nan='rollback'), loop._Run._run_update
    on_update(monkeypatch, 13, infinite)    # D in iteration 5; saved were 2 and 4
    training.train(config)
    err = capfd.readouterr().err
    assert 'warning: iteration 5: d_loss not finite' in err and 'Epoch_(0)_(4of4).ckpt' in err
    assert 'rollback 1 of 3' in err
    assert Rollbacks(config.folder, 'stop').iterations == [4]
    log = read_json_lines(os.path.join(config.folder, 'metrics.jsonl'))
    assert [record['iteration'] for record in log] == list(range(1, 9))
    images = CelebA(str(toy_data)).part('train') + 1
    assert chaos.require_once_a_pass(config.folder, images) == 1
    # The same again, and killed after the rollback.
    again = dataclasses.replace(config, experiment_name='again')
    monkeypatch.setattr(loop._Run, '_run_update', run_update)
    on_update(monkeypatch, 13, infinite)
    on_update(monkeypatch, 20, kill)
    with pytest.raises(Killed):
        training.train(again)
    training.train(again)
    require_equal(again.folder, config.folder)


def test_three_rollbacks_at_most(tmp_path, capfd):
    rollbacks, error = Rollbacks(str(tmp_path), 'rollback'), NotFinite('iteration 5: gp not finite')
    for number in range(3):
        rollbacks.allow(error)
        rollbacks.add(number, error)
    with pytest.raises(NotFinite, match='gp not finite; stopped after 3 rollbacks'):
        Rollbacks(str(tmp_path), 'rollback').allow(error)
    with pytest.raises(NotFinite, match='--on_nan rollback goes on'):
        Rollbacks(str(tmp_path), 'stop').allow(error)
    for text in ('{"rollbacks": [{}]}', '{"rollbacks": 3}', '{}'):
        (tmp_path / 'rollbacks.json').write_text(text)
        with pytest.raises(UserError, match='rollbacks.json: damaged'):
            Rollbacks(str(tmp_path), 'stop')


@pytest.mark.slow
def test_time_limit_and_checkpoints_for_good(config, uninterrupted):
    """Clock jumps do not count: the limit and the log use the monotonic clock."""
    with pytest.raises(Interrupted, match='time limit: stopped and saved after iteration 1 of 8') \
            as stopped:
        training.train(dataclasses.replace(config, time_limit=1e-6))
    assert stopped.value.exit_status == 143
    training.train(dataclasses.replace(config, keep_every=1, save_freq=1))
    require_equal(config.folder, uninterrupted())
    names = sorted(name for name in os.listdir(os.path.join(config.folder, 'checkpoints'))
                   if name.endswith('.index'))
    assert names == [f'Epoch_({epoch})_({iteration}of4).ckpt.index'
                     for epoch, iteration in ((0, 4), (1, 2), (1, 3), (1, 4))]


@pytest.mark.slow
def test_clock_jumps_do_not_matter(config, monkeypatch, uninterrupted):
    """Times of day go backwards by a year with every look at the clock."""
    now = [2e9]

    def jumping():
        now[0] -= 3e7
        return now[0]
    monkeypatch.setattr(time, 'time', jumping)
    on_update(monkeypatch, 10, kill)
    with pytest.raises(Killed):
        training.train(config)
    folder = os.path.join(config.folder, 'checkpoints')
    for age, name in enumerate(sorted(os.listdir(folder))):    # newer files look older
        os.utime(os.path.join(folder, name), (1e9 - 1e6 * age, 1e9 - 1e6 * age))
    os.unlink(os.path.join(folder, 'checkpoint'))
    assert checkpoint.latest(folder).endswith('Epoch_(0)_(2of4).ckpt')
    training.train(config)
    require_equal(config.folder, uninterrupted())
    assert all(record['seconds'] >= 0 for record in
               read_json_lines(os.path.join(config.folder, 'metrics.jsonl')))


@pytest.mark.slow
def test_a_vanished_data_folder_is_named(config, monkeypatch, tmp_path, toy_data):
    os.symlink(str(toy_data), str(tmp_path / 'data'))
    on_update(monkeypatch, 8, lambda values: os.unlink(str(tmp_path / 'data')))
    monkeypatch.setattr(data.tf.data.Dataset, 'prefetch', lambda dataset, count: dataset)
    with pytest.raises(RunFailed, match='img_align_celeba: the image folder is gone'):
        training.train(dataclasses.replace(config, dataroot=str(tmp_path / 'data'), epoch=50))
    assert checkpoint.latest(os.path.join(config.folder, 'checkpoints'))


def test_two_trainings_do_not_share_a_folder(config):
    owner = f'{config.folder}: in use by process {os.getpid()} on '
    with FolderLock(config.folder), pytest.raises(UserError, match=owner):
        training.train(config)
    assert not os.path.exists(config.folder)    # made for the lock, and nothing was written


def limit_files(size):
    """Let this process write files up to so many bytes: a disk that is full, without a disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def with_limited_files(test):
    """Decorate a test that calls `limit_files`: pytest's own output may be a file, too."""
    @functools.wraps(test)
    def run(*args, **kwargs):
        try:
            test(*args, **kwargs)
        finally:
            limit_files(resource.RLIM_INFINITY)
    return run


def snapshot(folder):
    return {name: open(os.path.join(folder, name), 'rb').read() for name in os.listdir(folder)}


@with_limited_files
def test_a_full_disk_keeps_the_old_checkpoint(config, monkeypatch, uninterrupted):
    """The save after iteration 4 fails; with space again the same command goes on."""
    folder, before = os.path.join(config.folder, 'checkpoints'), {}

    def fill(values):
        before.update(snapshot(folder))
        limit_files(8000)
    on_update(monkeypatch, 10, fill)
    with pytest.raises(RunFailed) as failed:
        training.train(config)
    limit_files(resource.RLIM_INFINITY)
    assert failed.value.exit_status == 1
    message = str(failed.value)
    assert 'Epoch_(0)_(4of4).ckpt: could not be saved (' in message and 'File too large' in message
    assert message.endswith('goes on from output/run/checkpoints/Epoch_(0)_(2of4).ckpt')
    assert snapshot(folder) == before
    training.train(config)
    require_equal(config.folder, uninterrupted())


@with_limited_files
def test_a_log_that_cannot_be_written_is_named(config, monkeypatch):
    on_update(monkeypatch, 10, lambda values: limit_files(500))
    with pytest.raises(RunFailed, match='run/metrics.jsonl: could not be written .File too large'):
        training.train(config)


def fault(kind, text):
    def raise_it(values):
        raise kind(None, None, text)
    return raise_it


@pytest.mark.slow
@pytest.mark.parametrize('kind, said', [
    (tf.errors.ResourceExhaustedError, 'iteration 4: out of memory (OOM when allocating); lower '
     '--batch_size, in another folder; the last good checkpoint is '),
    (tf.errors.InternalError, 'iteration 4: TensorFlow failed (OOM when allocating); the last good '
     'checkpoint is ')],
    ids=['memory', 'another'])
def test_an_error_of_tensorflow_ends_in_one_line(config, monkeypatch, uninterrupted, kind, said):
    on_update(monkeypatch, 10, fault(kind, 'OOM when allocating\n\t [[node x]]'))
    with pytest.raises(RunFailed) as failed:
        training.train(config)
    assert failed.value.exit_status == 1
    assert str(failed.value).startswith(
        f'{said}output/run/checkpoints/Epoch_(0)_(2of4).ckpt')
    training.train(config)
    require_equal(config.folder, uninterrupted())


@pytest.mark.slow
def test_less_memory_after_a_first_iteration_that_took_too_much(config, monkeypatch):
    """Nothing has been trained, so that the folder holds no run with another batch size."""
    on_update(monkeypatch, 1, fault(tf.errors.ResourceExhaustedError, 'OOM'))
    with pytest.raises(RunFailed, match='; lower --batch_size; the last good checkpoint is none'):
        training.train(config)
    training.train(dataclasses.replace(config, batch_size=2, epoch=1))
    with pytest.raises(UserError, match='--batch_size: 2 so far, now 4'):
        training.train(config)


def unreadable(monkeypatch, times):
    """Let reading batch 7 fail, as a network does, so many times."""
    descriptions, failures = data.TrainingBatches._descriptions, [None] * times

    def failing(batches):
        for description in descriptions(batches):
            if description[3][0] == 7 and failures:
                failures.pop()
                raise OSError('Stale file handle')
            yield description
    monkeypatch.setattr(data.TrainingBatches, '_descriptions', failing)


def test_a_batch_that_cannot_be_read_is_read_again(config, monkeypatch, capfd, uninterrupted):
    unreadable(monkeypatch, 1)
    training.train(config)
    err = capfd.readouterr().err
    assert err.count('warning: batch 7 could not be read (') == 1
    require_equal(config.folder, uninterrupted())


@pytest.mark.slow
def test_a_batch_that_can_never_be_read_ends_the_run(config, monkeypatch):
    unreadable(monkeypatch, 9)
    with pytest.raises(RunFailed, match=r'^iteration 3: TensorFlow failed \(.*Epoch_.0._.2of4'):
        training.train(config)


@pytest.mark.slow
@pytest.mark.skipif(tf.__version__.startswith('1.'), reason='no 16 bits on the CPU')
def test_updates_skipped_before_a_resume_excuse_no_loss_after_it(config, monkeypatch):
    config = dataclasses.replace(config, precision='mixed')
    training.train(dataclasses.replace(config, epoch=1))
    folder = os.path.join(config.folder, 'checkpoints')
    with checkpoint.reader(checkpoint.latest(folder)) as reader:
        values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    values['loss_scale/d/skipped'] += 3
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in values.items():
            tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        checkpoint.Checkpoints(folder, 2).save(session, 'Epoch_(0)_(4of4).ckpt')
    on_update(monkeypatch, 1, infinite)
    with pytest.raises(NotFinite, match='iteration 5: d_loss not finite'):
        training.train(config)


def test_skipped_updates_may_have_infinite_losses():
    overflows = loop.Overflows({'d_skipped': 3})
    overflows.check({'d_loss': float('nan'), 'd_skipped': 4.}, 1, 'nowhere')
    with pytest.raises(NotFinite):
        overflows.check({'d_loss': float('nan'), 'd_skipped': 4.}, 1, 'nowhere')


@pytest.mark.slow
@pytest.mark.parametrize('name', ["a[1] b's", '-[a]\\'])
def test_any_name_of_an_experiment(config, capfd, tmp_path, run, name):
    """Trained, resumed, edited by the command that is printed, exported, begun with."""
    if '\\' in name:
        config = dataclasses.replace(config, experiment_name='x')
        os.makedirs('output')
        os.makedirs(os.path.join('elsewhere', name))
        os.symlink(os.path.abspath(os.path.join('elsewhere', name)), 'output/x')
    else:
        config = dataclasses.replace(config, experiment_name=name)
    training.train(dataclasses.replace(config, epoch=1))
    training.train(config)
    command = capfd.readouterr().out.partition('; next: ')[2].splitlines()[0]
    done = subprocess.run(['bash', '-c', command + ' --img 60'], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert os.path.exists(os.path.join(config.folder, 'sample_testing', '000060.png'))
    done = run('scripts/export.py', f'--experiment_name={config.experiment_name}')
    assert done.status == 0, done.err
    other = dataclasses.replace(config, experiment_name='other', epoch=1,
                                init_checkpoint=os.path.realpath(config.folder))
    training.train(other)
    assert 'damaged' not in capfd.readouterr().err
