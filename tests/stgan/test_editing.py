"""Editing: published folders, checkpoints of the other TensorFlow, and the Editor's contract."""

import glob
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, ROOT

import imlib
from pylib import RunFailed, UserError
from stgan import attributes, data, fast
from stgan.editing import Editor
from tflib import checkpoint, layers, tf, utils


def assert_like_published(folder, wanted_folder):
    """Tolerances of 8-bit truncation and JPEG decoding: tests/golden/README.md."""
    wanted = sorted(wanted_folder.glob('*.png'))
    assert wanted
    for path in wanted:
        difference = np.abs(imlib.read(str(folder / path.name)).astype(int)
                            - imlib.read(str(path)).astype(int))
        assert difference.mean() < .05 and difference.max() <= 2, path.name


@pytest.mark.parametrize('arguments, folder', [
    (['--test_int', '2'], 'sample_testing'),
    (['--test_atts', 'Pale_Skin', 'Male'], 'sample_testing_multi'),
    (['--test_atts', 'Pale_Skin', 'Male', '--test_ints', '1.0', '1.0'], 'sample_testing_multi')])
def test_published_sheets(run, published_run, arguments, folder):
    """Faults 1 and 3, and checkpoints of TensorFlow 1.15 on any TensorFlow."""
    experiment = published_run / 'output' / 'golden'
    wanted = experiment / 'published'
    (experiment / folder).rename(wanted)
    done = run('test.py', '--experiment_name', 'golden', '--dataroot', 'celeba', '--img', 1, 2, 3,
               *arguments)
    assert done.status == 0, done.err
    assert_like_published(experiment / folder, wanted)
    labels = (experiment / folder / 'labels.csv').read_text().splitlines()
    assert len(labels) == 4 and labels[1].split(',')[-1] in '01'


def test_current_checkpoint_gives_equal_images_everywhere(golden_folder):
    """The reverse: a checkpoint and the images that TensorFlow 2.21 made of it."""
    with np.load(str(golden_folder / 'current_run' / 'edits.npz')) as stored:
        images, targets, sources, wanted = (stored[name] for name in
                                            ('images', 'targets', 'sources', 'edits'))
    with Editor(str(golden_folder / 'current_run'), device='cpu') as editor:
        np.testing.assert_allclose(editor.edit_batch(images, targets, sources), wanted, atol=1e-4)


def test_edit_one_image(trained, toy_data):
    celeba = data.CelebA(str(toy_data))
    (images,) = data.load_images(celeba.paths([0, 1]), 32, True, 2)
    labels = data.CelebA(str(toy_data), attributes.DEFAULT_ATTRIBUTES).labels[:2]
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


def test_threads_share_an_editor(trained):
    with Editor(str(trained / 'output' / 'toy'), device='cpu') as editor:
        cases = [example(editor.config, number) for number in range(12)]
        wanted = [editor.edit_batch(*case) for case in cases]
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda case: editor.edit_batch(*case), cases))
    for one, another in zip(wanted, found):
        assert one.std() > .01
        np.testing.assert_allclose(another, one, atol=1e-6)


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


def test_slide_at_the_source_label_reconstructs(run, workspace):
    """Fault 2: with the published slide no position of the slider gives the reconstruction."""
    done = run('test.py', '--experiment_name', 'toy', '--test_slide', '--test_att', 'Male',
               '--n_slide', 3, '--img', 1)
    assert done.status == 0, done.err
    run('test.py', '--experiment_name', 'toy', '--img', 1)
    experiment = workspace / 'output' / 'toy'
    slide = imlib.read(str(experiment / 'sample_testing_slide' / '000001.png'))
    single = imlib.read(str(experiment / 'sample_testing' / '000001.png'))
    is_male = int((experiment / 'sample_testing' / 'labels.csv').read_text().splitlines()[1]
                  .split(',')[2 + list(attributes.DEFAULT_ATTRIBUTES).index('Male')])
    at_source = 35 + 32 * (2 if is_male else 0)
    np.testing.assert_array_equal(slide[:, at_source:at_source + 32], single[:, 35:67])


