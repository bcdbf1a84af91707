"""Training in both precisions, side by side, on a tiny model."""

import pytest

from pylib import read_json
from scripts.bench.compare_precision import has_older_sheets
from tflib import tf

CLASSIC = tf.__version__.startswith('1.')
TINY = ['--seeds', 3, '--rounds', 1, '--epoch', 1, '--train_image_num', 40, '--enc_dim', 2,
        '--dec_dim', 2, '--stu_dim', 2, '--dis_dim', 2, '--dis_fc_dim', 4]


@pytest.mark.slow
@pytest.mark.skipif(CLASSIC, reason='TensorFlow 1.15 has no 16-bit convolutions on CPUs')
def test_both_precisions_are_trained_and_measured(run, tmp_path, toy_data):
    done = run('scripts/bench/compare_precision.py', '--dataroot', toy_data, '--name', 'c', *TINY,
               '--device', 'cpu')
    assert done.status == 0, done.err
    figures = read_json(str(tmp_path / 'output' / 'c.json'))
    for precision in ('high', 'mixed'):
        setting = read_json(str(tmp_path / 'output' / f'c_{precision}_3' / 'setting.txt'))
        assert (setting['precision'], setting['seed'], setting['enc_dim']) == (precision, 3, 2)
        (measured,) = figures['runs'][precision]
        assert measured['psnr'] > 5 and 0 < measured['ssim'] < 1
        assert 0 <= measured['accuracy'] <= 1 and 0 <= measured['error'] <= 1
        assert figures['seconds_per_iteration'][precision] > 0
    for row in ('PSNR in dB', 'SSIM', 'attribute accuracy', 'training iterations/s'):
        assert row in done.out


@pytest.mark.skipif(not CLASSIC, reason='TensorFlow 2.x has 16-bit convolutions on CPUs')
def test_where_nothing_can_be_compared_nothing_is_trained(run, tmp_path, toy_data):
    done = run('scripts/bench/compare_precision.py', '--dataroot', toy_data, '--device', 'cpu')
    assert done.status == 2 and 'no 16-bit convolutions' in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name, is_older', [
    (None, False), ('Epoch_(2)_(4of4).ckpt', False), ('Epoch_(1)_(4of4).ckpt', True)])
def test_sheets_of_earlier_weights_are_noticed(workspace, monkeypatch, name, is_older):
    """Else test.py would refuse to go on after training did."""
    folder = workspace / 'output' / 'toy' / 'sample_testing'
    if name:
        folder.mkdir()
        (folder / 'sheet.json').write_text(f'{{"checkpoint": "{name}"}}')
    monkeypatch.chdir(workspace)
    assert has_older_sheets('toy') is is_older


@pytest.mark.parametrize('flags, complaint', [
    (['--rounds', 0], '--rounds 0: expected at least 1'),
    (['--name', '../x'], '--name ../x: expected a name, no path'),
    (['--device', 'npu'], 'invalid choice'),
])
def test_bad_input(run, tmp_path, toy_data, flags, complaint):
    done = run('scripts/bench/compare_precision.py', '--dataroot', toy_data, *flags)
    assert done.status == 2 and complaint in done.err
    assert not list(tmp_path.iterdir())
