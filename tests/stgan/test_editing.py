"""Editing: published folders, checkpoints of the other TensorFlow, and the Editor's contract."""

import glob
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, ROOT

import imlib
from pylib import UserError
from stgan import attributes, data, fast
from stgan.celeba import CelebA
from stgan.editing import Editor
from tflib import checkpoint, layers, tf, utils


def test_current_checkpoint_gives_equal_images_everywhere(golden_folder):
    """The reverse: a checkpoint and the images that TensorFlow 2.21 made of it."""
    with np.load(str(golden_folder / 'current_run' / 'edits.npz')) as stored:
        images, targets, sources, wanted = (stored[name] for name in
                                            ('images', 'targets', 'sources', 'edits'))
    with Editor(str(golden_folder / 'current_run'), device='cpu') as editor:
        np.testing.assert_allclose(editor.edit_batch(images, targets, sources), wanted, atol=1e-4)


def test_edit_one_image(trained, toy_data):
    celeba = CelebA(str(toy_data))
    ((_, images),) = data.load_images(celeba.paths([0, 1]), 32, True, 2)
    labels = CelebA(str(toy_data), attributes.DEFAULT_ATTRIBUTES).labels[:2]
    with Editor(str(trained / 'output' / 'toy'), device='cpu') as editor:
        config = editor.config
        targets = attributes.single_targets(labels, config.atts, config.thres_int, 2.)
        sources = attributes.signed(labels, config.thres_int)
        batch = editor.edit_batch(images, targets, sources)
        assert batch.shape == (2, 14, 32, 32, 3) and np.abs(batch).max() <= 1
        one = editor.edit(images[1], targets[1], sources[1])
        np.testing.assert_allclose(one, batch[1], atol=1e-5)
        # Without a source the targets are differences.
        np.testing.assert_allclose(editor.edit(images[1], targets[1] - sources[1]), one, atol=1e-5)
        # A difference of zero reconstructs.
        np.testing.assert_allclose(editor.edit(images[1], np.zeros([1, 13]))[0], one[0], atol=1e-5)


def example(config, number=3):
    """(images, targets, sources) of an experiment."""
    random = np.random.RandomState(number)
    size = config.img_size
    return (random.uniform(-1, 1, [1, size, size, 3]).astype(np.float32),
            random.choice([-.5, .5], [1, 4, config.n_att]),
            random.choice([-.5, .5], [1, config.n_att]))


def test_encoded_once_for_many_edits(trained):
    with Editor(str(trained / 'output' / 'toy'), device='cpu', edit_batch=3) as editor:
        images, targets, sources = example(editor.config)
        encoded = editor.encode(images[0])
        wanted = editor.edit(images[0], targets[0], sources[0])
        for _ in range(2):
            np.testing.assert_allclose(editor.edit(encoded, targets[0], sources[0]), wanted,
                                       atol=1e-6)
        assert wanted.std() > .01 and np.abs(wanted[0] - wanted[1]).max() > 1e-3
        with pytest.raises(ValueError, match='expected floats'):
            editor.encode(images[0] * 2)


def test_threads_share_an_editor(trained):
    with Editor(str(trained / 'output' / 'toy'), device='cpu') as editor:
        cases = [example(editor.config, number) for number in range(12)]
        wanted = [editor.edit_batch(*case) for case in cases]
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda case: editor.edit_batch(*case), cases))
    for one, another in zip(wanted, found):
        assert one.std() > .01
        np.testing.assert_allclose(another, one, atol=1e-6)


@pytest.mark.slow
def test_threads_make_editors_of_their_own(trained):
    """At once, with nothing that they share left changed."""
    before = os.fstat(2)

    def edited(number):
        with Editor(str(trained / 'output' / 'toy'), device='cpu') as editor:
            return editor.edit_batch(*example(editor.config))
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(edited, range(6)))
    for result in results:
        np.testing.assert_allclose(result, edited(0), atol=1e-6)
    assert os.path.samestat(os.fstat(2), before)
    with tf.Graph().as_default() as graph:
        layers.conv2d(tf.zeros([1, 4, 4, 512]), 512, 4, 2)
        assert 'Conv2D' in {operation.type for operation in graph.get_operations()}


