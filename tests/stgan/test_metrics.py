"""PSNR and SSIM against formulas and scikit-image; fault 14."""

import json

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

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


def picture(kind, shape):
    random = np.random.RandomState(2)
    return {'flat': lambda: np.full(shape, 77, np.uint8),
            'black': lambda: np.zeros(shape, np.uint8),
            'white': lambda: np.full(shape, 255, np.uint8),
            'random': lambda: random.randint(0, 256, shape).astype(np.uint8),
            'saturated': lambda: (255 * random.randint(0, 2, shape)).astype(np.uint8),
            'slope': lambda: np.linspace(0, 255, int(np.prod(shape))).reshape(shape).astype(
                np.uint8)}[kind]()


@pytest.mark.parametrize('shape', [(7, 7, 3), (7, 30, 3), (30, 8, 3), (128, 128, 3)])
@pytest.mark.parametrize('kinds', [
    ('flat', 'flat'), ('black', 'white'), ('white', 'white'), ('flat', 'white'),
    ('random', 'flat'), ('random', 'random'), ('random', 'slope'), ('saturated', 'slope'),
    ('saturated', 'random'), ('slope', 'black')], ids='-'.join)
@pytest.mark.filterwarnings('ignore:divide by zero')
def test_values_are_those_of_scikit_image(kinds, shape):
    x, y = (picture(kind, shape) for kind in kinds)
    for other in (y, np.clip(x + np.random.RandomState(3).normal(0, 3, shape), 0, 255).astype(
            np.uint8)):
        assert metrics.psnr(x, other) == pytest.approx(
            peak_signal_noise_ratio(other, x, data_range=255), abs=1e-6)
        assert metrics.ssim(x, other) == pytest.approx(
            structural_similarity(other, x, data_range=255, channel_axis=2), abs=1e-6)
    assert (metrics.psnr(x, x), metrics.ssim(x, x)) == (np.inf, 1)


def test_pictures_that_cannot_be_compared():
    image = np.zeros([8, 9, 3], np.uint8)
    with pytest.raises(ValueError, match='9x6 pixels: smaller than the 7x7 window'):
        metrics.ssim(image[:6], image[:6])
    for other in (image[:7], image.astype(np.float32)):
        with pytest.raises(ValueError, match='expected two uint8 images of one shape'):
            metrics.psnr(image, other)


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
    """Fault 9: 128 pixels and 15 columns are not written into the evaluation."""
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
                sheets.compose(images, images[np.newaxis]))
    folder = sheets.open_folder(str(tmp_path / 'sample_testing'))
    summary = metrics.write_report(str(tmp_path), metrics.measure_folder(folder, 1))
    assert (summary['psnr'], summary['ssim'], summary['equal_images']) == (None, 1, 1)
    json.loads((tmp_path / 'psnr_ssim.json').read_text(), parse_constant=pytest.fail)
