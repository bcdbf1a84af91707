"""What test.py does: published sheets, interruptions, other settings."""

import os
import re
import shutil
import signal

import numpy as np
import pytest

import imlib
from pylib import RunFailed, read_json
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


def test_square_photos(run, workspace, toy_data):
    """Of a network that was trained on aligned ones."""
    (workspace / 'photos' / 'img_crop_celeba').mkdir(parents=True)
    shutil.copy(str(toy_data / 'list_attr_celeba.txt'), str(workspace / 'photos'))
    image = np.random.RandomState(0).randint(0, 256, [32, 32, 3]).astype(np.uint8)
    imlib.write(str(workspace / 'photos' / 'img_crop_celeba' / '000060.png'), image)
    command = [*TEST, '--dataroot', 'photos', '--img', 60]
    done = run(*command)
    assert done.status == 2 and '--use_cropped_img' in done.err
    done = run(*command, '--use_cropped_img')
    assert done.status == 0, done.err
    assert '1 file found by another extension than listed (000060.png for 000060.jpg)' in done.out
    sheet = imlib.read(str(workspace / 'output' / 'toy' / 'sample_testing' / '000060.png'))
    assert np.abs(sheet[:, :32].astype(int) - image).max() <= 1    # to [-1,1] and back


def test_a_relative_dataroot_of_the_setting(run, workspace, toy_data):
    """Is sought where the run was trained, and its origin is named."""
    setting = workspace / 'output' / 'toy' / 'setting.txt'
    setting.write_text(setting.read_text().replace(f'"{toy_data}"', '"data/toy"'))
    command = [*TEST, '--img', 55]
    done = run(*command)
    assert done.status == 2 and 'setting.txt: dataroot data/toy: no such folder' in done.err
    assert '--dataroot' in done.err and done.err.count('\n') == 1
    there = workspace / 'there'
    (there / 'output').mkdir(parents=True)
    shutil.copytree(str(toy_data), str(there / 'data' / 'toy'))
    (workspace / 'output' / 'toy').rename(there / 'output' / 'toy')
    (workspace / 'output' / 'toy').symlink_to(there / 'output' / 'toy')
    done = run(*command)
    assert done.status == 0, done.err


def sheet_times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob('*.png')}


@pytest.mark.slow
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


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def tested(run, workspace):
    """The folder of sheets of a finished test of three images."""
    done = run(*TEST, '--img', 55, 56, 57, '--test_int', 2)
    assert done.status == 0, done.err
    return workspace / 'output' / 'toy' / 'sample_testing'


def take_older_weights(workspace, toy_data):
    state = workspace / 'output' / 'toy' / 'checkpoints' / 'checkpoint'
    state.write_text('model_checkpoint_path: "Epoch_(1)_(4of4).ckpt"\n')


def take_other_data(workspace, toy_data):
    shutil.copytree(str(toy_data), str(workspace / 'other'))


@pytest.mark.parametrize('prepare, options, difference', [
    (None, ['--test_int', 1], 'intensity 2, now 1'),
    pytest.param(take_other_data, ['--test_int', 2, '--dataroot', 'other'],
                 '/other/img_align_celeba', marks=pytest.mark.slow),
    (take_older_weights, ['--test_int', 2], ' of Epoch_(2)_(4of4).ckpt, now '),
    (lambda f, _: (f / 'output/toy/sample_testing/sheet.json').unlink(), ['--test_int', 2],
     'no sheet.json describes')])
def test_one_look_does_not_void_a_finished_test(run, workspace, toy_data, tested, prepare, options,
                                                difference):
    if prepare:
        prepare(workspace, toy_data)
    before = contents(tested)
    done = run(*TEST, '--img', 56, *options)
    assert done.status == 2 and difference in done.err and done.out == ''
    assert done.err.endswith('; name another folder with --output_dir, or let --clear remove '
                             'them\n') and done.err.count('\n') == 1
    assert contents(tested) == before
    done = run(*TEST, '--img', 56, *options, '--output_dir', 'a look')
    assert done.status == 0, done.err
    assert contents(tested) == before
    assert sorted(contents(workspace / 'a look')) == ['000056.png', 'labels.csv', 'sheet.json']
    done = run(*TEST, '--img', 56, *options, '--clear')
    assert done.status == 0, done.err
    assert '--clear: removing 3 sheets from output/toy/sample_testing' in done.out
    assert contents(tested) == contents(workspace / 'a look')