def test_an_editor_leaves_its_process_alone(trained):
    """What a notebook or a server that edits would notice."""
    code = ('import gc, sys\n'
            'from pylib import memory, native\n'
            'memory.keep_freed_memory = native._HiddenErrors._hide = lambda *a: sys.exit("tuned")\n'
            'import pylib\n'
            'from stgan.editing import Editor\n'
            'from stgan import metrics, sheets\n'
            'state = gc.get_threshold(), gc.get_freeze_count()\n'
            'Editor(sys.argv[1], "cpu").close()\n'
            'metrics.measure_folder(sheets.open_folder(sys.argv[2]))\n'
            'assert (gc.get_threshold(), gc.get_freeze_count()) == state\n')
    environment = {name: value for name, value in os.environ.items()
                   if name != 'TF_CPP_MIN_LOG_LEVEL'}
    done = subprocess.run(
        [sys.executable, '-c', code, str(trained / 'output' / 'toy'),
         str(GOLDEN / 'reference_run' / 'output' / 'golden' / 'sample_testing')],
        cwd=str(ROOT), env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_the_folder_may_be_the_current_one(trained, monkeypatch):
    monkeypatch.chdir(trained / 'output' / 'toy')
    with Editor('.', device='cpu') as editor:
        assert editor.config.experiment_name == 'toy'
        assert editor.edit_batch(*example(editor.config)).shape == (1, 4, 32, 32, 3)


@pytest.mark.parametrize('spoil, complaint', [
    (imlib.to_uint8, 'images: expected floats in .-1,1., got uint8; imlib.to_float'),
    (lambda image: image * 127.5 + 127.5, 'images: expected floats in .-1,1., got values from'),
    (lambda image: image * np.nan, 'images: expected floats in .-1,1., got values from nan')])
def test_images_of_another_range_are_refused(trained, spoil, complaint):
    with Editor(str(trained / 'output' / 'toy'), device='cpu') as editor:
        (image,), (targets,), (source,) = example(editor.config)
        with pytest.raises(ValueError, match=complaint):
            editor.edit(spoil(image), targets, source)


def test_a_gpu_edits_without_what_is_arranged_for_cpus(trained, monkeypatch):
    """And gives the same images; the session of this test is on a CPU after all."""
    folder = str(trained / 'output' / 'toy')
    with Editor(folder, device='cpu') as editor:
        case = example(editor.config)
        wanted = editor.edit_batch(*case)
    monkeypatch.setattr(utils, 'resolve_device', lambda device: device)
    monkeypatch.setattr(fast, '_up_by_phases', pytest.fail)
    with Editor(folder, device='gpu') as editor:
        np.testing.assert_allclose(editor.edit_batch(*case), wanted, atol=1e-5)


def test_experiments_without_checkpoint_are_named(tmp_path, trained):
    folder = tmp_path / 'empty'
    folder.mkdir()
    (folder / 'setting.txt').write_text('{}')
    with pytest.raises(UserError, match='no checkpoint; train first'):
        Editor(str(folder))


def rewrite(path, change):
    """Save a checkpoint's values again, its kernels changed by a function."""
    reader = tf.train.NewCheckpointReader(path)
    with tf.Graph().as_default(), tf.Session() as session:
        for name in checkpoint.variables_in(path):
            value = reader.get_tensor(name)
            tf.get_variable(name, initializer=change(value) if name.endswith('weights') else value)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, path, write_meta_graph=False, write_state=False)


def test_weights_of_another_number_type_are_refused(workspace):
    experiment = workspace / 'output' / 'toy'
    rewrite(checkpoint.require_latest(str(experiment / 'checkpoints')), np.float64)
    with pytest.raises(UserError, match='unusable'):
        Editor(str(experiment), device='cpu')


@pytest.mark.slow
@pytest.mark.parametrize('part, words', [('index', ''), ('data', 'Checksum'),
                                         ('values', 'not finite')])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(workspace, capsys, part, words):
    experiment = workspace / 'output' / 'toy'
    newest = checkpoint.require_newest(str(experiment / 'checkpoints'))
    if part == 'index':
        os.truncate(newest + '.index', 100)
    elif part == 'data':
        kernel = tf.train.NewCheckpointReader(newest).get_tensor('Genc/Conv/weights').tobytes()
        path, = map(Path, glob.glob(glob.escape(newest) + '.data-*'))
        path.write_bytes(path.read_bytes().replace(kernel, kernel[::-1]))
    else:
        rewrite(newest, lambda kernel: kernel * np.nan)
    with Editor(str(experiment), device='cpu') as editor:
        assert editor.checkpoint != newest
    warning = capsys.readouterr().err
    assert f'{newest}: damaged checkpoint' in warning and words in warning


@pytest.mark.slow
def test_the_size_of_session_runs_changes_nothing(trained, toy_data):
    celeba = CelebA(str(toy_data), attributes.DEFAULT_ATTRIBUTES)
    ((_, images),) = data.load_images(celeba.paths([0, 1, 2]), 32, True, 3)
    sources = attributes.signed(celeba.labels[:3], .5)
    results = []
    for edit_batch in (100, 28, 5):    # all at once; two images and one; parts of an image
        with Editor(str(trained / 'output' / 'toy'), 'cpu', edit_batch=edit_batch) as editor:
            targets = attributes.single_targets(celeba.labels[:3], editor.config.atts, .5, 2.)
            results.append(editor.edit_batch(images, targets, sources))
    assert results[0].shape == (3, 14, 32, 32, 3) and results[0].std() > .01
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)
