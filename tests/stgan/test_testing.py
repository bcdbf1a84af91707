"""What test.py does: published sheets, interruptions, other settings."""

import os
import signal

import numpy as np
import pytest

import imlib
from pylib import RunFailed
from stgan import attributes
from stgan.editing import Editor


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
    """From a checkpoint of TensorFlow 1.15, on any TensorFlow."""
    experiment = published_run / 'output' / 'golden'
    wanted = experiment / 'published'
    (experiment / folder).rename(wanted)
    done = run('test.py', '--experiment_name', 'golden', '--dataroot', 'celeba', '--img', 1, 2, 3,
               *arguments)
    assert done.status == 0, done.err
    assert_like_published(experiment / folder, wanted)
    labels = (experiment / folder / 'labels.csv').read_text().splitlines()
    assert len(labels) == 4 and labels[1].split(',')[-1] in '01'


TEST = ['test.py', '--experiment_name', 'toy', '--edit_batch', '14']


def sheet_times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob('*.png')}


def test_an_interrupted_test_goes_on(run, workspace, monkeypatch):
    """What is there is whole, and is not made again."""
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


def test_a_sheet_that_cannot_be_written_ends_the_test(run, workspace, monkeypatch):
    """Writers run in threads; what goes wrong there is not lost."""
    def fails(path, image):
        raise RunFailed(f'{path}: No space left on device')
    monkeypatch.setattr(imlib, 'write', fails)
    done = run(*TEST)
    assert done.status == 1 and 'No space left' in done.err and 'Traceback' not in done.err


def test_slide_at_the_source_label_reconstructs(run, workspace):
    """With the published slide no position of the slider gives the reconstruction."""
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


def test_repeated_images_are_edited_once(run, workspace):
    assert run('test.py', '--experiment_name', 'toy', '--img', 2, 1, 2).status == 0
    folder = workspace / 'output' / 'toy' / 'sample_testing'
    assert sorted(path.name for path in folder.glob('*.png')) == ['000001.png', '000002.png']
    rows = (folder / 'labels.csv').read_text().splitlines()
    assert [row.split(',')[1] for row in rows[1:]] == ['000001.jpg', '000002.jpg']