def test_a_look_with_equal_settings_keeps_and_adds(run, workspace, tested):
    before = contents(tested)
    for saved_by_spreadsheet in (False, True):
        if saved_by_spreadsheet:
            (tested / 'labels.csv').write_bytes(
                b'\xef\xbb\xbf' + before['labels.csv'].replace(b',', b';'))
        done = run(*TEST, '--img', 56, '--test_int', 2)
        assert done.status == 0 and '1 are there already' in done.out
    assert run(*TEST, '--img', 58, '--test_int', 2).status == 0
    after = contents(tested)
    assert sorted(after) == sorted([*before, '000058.png'])
    assert {name: after[name] for name in before if name != 'labels.csv'} == {
        name: before[name] for name in before if name != 'labels.csv'}
    rows = before['labels.csv'].splitlines()
    assert [row for row in after['labels.csv'].splitlines() if b'000058' not in row] == rows
    done = run('psnr_ssim.py', '--experiment_name', 'toy')
    assert done.status == 0 and 'not comparable with the paper: 4 sheets instead' in done.out


@pytest.mark.slow
def test_an_image_that_was_trained_on_does_not_get_into_a_test(run, workspace, tested):
    before = contents(tested)
    done = run(*TEST, '--img', 1, 55, '--test_int', 2)
    assert done.status == 2 and 'chosen test split, now by --img); name another' in done.err
    assert contents(tested) == before
    look = [*TEST, '--test_int', 2, '--output_dir', 'look', '--img']
    for image in (1, 56):    # to which one of the test split may go
        done = run(*look, image)
        assert done.status == 0, done.err
    assert sorted(contents(workspace / 'look')) == [
        '000001.png', '000056.png', 'labels.csv', 'sheet.json']
    done = run(*look[:-1])
    assert done.status == 2 and 'chosen by --img, now test split' in done.err


@pytest.mark.parametrize('name, content', [
    ('sheet.json', b'{'), ('sheet.json', b'{}'), ('sheet.json', b'{"mode": "single"}'),
    ('labels.csv', b''), ('labels.csv', b'sheet,image,Young\n')])
def test_sheets_beside_a_damaged_description_are_not_to_be_removed(run, tested, name, content):
    (tested / name).write_bytes(content)
    before = contents(tested)
    for command in ([*TEST, '--img', 55, '--test_int', 2], ['psnr_ssim.py', '--img_dir', tested]):
        done = run(*command)
        assert done.status == 2 and done.err.count('\n') == 1
        assert name in done.err and '--clear' not in done.err
        if command[0] == 'test.py':
            assert '; restore it, or make sheets in another folder with' in done.err
    assert contents(tested) == before


def test_a_file_in_the_place_of_the_results_is_told_at_once(run, tested, workspace):
    (workspace / 'file').write_text('')
    for command in ([*TEST, '--img', 55], ['psnr_ssim.py', '--experiment_name', 'toy']):
        for path in ('file', 'file/below'):
            done = run(*command, '--output_dir', path)
            assert done.status == 2 and done.out == ''
            assert f'{path}: {workspace / "file"} is a file; name another folder with' in done.err


