"""The report on an experiment: what it says, and that it needs nothing but itself."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from conftest import ROOT
from PIL import Image

from att_classification import intensities
from stgan.config import RunConfig

CLASSIFIER = str(ROOT / 'models' / 'toy_classifier')
TOY = str(ROOT / 'models' / 'toy')
VOID = {'meta', 'img', 'br', 'use', 'path', 'link'}


class Page(HTMLParser):
    """What an HTML file holds, read by Python's own parser."""

    def __init__(self, path):
        super().__init__()
        self.addresses, self.heads, self.text, self._open = [], [], '', []
        self.feed(path.read_text(encoding='utf-8'))
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ('src', 'href',
                                                                           'xlink:href')]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1] in ('h1', 'h2'):
            self.heads.append(data)
        self.text += data + '\n'


def require_self_contained(path):
    """No address but of data in the file itself and of SVG's own definitions."""
    page = Page(path)
    assert all(address.startswith(('data:image/jpeg;base64,', '#')) for address in page.addresses)
    assert not re.search(r'url\((?!#)|@import|<script|<link', path.read_text())
    assert path.stat().st_size < 3e6
    return page


def test_a_training_without_figures(run, workspace):
    done = run('scripts/report.py', '--experiment_name', 'toy')
    assert done.status == 0, done.err
    assert done.out == 'wrote output/toy/report.html\n'
    page = require_self_contained(workspace / 'output' / 'toy' / 'report.html')
    assert page.heads == ['toy', 'Settings that differ from the published ones', 'Training',
                          'Samples over the training', 'Beside the published figures']
    assert 'img_size = 32  [default: 128]' in page.text and 'd_loss_att' in page.text
    assert 'output/toy: trained, iteration 12 of 12' in page.text
    grids = len(list((workspace / 'output' / 'toy' / 'sample_training').iterdir()))
    assert sum(address.startswith('data:') for address in page.addresses) == grids == 3


def test_an_experiment_that_has_hardly_begun(run, workspace):
    folder = workspace / 'output' / 'toy'
    for name in ('metrics.jsonl', 'sample_training', 'checkpoints', 'summaries'):
        path = folder / name
        shutil.rmtree(str(path)) if path.is_dir() else path.unlink()
    done = run('scripts/report.py', '--experiment_name', 'toy')
    assert done.status == 0, done.err
    page = require_self_contained(folder / 'report.html')
    assert 'not trained yet' in page.text and 'Training' not in page.heads


def test_figures_stand_beside_the_published_ones(run, workspace):
    """As the commands write them, with sheets of a known content."""
    folder = workspace / 'output' / 'toy'
    atts = ['Bald', 'Bangs']
    (folder / 'psnr_ssim.json').write_text(json.dumps({
        'sheets': 'sample_testing', 'images': 3, 'psnr': 27.125, 'ssim': .8125, 'img_size': 32,
        'test_int': 2.0}))
    (folder / 'psnr_ssim.csv').write_text(
        'sheet,psnr,ssim\n000001.png,20.5,0.5\n000002.png,inf,1\n000003.png,30.25,0.75\n')
    (folder / 'attribute_accuracy.json').write_text(json.dumps({
        'images': 3, 'mean_accuracy': .625, 'mean_error': .25, 'img_size': 32, 'test_int': 2,
        'accuracy': dict(zip(atts, (.875, .375))), 'error': dict(zip(atts, (.5, 0))),
        'error_each': {'Bald': {'Bald': 0, 'Bangs': .5}, 'Bangs': {'Bald': 0, 'Bangs': 0}}}))
    (folder / 'sample_testing').mkdir(exist_ok=True)
    for number, colour in ((1, 'red'), (3, 'blue')):
        sheet = Image.new('RGB', (32 + 3 + 32 * 3, 32), colour)
        sheet.save(str(folder / 'sample_testing' / f'00000{number}.png'))
    done = run('scripts/report.py', '--experiment_name', 'toy', '--compare', TOY)
    assert done.status == 0, done.err
    page = require_self_contained(folder / 'report.html')
    words = page.text.split('\n')
    for value in ('27.12 dB', '62.5%', '25.0%', '62.50%', '31.67', '86.05%', '38'):
        assert value in words, value
    assert page.text.index('30.25 dB, 0.750') > page.text.index('20.50 dB, 0.500')    # best below
    assert ('not comparable with the paper (3 sheets instead of 19962; 32x32 pixels instead of '
            '128x128)') in page.text
    reds = [np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(',')[2]))))
            for address in page.addresses if address.startswith('data:')]
    assert any(image.shape == (32, 64, 3) and image[..., 0].min() > 240 for image in reds)


