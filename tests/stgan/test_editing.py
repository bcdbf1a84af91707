"""Editing: published folders, checkpoints of the other TensorFlow, and the Editor's contract."""

import glob
import os
from pathlib import Path

import numpy as np
import pytest

from pylib import UserError
from stgan import attributes, data
from stgan.celeba import CelebA
from stgan.editing import Editor
from tflib import checkpoint, tf


def test_current_checkpoint_gives_equal_images_everywhere(golden_folder):
    """The reverse: a checkpoint and the images that TensorFlow 2.21 made of it."""
    with np.load(str(golden_folder / 'current_run' / 'edits.npz')) as stored:
        images, targets, sources, wanted = (stored[name] for name in
                                            ('images', 'targets', 'sources', 'edits'))
    with Editor(str(golden_folder / 'current_run'), device='cpu') as editor:
        np.testing.assert_allclose(editor.edit_batch(images, targets, sources), wanted, atol=1e-4)


def test_edit_one_image(trained, toy_data):
    celeba = CelebA(str(toy_data))
    (images,) = data.load_images(celeba.paths([0, 1]), 32, True, 2)
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


def test_the_size_of_session_runs_changes_nothing(trained, toy_data):
    celeba = CelebA(str(toy_data), attributes.DEFAULT_ATTRIBUTES)
    (images,) = data.load_images(celeba.paths([0, 1, 2]), 32, True, 3)
    sources = attributes.signed(celeba.labels[:3], .5)
    results = []
    for edit_batch in (100, 28, 5):    # all at once; two images and one; parts of an image
        with Editor(str(trained / 'output' / 'toy'), 'cpu', edit_batch=edit_batch) as editor:
            targets = attributes.single_targets(celeba.labels[:3], editor.config.atts, .5, 2.)
            results.append(editor.edit_batch(images, targets, sources))
    assert results[0].shape == (3, 14, 32, 32, 3) and results[0].std() > .01
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)