@pytest.mark.parametrize('first, second, difference', [
    (['--test_atts', 'Male', 'Young'], ['--test_atts', 'Male'], 'edits Male+Young, now Male'),
    pytest.param(['--test_atts', 'Male'], ['--test_atts', 'Male', '--test_ints', 2],
                 'intensity 1, now 2', marks=pytest.mark.slow),
    pytest.param(['--test_slide', '--test_att', 'Male', '--n_slide', 2],
                 ['--test_slide', '--test_att', 'Young', '--n_slide', 2], 'edits Male, now Young',
                 marks=pytest.mark.slow),
    pytest.param(['--test_slide', '--test_att', 'Male', '--n_slide', 2],
                 ['--test_slide', '--test_att', 'Male', '--n_slide', 3],
                 'intensity -1 1, now -1 0 1', marks=pytest.mark.slow)])
def test_other_modes_keep_apart_too(run, workspace, first, second, difference):
    assert run(*TEST, '--img', 1, *first).status == 0
    folder = workspace / 'output' / 'toy' / (
        'sample_testing_slide' if '--test_slide' in first else 'sample_testing_multi')
    before = contents(folder)
    done = run(*TEST, '--img', 1, *second)
    assert done.status == 2 and difference in done.err and contents(folder) == before
    assert run(*TEST, '--img', 1, *first).status == 0 and contents(folder) == before


@pytest.mark.slow
def test_an_interrupted_clear_goes_on_without_it(run, workspace, tested, monkeypatch):
    edit = Editor.edit_batch

    def interrupted(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return edit(self, *arguments)
    monkeypatch.setattr(Editor, 'edit_batch', interrupted)
    command = [*TEST, '--img', 55, 56, 57, '--test_int', 1]
    done = run(*command, '--clear')
    assert done.status == 143
    assert 'stopped with 2 sheets to go; the same command without --clear goes on' in done.err
    monkeypatch.setattr(Editor, 'edit_batch', edit)
    done = run(*command)
    assert done.status == 0 and '1 are there already' in done.out


@pytest.mark.slow
def test_unreadable_images_have_no_sheets_and_are_listed(run, workspace, toy_data):
    """Named, counted, left out, and repaired ones are made up for."""
    shutil.copytree(str(toy_data), str(workspace / 'data'))
    path = workspace / 'data' / 'img_align_celeba' / '000056.jpg'
    content = path.read_bytes()
    path.write_bytes(content[:300])
    command = [*TEST, '--dataroot', 'data', '--test_int', 2]
    for _ in range(2):
        done = run(*command)
        assert done.status == 0 and 'Traceback' not in done.err
        assert 'data/img_align_celeba/000056.jpg: unusable image' in done.err
        assert '1 of 6 images unusable, see sheet.json' in done.out
        folder = workspace / 'output' / 'toy' / 'sample_testing'
        assert sorted(path.name for path in folder.glob('*.png')) == [
            '000055.png', '000057.png', '000058.png', '000059.png', '000060.png']
        rows = (folder / 'labels.csv').read_text().splitlines()
        assert len(rows) == 6 and not any('000056' in row for row in rows)
        (entry,) = read_json(str(folder / 'sheet.json'))['left_out']
        assert (entry['sheet'], entry['image']) == ('000056.png', '000056.jpg')
    done = run('psnr_ssim.py', '--experiment_name', 'toy')
    assert done.status == 0 and re.search(r'this run\W+5\W', done.out)
    assert '1 unusable image of the test without a sheet (000056.jpg)' in done.out
    summary = read_json(str(workspace / 'output' / 'toy' / 'psnr_ssim.json'))
    assert (summary['images'], summary['unreadable_images']) == (5, 1)
    path.write_bytes(content)
    done = run(*command)
    assert done.status == 0 and '5 are there already' in done.out
    assert (folder / '000056.png').exists()
    assert 'left_out' not in read_json(str(folder / 'sheet.json'))


def test_a_sheet_that_cannot_be_written_ends_the_test(run, workspace, monkeypatch):
    """Writers run in threads; what goes wrong there is not lost."""
    def fails(path, image):
        raise RunFailed(f'{path}: No space left on device')
    monkeypatch.setattr(imlib, 'write', fails)
    done = run(*TEST)
    assert done.status == 1 and 'No space left' in done.err and 'Traceback' not in done.err


@pytest.mark.slow
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