@pytest.mark.slow
def test_intensity_curves_of_the_toy_model(run, tmp_path, toy_data):
    done = run('scripts/report.py', '--experiment_name', TOY, '--dataroot', toy_data,
               '--classifier', CLASSIFIER, '--images', 2, '--device', 'cpu', '--output_dir', 'out')
    assert done.status == 0, done.err
    curves = json.loads((tmp_path / 'out' / 'intensity_curves.json').read_text())
    assert curves['images'] == 2 and len(curves['changed']) == 13
    assert 'Intensity' in require_self_contained(tmp_path / 'out' / 'report.html').heads
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'intensity_curves.json', 'report.html']


class DrawnEditor:
    """Paints attribute i's difference into pixel i: a curve that can be told beforehand."""

    config = RunConfig(experiment_name='drawn', atts=('Male', 'Young'), img_size=32)

    def edit_batch(self, images, targets, sources):
        edited = np.zeros(targets.shape[:2] + images.shape[1:], np.float32)
        edited[:, :, 0, :2] = targets[..., np.newaxis]
        return edited


class Threshold:
    """Sees Male and Young from 0.4 on, and Male wherever Young goes above 0.9."""

    atts, path = ['Young', 'Male'], 'threshold'

    def predict(self, images):
        male, young = (images[:, 0, i, 0] / 127.5 - 1 for i in range(2))
        return np.stack([young > .4, (male > .4) | (young > .9)], axis=1).astype(np.int64)


def test_curves_count_what_the_classifier_sees(monkeypatch):
    class Celeba:
        crop, folder, labels = True, 'drawn', np.array([[0, 0], [1, 0]])

        def paths(self, indices):
            return [f'{index}' for index in indices]

    def load_images(paths, *options):
        for index in range(len(paths)):
            yield np.array([index]), np.zeros([1, 32, 32, 3], np.float32)
    monkeypatch.setattr(intensities.data, 'load_images', load_images)
    curves = intensities.intensity_curves(DrawnEditor(), Threshold(), Celeba(), np.arange(2))
    assert curves['images'] == 2
    at = dict(zip(curves['intensities'], range(7)))
    changed, others = curves['changed'], curves['others']
    assert [changed['Young'][at[i]] for i in (-1, .5, 1, 2)] == [0, 0, 1, 1]
    # The first face is not male: it looks so when Young is overdone.
    assert [others['Young'][at[i]] for i in (1, 2)] == [0, .5]
    # The second one, male at 0.5, stays seen as male until the difference is below 0.4.
    assert [changed['Male'][at[i]] for i in (-1, 0, 1)] == [0, .5, 1]


@pytest.mark.parametrize('flags, complaint', [
    (['--experiment_name', 'none'], 'none'),
    (['--experiment_name', 'toy', '--compare', 'toy'], '--compare: names an experiment twice'),
    (['--experiment_name', 'toy', '--compare', 'none'], 'none'),
    (['--experiment_name', 'toy', '--images', 0], '--images 0: expected at least 1'),
    (['--experiment_name', 'toy', '--dataroot', 'x'], '--dataroot: only with --classifier'),
    (['--experiment_name', 'toy', '--classifier', 'none'], 'none'),
])
def test_bad_input(run, workspace, flags, complaint):
    done = run('scripts/report.py', *flags)
    assert done.status == 2 and complaint in done.err and len(done.err.splitlines()) == 1
    assert not (workspace / 'output' / 'toy' / 'report.html').exists()


