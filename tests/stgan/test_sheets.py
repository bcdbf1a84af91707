"""Sheets: geometry, marks, and the files that describe a folder."""

import json
import shutil
from collections import OrderedDict

import numpy as np
import pytest

import imlib
from pylib import UserError
from stgan import sheets
from stgan.config import RunConfig

CONFIG = RunConfig(atts=('Bald', 'Male'), img_size=32)
SETTINGS = OrderedDict(mode='single', img_size=32, attributes=['Bald', 'Male'], weights='1234')


def images(*shape):
    return np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)


def write_folder(folder, names=('000001.png', '000002.png'), settings=SETTINGS, write=True):
    plan = sheets.single_plan(CONFIG, 2.)
    labels = OrderedDict((name, ('image.jpg', [0, 1])) for name in names)
    sheets.write_description(str(folder), settings, plan.columns, labels)
    for name in names if write else ():
        imlib.write(str(folder / name), sheets.compose(images(32, 32, 3), images(3, 32, 32, 3)))
    return str(folder)


def test_compose_has_the_published_geometry():
    source, results = images(32, 32, 3), images(4, 32, 32, 3)
    sheet = sheets.compose(source, results)
    assert sheet.shape == (32, 32 * 5 + 3, 3) and sheet.dtype == np.uint8
    assert (sheet[:, 32:35] == 0).all()
    np.testing.assert_array_equal(sheet[:, :32], imlib.to_uint8(source))
    np.testing.assert_array_equal(sheet[:, 35 + 64:35 + 96], imlib.to_uint8(results[2]))


def test_marks_are_the_published_plus_and_minus():
    blank = np.zeros([2, 16, 16, 3], np.float32)
    sheets.mark(blank, [True, False])
    plus, minus = blank[..., 0]
    assert plus[3, 1:6].tolist() == plus[1:6, 3].tolist() == minus[3, 1:6].tolist() == [-1] * 5
    assert plus[0, 2:5].tolist() == [1] * 3 and minus[0].tolist() == [0] * 16
    assert minus[2, :7].tolist() == [1] * 7


def test_folder_round_trip(tmp_path):
    folder = sheets.open_folder(write_folder(tmp_path / 'sample_testing'))
    assert [column.kind for column in folder.columns] == ['reconstruction', 'edit', 'edit']
    assert folder.columns[2].attributes == ['Male'] and folder.columns[2].intensities == [2.]
    assert folder.labels['000002.png'][0] == 'image.jpg'
    source, results = folder.read('000001.png')
    np.testing.assert_array_equal(source, imlib.to_uint8(images(32, 32, 3)))
    np.testing.assert_array_equal(results, imlib.to_uint8(images(3, 32, 32, 3)))


def test_sheets_of_equal_settings_are_listed_together(tmp_path):
    write_folder(tmp_path, ['000001.png'])
    write_folder(tmp_path, ['000002.png'])
    assert list(sheets.open_folder(str(tmp_path)).labels) == ['000001.png', '000002.png']
    write_folder(tmp_path, ['000003.png'], dict(SETTINGS, weights='other'))
    assert list(sheets.open_folder(str(tmp_path)).labels) == ['000003.png']


def test_missing_sheets_are_refused_unless_told(tmp_path):
    write_folder(tmp_path)
    (tmp_path / '000001.png').unlink()
    with pytest.raises(UserError, match=r'1 of 2 sheets are missing \(000001.png'):
        sheets.open_folder(str(tmp_path))
    assert list(sheets.open_folder(str(tmp_path), allow_incomplete=True).labels) == ['000002.png']


def test_lossy_sheets_are_refused_unless_told(tmp_path):
    """JPEG sheets measure the compression too."""
    sheet = sheets.compose(images(32, 32, 3), images(3, 32, 32, 3))
    imlib.write(str(tmp_path / '000001.jpg'), sheet)
    with pytest.raises(UserError, match='JPEG sheets'):
        sheets.open_folder(str(tmp_path))
    assert list(sheets.open_folder(str(tmp_path), allow_lossy=True).labels) == ['000001.jpg']


