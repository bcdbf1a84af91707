"""The benchmark on a tiny model: every part measures both ways and finds them equal."""

import pytest

from pylib import RunFailed, read_json
from scripts.bench import plain

TINY = ['--dim', 2, '--img_size', 32, '--rounds', 1, '--batch_sizes', 2, '--sheets', 20,
        '--images', 2, '--epochs', 1]


@pytest.mark.slow
def test_every_part_measures_both_ways(run, tmp_path):
    done = run('scripts/bench/benchmark.py', *TINY, '--output', 'speed.json')
    assert done.status == 0, done.err
    report = read_json(str(tmp_path / 'speed.json'))
    assert report['tensorflow'] and report['threads'] >= 1 and report['peak']['float32'] > 1
    rows = {row['what']: row for row in report['rows']}
    assert len(rows) == len(report['rows']) == 11 + len({1, report['threads']})
    for row in rows.values():
        assert row['plain'] > 0 and row['fast'] > 0 and row['ratio'] > 0
    # Edits and measures are compared, too.
    compared = [row['difference'] for row in rows.values() if 'difference' in row]
    assert len(compared) == 5 and max(compared) < 1e-5
    assert rows['edit, batch 32, high']['of peak'] > 0
    assert rows['test.py on 2 images, memory']['unit'] == 'MB'
    assert 'test.py on 2 images, memory' in done.out and 'matrix product' in done.out
    assert [path.name for path in tmp_path.iterdir()] == ['speed.json']


@pytest.mark.slow
def test_results_are_printed_as_they_come(run, monkeypatch):
    def fail(folder):
        raise RunFailed('the second part fails')
    monkeypatch.setattr(plain, 'measure_folder', fail)
    done = run('scripts/bench/benchmark.py', 'data', 'metrics', *TINY)
    assert done.status == 1 and done.err.endswith('error: the second part fails\n')
    assert done.out.splitlines()[-1].startswith('decoding an image, ')


@pytest.mark.parametrize('flags, complaint', [
    (['foo'], 'foo: choose from edit sheet'),
    (['--rounds', 0], '--rounds 0: expected at least 1'),
    (['--sheets', 9], '--sheets 9: expected at least 10'),
    (['--img_size', 100], '--img_size 100: not divisible'),
])
def test_bad_input(run, tmp_path, flags, complaint):
    done = run('scripts/bench/benchmark.py', *flags)
    assert done.status == 2 and complaint in done.err
    assert not list(tmp_path.iterdir())
