"""The models in the box do what their documents say."""

import os
import re

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageDraw

import imlib
from att_classification.evaluation import Classifier, evaluate
from pylib import read_json, read_json_lines
from scripts import demo
from stgan import metrics, sheets
from stgan.attributes import DEFAULT_ATTRIBUTES
from stgan.editing import Editor

MODEL, CLASSIFIER = str(ROOT / 'models' / 'toy'), str(ROOT / 'models' / 'toy_classifier')
DOCUMENTED = read_json(os.path.join(MODEL, 'demo.json'))


@pytest.fixture(scope='module')
def editor():
    with Editor(MODEL, threads=2) as opened:
        yield opened


@pytest.fixture
def unseen(tmp_path, run):
    """Folder of the sheets of 20 drawn faces that no model has seen, edited by test.py."""
    for command in (['scripts/toy/make_toy_celeba.py', 'data', '--images', 200, '--seed', 7,
                     '--processes', 1],
                    ['test.py', '--experiment_name', MODEL, '--dataroot', 'data', '--test_int', 2,
                     '--output_dir', 'sheets']):
        done = run(*command)
        assert done.status == 0, done.err
    return sheets.open_folder(str(tmp_path / 'sheets'))


def test_unseen_faces_reach_about_the_documented_figures(unseen):
    """20 faces, of which each verdict is 5 % of an attribute's accuracy: only near the figures."""
    psnr = np.mean([psnr for psnr, _ in metrics.measure_folder(unseen).values()])
    result = evaluate(unseen, Classifier(os.path.join(CLASSIFIER, 'checkpoints'), 'cpu'))
    assert abs(psnr - DOCUMENTED['psnr']) < 1.5
    assert abs(result.accuracy.mean() - DOCUMENTED['accuracy']) < .1
    assert abs(result.error.mean() - DOCUMENTED['error']) < .05
    assert result.source_accuracy.mean() > .97


def simple_face(number):
    """A face in flat colours, by Pillow: nothing of how the toy faces are drawn."""
    random = np.random.RandomState(number)
    image = Image.new('RGB', (256, 256), tuple(random.randint(90, 230, 3)))
    draw = ImageDraw.Draw(image)
    hair = [(30, 25, 20), (225, 190, 110), (110, 70, 40)][number % 3]
    skin = [(240, 205, 180), (150, 100, 70)][number % 2]
    draw.ellipse((58, 28, 198, 200), fill=hair)
    draw.ellipse((70, 50, 186, 220), fill=skin)
    for x in (104, 152):
        draw.ellipse((x - 11, 112, x + 11, 126), fill='white')
        draw.ellipse((x - 5, 113, x + 5, 125), fill=(40, 60, 90))
        draw.line((x - 14, 100, x + 14, 98), fill=hair, width=4)
        if number % 4 == 1:
            draw.ellipse((x - 20, 100, x + 20, 138), outline='black', width=3)
    draw.line((128, 128, 122, 158, 134, 158), fill=tuple(v - 40 for v in skin), width=3)
    draw.chord((102, 166, 154, 194), 0, 180, fill=(180, 50, 60))
    return np.array(image.resize((64, 64), Image.LANCZOS))


def test_faces_drawn_otherwise_are_reconstructed(editor):
    for number in range(6):
        image = simple_face(number)
        targets = np.zeros([1 + editor.config.n_att, editor.config.n_att], np.float32)
        targets[1:] = np.eye(editor.config.n_att)
        edits = editor.edit(imlib.to_float(image), targets)
        assert np.isfinite(edits).all() and np.abs(edits).max() <= 1
        assert metrics.psnr(imlib.to_uint8(edits[0]), image) > 24


def test_the_box_is_small_and_like_any_experiment(editor):
    files = [path for path in (ROOT / 'models').rglob('*') if path.is_file()]
    assert len(files) >= 8 and sum(path.stat().st_size for path in files) < 25e6
    assert editor.config.atts == DEFAULT_ATTRIBUTES and editor.config.img_size == 64
    log = read_json_lines(os.path.join(MODEL, 'metrics.jsonl'))
    assert 100 <= len(log) <= 300 and log[-1]['g_loss_att'] < log[0]['g_loss_att'] / 2


@pytest.mark.parametrize('page', ['models/README.md', 'docs/toy_model.md'])
def test_documents_name_the_figures(page):
    text = (ROOT / page).read_text('utf-8')
    shown = [f'{DOCUMENTED["psnr"]:.2f}', f'{DOCUMENTED["ssim"]:.3f}',
             f'{100 * DOCUMENTED["accuracy"]:.1f}', f'{100 * DOCUMENTED["error"]:.1f}']
    assert [figure for figure in shown if not re.search(rf'\b{re.escape(figure)}\b', text)] == []
    assert demo.FIGURES == 'models/toy/demo.json'
