"""What experiment folders say of their training."""

import json
import os
import time

import pytest
from pages import make_experiment

from pylib import UserError
from stgan import watching


@pytest.fixture
def folder(tmp_path):
    make_experiment(tmp_path / 'output' / 'toy')
    return tmp_path / 'output'


def append(path, *iterations, **values):
    with open(str(path), 'a') as stream:
        for iteration in iterations:
            stream.write(json.dumps({'iteration': iteration, **values}) + '\n')


def test_state_of_a_training(folder):
    state = watching.Watcher(str(folder)).state('toy')
    # Of golden/current_run: 14 iterations an epoch.
    assert state['total'] == 14 * state['epochs'] and state['iteration'] == 60
    assert state['seconds'] == .5 and state['skipped'] == 1
    assert state['remaining'] == round(.5 * (state['total'] - 60))
    assert state['samples'] == ['Epoch_(0)_(7of14).jpg', 'Epoch_(3)_(14of14).jpg']
    (kept,) = state['checkpoints']
    assert kept['name'] == 'Epoch_(3)_(14of14).ckpt' and kept['megabytes'] >= 0
    assert state['series']['g_loss'][:2] == [[1, 100.], [2, 50.]]
    assert state['series']['gp'][2] == [3, None]    # NaN, which JSON has not
    json.dumps(state, allow_nan=False)


def test_a_training_is_followed(folder):
    path, watcher = folder / 'toy' / 'metrics.jsonl', watching.Watcher(str(folder))
    watcher.state('toy')
    append(path, 61, 62, g_loss=7.)
    with open(str(path), 'a') as stream:
        stream.write('{"iteration": 63, "g_lo')    # being written
    state = watcher.state('toy')
    assert state['iteration'] == 62 and state['series']['g_loss'][-1] == [62, 7.]
    with open(str(path), 'a') as stream:
        stream.write('ss": 9}\n')
    assert watcher.state('toy')['series']['g_loss'][-1] == [63, 9.]


def test_a_training_that_went_back_is_read_anew(folder):
    path, watcher = folder / 'toy' / 'metrics.jsonl', watching.Watcher(str(folder))
    watcher.state('toy')
    lines = path.read_text().splitlines(True)
    path.write_text(''.join(lines[:20]))
    append(path, *range(21, 320), g_loss=1.)    # more than there was
    state = watcher.state('toy')
    assert state['iteration'] == 319
    assert state['series']['g_loss'][20:] == [[i, 1.] for i in range(21, 320)]


def test_long_trainings_become_means(folder, monkeypatch):
    monkeypatch.setattr(watching, 'MOST_POINTS', 10)
    path = folder / 'toy' / 'metrics.jsonl'
    path.write_text('')
    append(path, *range(1, 161), g_loss=0.)
    append(path, *range(161, 321), g_loss=10.)
    points = watching.Watcher(str(folder)).state('toy')['series']['g_loss']
    assert 10 <= len(points) <= 20 and points[-1][0] == 320
    assert {value for _, value in points} == {0., 10.}
    # Half of the iterations have each value, and so have half of the points.
    assert [value for _, value in points] == sorted(value for _, value in points)


def test_live_is_what_was_written_lately(folder):
    watcher, path = watching.Watcher(str(folder)), str(folder / 'toy' / 'metrics.jsonl')
    now = time.time()
    os.utime(path, (now, now))
    total = watcher.state('toy')['total']
    assert watcher.state('toy')['live'] == (total != 60)
    append(path, 61, seconds=.5)
    os.utime(path, (now - 600, now - 600))
    state = watcher.state('toy')
    assert not state['live'] and 590 < state['age'] < 700


def test_a_checkpoint_tells_the_iteration_where_the_log_does_not(folder):
    path = folder / 'toy' / 'metrics.jsonl'
    path.write_text('')
    append(path, 10, 50, lr=1)
    state = watching.Watcher(str(folder)).state('toy')
    assert state['iteration'] == state['total'] == 4 * 14 and not state['live']
    path.unlink()
    state = watching.Watcher(str(folder)).state('toy')
    assert state['iteration'] == 4 * 14 and not state['live']


def test_experiments_are_found_by_name_only(folder, tmp_path):
    make_experiment(tmp_path / 'elsewhere')
    (folder / 'nothing').mkdir()
    os.utime(str(folder / 'toy' / 'metrics.jsonl'), (1, 1))
    watcher = watching.Watcher(str(folder), [str(tmp_path / 'elsewhere')])
    assert watcher.names() == ['elsewhere', 'toy']    # the latest first
    for name in ('nothing', '..', '../elsewhere', str(folder / 'toy'), ''):
        with pytest.raises(UserError, match='no such experiment'):
            watcher.state(name)
    for file in ('../setting.txt', 'setting.txt', '', '..'):
        with pytest.raises(UserError, match='no such sample sheet'):
            watcher.sample('toy', file)
    assert os.path.exists(watcher.sample('toy', 'Epoch_(0)_(7of14).jpg'))


@pytest.mark.parametrize('line', [
    '{"iteration": 61, "seconds": NaN, "d_skipped": Infinity, "epoch": NaN, "gp": 1e308}',
    '{"iteration": 1e999}', '{"iteration": "61"}', '{"iteration": 61, "lr": 1' + '0' * 400 + '}',
    '{"iteration": [61]}', '[61]', '{"epoch": 1}'])
def test_damaged_records_do_no_harm(folder, line):
    with open(str(folder / 'toy' / 'metrics.jsonl'), 'a') as stream:
        stream.write(line + '\n')
    append(folder / 'toy' / 'metrics.jsonl', 62)
    state = watching.Watcher(str(folder)).state('toy')
    assert state['iteration'] in (60, 62) and state['seconds'] == .5
    assert all(point[1] is None or point[1] < 1e3 for point in state['series']['gp'])
    json.dumps(state, allow_nan=False)


def test_files_that_vanish_do_no_harm(folder):
    before = watching.Watcher(str(folder)).state('toy')
    os.symlink('gone', str(folder / 'toy' / 'checkpoints' / 'Epoch_(1)_(1of14).ckpt.index'))
    os.symlink('gone', str(folder / 'toy' / 'sample_training' / 'Epoch_(1)_(1of14).jpg'))
    (folder / 'toy' / 'sample_training' / 'folder.png').mkdir()
    after = watching.Watcher(str(folder)).state('toy')
    assert [after[name] for name in ('samples', 'checkpoints')] == [
        before[name] for name in ('samples', 'checkpoints')]


def test_a_training_that_has_just_begun(folder):
    for name in ('metrics.jsonl', 'sample_training', 'checkpoints'):
        os.rename(str(folder / 'toy' / name), str(folder / name))
    state = watching.Watcher(str(folder)).state('toy')
    assert state['iteration'] == 0 and not state['live'] and state['remaining'] is None
    assert watching.Watcher(str(folder / 'missing')).names() == []