def test_experiments_without_checkpoint_are_named(tmp_path, trained):
    folder = tmp_path / 'empty'
    folder.mkdir()
    (folder / 'setting.txt').write_text('{}')
    with pytest.raises(UserError, match='no checkpoint; train first'):
        Editor(str(folder))


def test_repeated_images_are_edited_once(run, workspace):
    assert run('test.py', '--experiment_name', 'toy', '--img', 2, 1, 2).status == 0
    folder = workspace / 'output' / 'toy' / 'sample_testing'
    assert sorted(path.name for path in folder.glob('*.png')) == ['000001.png', '000002.png']
    rows = (folder / 'labels.csv').read_text().splitlines()
    assert [row.split(',')[1] for row in rows[1:]] == ['000001.jpg', '000002.jpg']


TEST = ['test.py', '--experiment_name', 'toy', '--edit_batch', '14']


def sheet_times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob('*.png')}


def test_an_interrupted_test_goes_on(run, workspace, monkeypatch):
    """Promise 7 of docs/reliability.md: what is there is whole, and is not made again."""
    edit, folder = Editor.edit_batch, workspace / 'output' / 'toy' / 'sample_testing'
    edited = []

    def interrupted(self, *arguments):
        edited.append(edit(self, *arguments))
        if len(edited) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return edited[-1]
    monkeypatch.setattr(Editor, 'edit_batch', interrupted)
    done = run(*TEST)
    assert done.status == 143
    assert 'SIGTERM: stopped with 3 sheets to go; the same command goes on' in done.err
    monkeypatch.setattr(Editor, 'edit_batch', edit)
    before = sheet_times(folder)
    assert sorted(before) == ['000055.png', '000056.png', '000057.png']
    (folder / '.writing-1-000058.png').write_text('half')    # of a process that was killed
    done = run(*TEST)
    assert done.status == 0 and '6 images, 14 results each' in done.out
    assert '3 are there already' in done.out
    after = sheet_times(folder)
    assert len(after) == 6 and {name: after[name] for name in before} == before
    assert sorted(path.name for path in folder.iterdir()) == [
        *sorted(after), 'labels.csv', 'sheet.json']
    done = run(*TEST)
    assert done.status == 0 and '6 are there already' in done.out and sheet_times(folder) == after
    assert run(*TEST, '--img', 55, '--clear').status == 0
    assert sheet_times(folder)['000055.png'] > after['000055.png']


def test_sheets_of_other_settings_are_made_anew(run, workspace):
    folder = workspace / 'output' / 'toy' / 'sample_testing'
    assert run(*TEST, '--img', 55, 56).status == 0
    before = {path.name: path.read_bytes() for path in folder.glob('*.png')}
    for name in ('sheet.json', 'labels.csv'):
        (folder / name).write_text((folder / name).read_text()[:-30])    # damaged
        done = run(*TEST, '--img', 55, 56)
        assert done.status == 0 and 'there already' not in done.out
    assert {path.name: path.read_bytes() for path in folder.glob('*.png')} == before
    done = run(*TEST, '--img', 55, '--test_int', 2)
    assert done.status == 0 and 'there already' not in done.out
    assert (folder / '000055.png').read_bytes() != before['000055.png']


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


def test_a_sheet_that_cannot_be_written_ends_the_test(run, workspace, monkeypatch):
    """Writers run in threads; what goes wrong there is not lost."""
    def fails(path, image):
        raise RunFailed(f'{path}: No space left on device')
    monkeypatch.setattr(imlib, 'write', fails)
    done = run(*TEST)
    assert done.status == 1 and 'No space left' in done.err and 'Traceback' not in done.err


def test_the_size_of_session_runs_changes_nothing(trained, toy_data):
    celeba = data.CelebA(str(toy_data), attributes.DEFAULT_ATTRIBUTES)
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