@pytest.mark.parametrize('name, text', [
    ('psnr_ssim.json', '{"images": 3, "psnr": "x", "ssim": 1}'), ('psnr_ssim.json', '[]'),
    ('attribute_accuracy.json', '{"images": 3, "mean_accuracy": 0.5}'),
    ('attribute_accuracy.json', '{"images": 1, "mean_accuracy": 1, "mean_error": 0, "accuracy": '
     '{"Bald": [1]}, "error_each": {"Bald": {"Bald": 0}}}'),
    ('intensity_curves.json', '{"images": 1, "intensities": [1], "changed": {}, "others": {}}'),
    ('intensity_curves.json', '{"images": 1, "intensities": [1], "changed": {"a": [1]}, "others": '
     '{"b": [1]}}'),
    ('intensity_curves.json', '{"images": 1, "intensities": [1], "changed": {"a": [1, 1]}, '
     '"others": {"a": [1]}}'),
    ('attribute_accuracy.json', '{"images": 1, "mean_accuracy": 1, "mean_error": 0, "img_size": 32,'
     ' "accuracy": {"Bald": 1}, "error_each": {"Bald": {"Young": 0}}}'),
    ('psnr_ssim.json', '{"images": 3, "psnr": 1, "ssim": 1, "img_size": 32, "test_int": "2"}'),
    ('psnr_ssim.json', '{"images": 1e999, "psnr": 1, "ssim": 1, "img_size": 32}'),
    ('psnr_ssim.csv', 'sheet,psnr,ssim\n' + 'x' * 200000 + ',1,1\n'),
    ('psnr_ssim.csv', 'sheet,psnr\n1.png,x\n'), ('metrics.jsonl', 'x\n')])
def test_damaged_figures_are_named(run, workspace, name, text):
    (workspace / 'output' / 'toy' / name).write_text(text)
    done = run('scripts/report.py', '--experiment_name', 'toy')
    if name == 'metrics.jsonl':    # of which the lines up to the damaged one count
        assert done.status == 0, done.err
        return
    assert done.status == 2 and f'output/toy/{name}: ' in done.err
    assert len(done.err.splitlines()) == 1
    assert not (workspace / 'output' / 'toy' / 'report.html').exists()


def test_any_number_of_experiments_of_any_name(run, workspace):
    names = ['$a^$', '_hidden', 'b\udcff', '<b>&', *map(str, range(10, 16))]
    for name in names:
        shutil.copytree(str(workspace / 'output' / 'toy'), str(workspace / 'output' / name))
    done = run('scripts/report.py', '--experiment_name', 'toy', '--compare', *names)
    assert done.status == 0, done.err
    words = [word.strip() for word in
             require_self_contained(workspace / 'output' / 'toy' / 'report.html').text.split('\n')]
    for name in ('$a^$', '_hidden', r'b\udcff', '<b>&', '10', '15'):
        # Beside its settings, in the table, and in the legend of some charts.
        assert words.count(name) > 5, name


def test_experiments_of_the_same_name_are_told_apart(run, workspace):
    done = run('scripts/report.py', '--experiment_name', 'toy', '--compare', TOY)
    assert done.status == 0, done.err
    words = Page(workspace / 'output' / 'toy' / 'report.html').text.split('\n')
    assert 'output/toy' in words and TOY in words and 'toy' not in words


def test_damaged_images_are_left_out(run, workspace):
    folder = workspace / 'output' / 'toy'
    samples = sorted((folder / 'sample_training').iterdir())
    samples[0].write_bytes(samples[0].read_bytes()[:400])
    (folder / 'psnr_ssim.csv').write_text('sheet,psnr,ssim\n1.png,20,.5\n2.png,21,.5\n')
    (folder / 'sample_testing').mkdir()
    (folder / 'sample_testing' / '1.png').write_text('no PNG')
    Image.new('RGB', (32 + 3 + 32, 32), 'red').save(str(folder / 'sample_testing' / '2.png'))
    done = run('scripts/report.py', '--experiment_name', 'toy')
    assert done.status == 0, done.err
    assert f'{samples[0].name}: not a readable image' in done.err and '1.png: not' in done.err
    page = require_self_contained(folder / 'report.html')
    # Of two grids, and the other sheet as the worst and as the best one.
    assert sum(address.startswith('data:') for address in page.addresses) == 2 + 2


@pytest.mark.skipif(not CHROMIUM, reason='no Chromium on the PATH (apt-get install chromium)')
def test_it_fits_a_phone_and_asks_nobody(run, workspace, tmp_path):
    assert run('scripts/report.py', '--experiment_name', 'toy').status == 0
    browser = Browser(str(tmp_path / 'profile'))
    try:
        for width in (1280, 390):
            tab = browser.open((workspace / 'output' / 'toy' / 'report.html').as_uri(), width=width)
            tab.wait('document.readyState === "complete"')
            assert tab.run('document.documentElement.scrollWidth') <= width
            assert tab.run('[...document.images].every(image => image.naturalWidth)')
            assert all(request.startswith(('file:', 'data:')) for request in tab.requests())
            assert not tab.complaints()
    finally:
        browser.close()