@pytest.mark.parametrize('prepare, complaint', [
    (lambda folder: folder.rmdir(), 'no such folder'),
    (lambda folder: None, 'no sheets'),
    (lambda folder: imlib.write(str(folder / 'a.png'), np.zeros([32, 50, 3], np.uint8)),
     'a.png: 50x32 pixels, which is no sheet'),
    (lambda folder: (write_folder(folder), (folder / 'sheet.json').write_text('{')),
     'sheet.json:1: not JSON'),
    (lambda folder: (write_folder(folder), (folder / 'sheet.json').write_text('{}')),
     'sheet.json: expected img_size'),
    (lambda folder: (write_folder(folder), (folder / 'labels.csv').unlink()), 'labels.csv'),
    (lambda folder: (write_folder(folder), (folder / 'labels.csv').write_text('sheet,image\n')),
     'labels.csv:1: expected'),
    (lambda folder: (write_folder(folder), (folder / 'labels.csv').write_text(
        'sheet,image,Bald,Male\n000001.png,x,0,2\n')), 'labels.csv:2: expected'),
    (lambda folder: (write_folder(folder), (folder / 'labels.csv').write_text(
        'sheet,image,Bald,Male\n../1.png,x,0,1\n')), 'labels.csv:2: ../1.png')])
def test_faulty_folders_are_named(tmp_path, prepare, complaint):
    folder = tmp_path / 'sheets'
    folder.mkdir()
    prepare(folder)
    with pytest.raises(UserError) as error:
        sheets.open_folder(str(folder))
    assert complaint in str(error.value)


def test_a_sheet_of_another_size_is_named(tmp_path):
    write_folder(tmp_path)
    imlib.write(str(tmp_path / '000002.png'), np.zeros([32, 64, 3], np.uint8))
    with pytest.raises(UserError, match='000002.png: 64x32 pixels, expected 131x32'):
        sheets.open_folder(str(tmp_path)).read('000002.png')


def test_published_folders_are_understood(published_run):
    experiment = published_run / 'output' / 'golden'
    folder = sheets.open_folder(str(experiment / 'sample_testing'))
    assert [column.kind for column in folder.columns] == ['reconstruction'] + ['edit'] * 13
    assert folder.columns[1].attributes == ['Bald'] and set(folder.labels.values()) == {None}
    shutil.move(str(experiment / 'sample_testing'), str(published_run / 'sample_testing'))
    folder = sheets.open_folder(str(published_run / 'sample_testing'))   # no setting.txt beside it
    assert folder.img_size == 128 and len(folder.columns) == 14 and folder.atts is None
    multi = sheets.open_folder(str(experiment / 'sample_testing_multi'))
    with pytest.raises(UserError, match='show no reconstruction'):
        multi.column_index('reconstruction')


@pytest.mark.parametrize('make, complaint', [
    (lambda: sheets.multi_plan(CONFIG, ['Bald', 'Nose'], [1, 1]), '--test_atts Nose'),
    (lambda: sheets.slide_plan(CONFIG, 'Nose', -1, 1, 3), '--test_att Nose')])
def test_attributes_that_the_experiment_does_not_edit(make, complaint):
    with pytest.raises(UserError, match=complaint + ': the experiment edits Bald Male'):
        make()


def test_description_is_plain_json(tmp_path):
    write_folder(tmp_path)
    description = json.loads((tmp_path / 'sheet.json').read_text())
    assert description['columns'][1] == {'kind': 'edit', 'attributes': ['Bald'],
                                         'intensities': [2.]}
    assert (tmp_path / 'labels.csv').read_text().splitlines()[:2] == [
        'sheet,image,Bald,Male', '000001.png,image.jpg,0,1']
