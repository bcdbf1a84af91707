"""PSNR and SSIM against their formulas, and of folders."""

import json
import os
import re
import shutil
import warnings

import numpy as np
import pytest
from conftest import run_cli
from skimage.metrics import structural_similarity

import imlib
from pylib import UserError, read_json
from scripts.bench import plain
from stgan import metrics, sheets


def noisy_pair(size=40):
    random = np.random.RandomState(1)
    image = random.randint(20, 200, [size, size, 3]).astype(np.uint8)
    return image, (image + random.randint(-9, 10, image.shape)).astype(np.uint8)


def test_psnr_is_the_formula():
    image, other = noisy_pair()
    error = np.mean((image.astype(float) - other) ** 2)
    assert metrics.psnr(image, other) == pytest.approx(10 * np.log10(255 ** 2 / error), abs=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter('error')    # of the division by an error of zero
        assert metrics.psnr(image, image) == np.inf


def test_ssim_is_the_mean_over_7x7_windows_and_channels():
    image, other = noisy_pair(16)
    values = []
    for channel in range(3):
        for row in range(10):
            for column in range(10):
                x, y = (array[row:row + 7, column:column + 7, channel].astype(float)
                        for array in (image, other))
                covariance = np.cov(x.ravel(), y.ravel())
                c1, c2 = (.01 * 255) ** 2, (.03 * 255) ** 2
                values.append((2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
                              / ((x.mean() ** 2 + y.mean() ** 2 + c1)
                                 * (covariance[0, 0] + covariance[1, 1] + c2)))
    assert metrics.ssim(image, other) == pytest.approx(np.mean(values), abs=1e-6)


def test_folders_are_measured_as_the_plain_way_does(published_run):
    folder = sheets.open_folder(str(published_run / 'output' / 'golden' / 'sample_testing'))
    values, wanted = metrics.measure_folder(folder, 1), plain.measure_folder(folder)
    assert list(values) == list(wanted)
    np.testing.assert_allclose(list(values.values()), list(wanted.values()), rtol=0, atol=1e-6)


def test_too_small_images_are_refused(tmp_path):
    image = np.zeros([6, 6, 3])
    imlib.write(str(tmp_path / 'sample_testing' / '000001.png'),
                sheets.compose(image, image[np.newaxis]))
    with pytest.raises(UserError, match='images of 6 pixels, smaller than the 7x7 window'):
        metrics.measure_folder(sheets.open_folder(str(tmp_path / 'sample_testing')), 1)


def test_command_agrees_with_scikit_image(run, published_run):
    """On sheets of 128 pixels and 15 columns, sizes that no code has to know."""
    done = run('psnr_ssim.py', '--experiment_name', 'golden', '--threads', 1)
    assert done.status == 0, done.err
    assert 'paper' in done.out and '31.67' in done.out and '19962' in done.out
    experiment = published_run / 'output' / 'golden'
    summary = read_json(str(experiment / 'psnr_ssim.json'))
    wanted = []
    for path in sorted((experiment / 'sample_testing').glob('*.png')):
        sheet = imlib.read(str(path))
        source, reconstruction = sheet[:, :128].astype(float), sheet[:, 140:268].astype(float)
        error = np.mean((source - reconstruction) ** 2)
        wanted.append((10 * np.log10(255 ** 2 / error), structural_similarity(
            source, reconstruction, data_range=255, channel_axis=2)))
    assert summary['images'] == 3
    np.testing.assert_allclose([summary['psnr'], summary['ssim']], np.mean(wanted, axis=0),
                               rtol=1e-9)
    rows = (experiment / 'psnr_ssim.csv').read_text().splitlines()
    assert rows[0] == 'sheet,psnr,ssim' and len(rows) == 4
    assert imlib.read(str(experiment / 'psnr_ssim.png')).shape[1] == 1000


def test_the_table_names_the_conditions(run, published_run):
    done = run('psnr_ssim.py', '--experiment_name', 'golden')
    assert re.search(r'this run\W+3\W+128\W+unknown\W', done.out)
    assert re.search(r'paper\W+19962\W+128\W+2\W+31.67\W+0.948', done.out)
    assert ('not comparable with the paper: 3 sheets instead of 19962; unknown intensity instead '
            'of 2\n') in done.out
    summary = read_json(str(published_run / 'output' / 'golden' / 'psnr_ssim.json'))
    assert (summary['sheets'], summary['img_size'], summary['test_int']) == (
        'sample_testing', 128, None)
    assert summary['paper'] == {'images': 19962, 'psnr': 31.67, 'ssim': .948, 'img_size': 128,
                                'test_int': 2}


def test_a_report_that_cannot_be_written_is_shown(run, published_run):
    command = 'psnr_ssim.py', '--experiment_name', 'golden', '--output_dir'
    (published_run / 'taken' / 'psnr_ssim.csv').mkdir(parents=True)
    done = run(*command, 'taken')
    assert done.status == 1 and 'this run' in done.out
    assert done.err.endswith(', or name another folder with --output_dir\n')
    assert done.err.count('\n') == 1
    assert run(*command, 'reports').status == 0
    assert sorted(os.listdir('reports')) == ['psnr_ssim.csv', 'psnr_ssim.json', 'psnr_ssim.png']
    assert not (published_run / 'output' / 'golden' / 'psnr_ssim.json').exists()


def test_a_report_does_not_replace_that_on_other_sheets(run, published_run):
    experiment = published_run / 'output' / 'golden'
    assert run('psnr_ssim.py', '--experiment_name', 'golden').status == 0
    shutil.copytree(str(experiment / 'sample_testing'), str(experiment / 'others'))
    before = (experiment / 'psnr_ssim.json').read_text()
    done = run('psnr_ssim.py', '--img_dir', 'output/golden/others')
    assert done.status == 2 and 'is the report on the sheets in sample_testing; name' in done.err
    assert (experiment / 'psnr_ssim.json').read_text() == before
    assert run('psnr_ssim.py', '--img_dir', 'output/golden/others', '--output_dir', 'x').status == 0
    assert run('psnr_ssim.py', '--experiment_name', 'golden').status == 0


def test_the_working_directory_may_be_the_folder(published_run):
    """The report goes beside the folder, whatever it is called."""
    folder = published_run / 'output' / 'golden' / 'sample_testing'
    done = run_cli('psnr_ssim.py', '--img_dir', '.', cwd=folder)
    assert done.status == 0, done.err
    assert len(list(folder.iterdir())) == 3 and (folder.parent / 'psnr_ssim.json').exists()


def test_threads_give_the_same_values(run, published_run):
    values = []
    for threads in (1, 2):
        done = run('psnr_ssim.py', '--img_dir', 'output/golden/sample_testing', '--threads',
                   threads)
        assert done.status == 0, done.err
        values.append((published_run / 'output' / 'golden' / 'psnr_ssim.csv').read_text())
    assert values[0] == values[1]


def test_equal_images_do_not_make_the_mean_infinite(tmp_path):
    images = np.random.RandomState(0).uniform(-1, 1, [32, 32, 3])
    imlib.write(str(tmp_path / 'sample_testing' / '000001.png'),
                sheets.compose(images, [images] * 14))
    folder = sheets.open_folder(str(tmp_path / 'sample_testing'))
    values = metrics.measure_folder(folder, 1)
    summary = metrics.summarize(folder, values)
    metrics.write_report(str(tmp_path / 'psnr_ssim.json'), folder, values, summary)
    assert (summary['psnr'], summary['ssim'], summary['equal_images']) == (None, 1, 1)
    json.loads((tmp_path / 'psnr_ssim.json').read_text(), parse_constant=pytest.fail)
