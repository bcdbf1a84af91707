"""A short chaos run, and the checks at its end."""

import random

import pytest
from conftest import run_cli

from pylib import RunFailed, read_json, write_text
from scripts.bench import chaos


@pytest.mark.slow
def test_two_rounds(tmp_path):
    """Runs go on bit for bit under SIGKILL, SIGTERM and damage; 50 rounds by default."""
    done = run_cli('scripts/bench/chaos.py', '--folder', 'chaos', '--rounds', 2, '--seed', 6,
                   cwd=tmp_path)
    assert done.status == 0, done.err
    report = read_json(str(tmp_path / 'chaos' / 'report.json'))
    assert report['equal_variables'] > 50 and report['passes'] >= 1
    assert sum(count for name, count in report.items()
               if name.startswith(('SIG', 'ended'))) == 2
    done = run_cli('scripts/bench/chaos.py', '--folder', 'chaos', cwd=tmp_path)
    assert done.status == 2
    assert done.err.endswith('error: --folder chaos: exists; name another\n')


@pytest.mark.slow
def test_rounds_of_two_workers(tmp_path):
    """Whichever of them is ended, all end, and go on bit for bit."""
    done = run_cli('scripts/bench/chaos.py', '--folder', 'chaos', '--rounds', 2, '--seed', 1,
                   '--workers', 2, cwd=tmp_path)
    assert done.status == 0, done.err
    report = read_json(str(tmp_path / 'chaos' / 'report.json'))
    assert report['equal_variables'] > 50 and report['passes'] >= 1
    assert read_json(str(tmp_path / 'chaos' / 'output' / 'disturbed' / 'workers.json')) == {
        'changes': [{'iteration': 0, 'workers': 2}]}


@pytest.mark.parametrize('how', ['cut', 'zero', 'remove'])
def test_damage_is_done(tmp_path, how):
    path = tmp_path / 'x'
    path.write_bytes(b'12345678')
    chaos.damage(str(path), how, random.Random(0))
    assert not path.exists() if how == 'remove' else path.read_bytes() != b'12345678'


@pytest.mark.parametrize('batches, fault', [
    ('[[1, 2], [3, 1]]', None), ('[[1, 2], [2, 3]]', 'pass 0'), ('[[1, 2], [3, 1], [1, 2]]',
                                                                'pass 1'),
    ('[[1, 2], [4, 3]]', 'pass 0')])
def test_images_are_counted_by_pass(tmp_path, batches, fault):
    write_text(str(tmp_path / 'metrics.jsonl'), f'{{"images": {batches}}}\n')
    if fault is None:
        assert chaos.require_once_a_pass(str(tmp_path), [1, 2, 3]) == 1
        return
    with pytest.raises(RunFailed, match=f'an image was used twice in {fault}'):
        chaos.require_once_a_pass(str(tmp_path), [1, 2, 3])
