"""The benchmark on a tiny model: every part measures both ways and finds them equal."""

import pytest

from pylib import RunFailed, read_json
from scripts.bench import plain
from stgan import data
from stgan.config import RunConfig
from stgan.graph import build
from tflib import tf

TINY = ['--dim', 2, '--img_size', 32, '--rounds', 1, '--batch_sizes', 2, '--sheets', 20,
        '--images', 2, '--epochs', 1]


@pytest.mark.slow
def test_workers_exchange_what_their_gradients_take(run, tmp_path):
    """Counted independently: n_d times D's weights and once G's, in a ring of three."""
    done = run('scripts/bench/benchmark.py', 'scale', *TINY, '--workers', 1, 3, '--output',
               'scale.json')
    assert done.status == 0, done.err
    assert 'Traceback' not in done.err
    alone, three = read_json(str(tmp_path / 'scale.json'))['rows']
    with tf.Graph().as_default():
        batch = data.Batch(tf.zeros([2, 32, 32, 3]), *[tf.zeros([2, 13], tf.int64)] * 2,
                           tf.zeros([], tf.int64))
        build(RunConfig(experiment_name='x', img_size=32, batch_size=2, enc_dim=2, dec_dim=2,
                        stu_dim=2, dis_dim=2), batch)
        sizes = [(v.op.name[0], v.shape.num_elements()) for v in tf.trainable_variables()]
    values = sum(size * (5 if scope == 'D' else 1) for scope, size in sizes)
    assert alone['bytes'] == 0 and three['bytes'] == values * 4 * 2 * 2 // 3
    assert alone['what'].startswith('images, 1 x batch 2')
    assert three['fast'] > 0 and three['share'] < 1
    assert alone['exchange'] == 0 < three['exchange']
    assert three['without overlap'] < three['plain']


@pytest.mark.slow
def test_every_part_measures_both_ways(run, tmp_path):
    done = run('scripts/bench/benchmark.py', *TINY, '--output', 'speed.json')
    assert done.status == 0, done.err
    report = read_json(str(tmp_path / 'speed.json'))
    assert report['tensorflow'] and report['threads'] >= 1 and report['peak']['float32'] > 1
    rows = {row['what']: row for row in report['rows']}
    assert len(rows) == len(report['rows']) == 13 + len({1, report['threads']})
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
    (['--workers', 0], '--workers 0: expected at least 1'),
    (['--sheets', 9], '--sheets 9: expected at least 10'),
    (['--img_size', 100], '--img_size 100: not divisible'),
])
def test_bad_input(run, tmp_path, flags, complaint):
    done = run('scripts/bench/benchmark.py', *flags)
    assert done.status == 2 and complaint in done.err
    assert not list(tmp_path.iterdir())
