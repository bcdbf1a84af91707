"""Sheets: geometry, marks, and the files that describe a folder."""

import json
import shutil
from collections import OrderedDict

import numpy as np
import pytest

import imlib
from pylib import UserError
from stgan import reports, sheets
from stgan.config import RunConfig

CONFIG = RunConfig(atts=('Bald', 'Male'), img_size=32)
SETTINGS = OrderedDict(mode='single', img_size=32, attributes=['Bald', 'Male'], weights='1234')


def images(*shape):
    return np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)


def write_folder(folder, names=('000001.png', '000002.png'), settings=SETTINGS, write=True):
    plan = sheets.single_plan(CONFIG, 2.)
    labels = OrderedDict((name, ('image.jpg', [0, 1])) for name in names)
    sheets.TestFolder(str(folder), settings, plan.columns, labels).write_description()
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


def test_missing_sheets_are_refused_unless_told(tmp_path):
    write_folder(tmp_path)
    (tmp_path / '000001.png').unlink()
    with pytest.raises(UserError, match=r'lacks 1 of 2 sheets \(000001.png'):
        sheets.open_folder(str(tmp_path))
    assert list(sheets.open_folder(str(tmp_path), allow_incomplete=True).labels) == ['000002.png']
    (tmp_path / '000002.png').rename(tmp_path / '2.png')
    with pytest.raises(UserError, match=r'lacks 2 of 2 sheets \(000001.png, ...\); labels'
                                        '.csv does not list 2.png; run test.py again'):
        sheets.open_folder(str(tmp_path))


def test_lossy_sheets_are_refused_unless_told(tmp_path):
    """JPEG sheets measure the compression too."""
    sheet = sheets.compose(images(32, 32, 3), images(3, 32, 32, 3))
    imlib.write(str(tmp_path / '000001.jpg'), sheet)
    with pytest.raises(UserError, match='JPEG sheets.* that test.py writes$'):
        sheets.open_folder(str(tmp_path))    # for a command without the flag
    with pytest.raises(UserError, match='JPEG sheets.*, or --allow_lossy$'):
        sheets.open_folder(str(tmp_path), allow_lossy=False)
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
    assert folder.img_size == 128 and folder.columns[13].attributes == ['Young']
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


SPREADSHEETS = {
    'byte order mark': lambda text: b'\xef\xbb\xbf' + text.encode(),
    'semicolons': lambda text: b'\xef\xbb\xbf' + text.replace(',', ';').encode(),
    'carriage returns': lambda text: text.replace('\n', '\r\n').encode(),
    'tabs in UTF-16': lambda text: text.replace(',', '\t').encode('utf-16'),
    'quotes': lambda text: '\n'.join(','.join(f'"{field}"' for field in line.split(','))
                                     for line in text.splitlines()).encode(),
    'empty columns': lambda text: text.replace('\n', ',,\n').encode(),
    'decimals': lambda text: text.replace(',0,1', ',0.0,1.0').encode(),
    'booleans': lambda text: text.replace(',0,1', ',FALSE,TRUE').encode(),
    'empty rows': lambda text: (text.replace('\n', '\n,,,\n') + '\n\n').encode(),
}


@pytest.mark.parametrize('save', list(SPREADSHEETS.values()), ids=list(SPREADSHEETS))
def test_labels_that_a_spreadsheet_has_saved(tmp_path, save):
    path = tmp_path / 'labels.csv'
    wanted = sheets.open_folder(write_folder(tmp_path)).labels
    path.write_bytes(save(path.read_text()))
    labels = sheets.open_folder(str(tmp_path)).labels
    assert list(labels) == list(wanted) == ['000001.png', '000002.png']
    for name in labels:
        assert labels[name][0] == 'image.jpg' and labels[name][1].tolist() == [0, 1]
    # Nor are the sheets made anew.
    folder = of_test(tmp_path)
    assert not folder.conflict and folder.finished == set(labels)


def of_test(path, settings=SETTINGS, test_int=2., labels=None):
    names = ('000001.png', '000002.png')
    return sheets.TestFolder(str(path), settings, sheets.single_plan(CONFIG, test_int).columns,
                             labels or {name: ('image.jpg', [0, 1]) for name in names})


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize('make, complaint', [
    (lambda f: of_test(f, dict(SETTINGS, weights='other')), 'weights 1234, now other'),
    (lambda f: of_test(f, test_int=1.), 'intensity 2, now 1'),
    (lambda f: of_test(f, dict(SETTINGS, precision='mixed')), 'precision unknown, now mixed'),
    (lambda f: of_test(f, labels={'000002.png': ('b.jpg', [0, 1])}),
     '000002.png: image.jpg, now b.jpg'),
    (lambda f: of_test(f, labels={'000002.png': ('image.jpg', [1, 1])}), 'other labels'),
    (lambda f: (f / 'sheet.json').write_text('{') and of_test(f), 'sheet.json:1: not JSON'),
    (lambda f: (f / 'labels.csv').write_text('x') and of_test(f), 'labels.csv:1: expected'),
    (lambda f: (f / 'labels.csv').unlink() or of_test(f), 'labels.csv: not readable'),
    (lambda f: (f / 'sheet.json').unlink() or of_test(f), 'has 2 images that no sheet.json')])
def test_sheets_of_another_test_stay_unless_they_are_cleared(tmp_path, make, complaint):
    write_folder(tmp_path)
    folder = make(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UserError) as error:
        folder.refuse_conflict('so do this')
    assert complaint in str(error.value)
    # What a damaged description describes may be sound.
    way_out = 'so do this' if 'nothing tells' not in str(error.value) else (
        'restore it, or make sheets in another folder with `test.py --output_dir`')
    assert str(error.value).endswith('; ' + way_out)
    assert not folder.finished and contents(tmp_path) == before
    (tmp_path / 'holiday.png').write_bytes(b'mine')
    assert folder.clear() == ['000001.png', '000002.png']
    folder.refuse_conflict('')
    folder.write_description()
    assert sorted(contents(tmp_path)) == ['holiday.png', 'labels.csv', 'sheet.json']


def test_clearing_removes_no_more_than_is_made_anew(tmp_path):
    write_folder(tmp_path)
    folder = of_test(tmp_path, labels={'000002.png': ('image.jpg', [0, 1])})
    assert folder.clear() == ['000002.png']
    folder.write_description()
    labels = sheets.open_folder(str(tmp_path), allow_incomplete=True).labels
    assert list(labels) == ['000001.png']


def test_images_that_are_no_sheets_are_never_cleared(tmp_path):
    """--output_dir may be a data folder by mistake."""
    imlib.write(str(tmp_path / '000001.png'), np.zeros([218, 178, 3], np.uint8))
    folder = of_test(tmp_path)
    assert 'has 1 image that no sheet.json describes' in folder.conflict
    with pytest.raises(UserError, match='000001.png is no sheet; name another folder'):
        folder.clear()
    assert list(contents(tmp_path)) == ['000001.png']


def test_a_description_without_sheets_binds_nobody(tmp_path):
    write_folder(tmp_path, write=False)
    assert not of_test(tmp_path, test_int=1.).conflict


def test_unreadable_images_are_left_out_and_listed(tmp_path):
    write_folder(tmp_path, ['000001.png'])
    folder = of_test(tmp_path)
    folder.write_description({'000002.png': 'cut short'})
    opened = sheets.open_folder(str(tmp_path))
    assert list(opened.labels) == ['000001.png']
    assert opened.left_out == {'000002.png': ('image.jpg', 'cut short')}
    listed = (tmp_path / 'labels.csv').read_text()
    # As left by a process that was killed before it wrote the labels.
    (tmp_path / 'labels.csv').write_text(listed + '000002.png,image.jpg,0,1\n')
    assert list(sheets.open_folder(str(tmp_path)).labels) == ['000001.png']
    # It is tried again; other runs of the same test leave the entry alone.
    assert of_test(tmp_path).finished == {'000001.png'}
    of_test(tmp_path, labels={'000001.png': ('image.jpg', [0, 1])}).write_description()
    assert list(sheets.open_folder(str(tmp_path)).left_out) == ['000002.png']
    of_test(tmp_path).write_description()
    with pytest.raises(UserError, match='lacks 1 of 2 sheets'):
        sheets.open_folder(str(tmp_path))


@pytest.mark.parametrize('left_out', [3, [3], [{}], {'a': 1}, 'text',
                                      [{'sheet': 1, 'image': 'a', 'reason': 'b'}]])
def test_what_was_left_out_is_checked(tmp_path, left_out):
    write_folder(tmp_path)
    path = tmp_path / 'sheet.json'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), left_out=left_out)))
    with pytest.raises(UserError, match='sheet.json: left_out: expected a list'):
        sheets.open_folder(str(tmp_path))


@pytest.mark.parametrize('described', [True, False])
def test_stray_files_are_named_and_left_out(tmp_path, capfd, described):
    write_folder(tmp_path, ['000073.png'])
    if not described:
        (tmp_path / 'sheet.json').unlink()
        (tmp_path / 'labels.csv').unlink()
    for stray in ('000073 (1).png', 'montage.png', '000073 copy.PNG', '.hidden.png', 'notes.txt'):
        shutil.copy(str(tmp_path / '000073.png'), str(tmp_path / stray))
    shutil.copy(str(tmp_path / '000073.png'), str(tmp_path / 'psnr_ssim.png'))
    assert list(sheets.open_folder(str(tmp_path)).labels) == ['000073.png']
    warning, = capfd.readouterr().err.splitlines()
    assert warning.startswith(f'warning: {tmp_path}: left out, as ')
    assert warning.endswith(': 000073 (1).png, 000073 copy.PNG, montage.png')


@pytest.mark.parametrize('name', ['stgan_results', 'sample_testing_128', 'sample_testing_multi'])
def test_published_folders_may_have_any_name(published_run, name):
    """What is in them counts."""
    experiment = published_run / 'output' / 'golden'
    (experiment / 'sample_testing_multi').rename(experiment / 'was_multi')
    (experiment / 'sample_testing').rename(experiment / name)
    folder = sheets.open_folder(str(experiment / name))
    assert folder.column_index('reconstruction') == 0
    assert folder.columns[1].attributes == ['Bald'] and len(folder.labels) == 3
    (experiment / 'was_multi').rename(experiment / 'sample_testing')
    multi = sheets.open_folder(str(experiment / 'sample_testing'))
    with pytest.raises(UserError, match='show no reconstruction'):
        multi.column_index('reconstruction')


def test_published_slides_are_no_reconstructions(tmp_path):
    """Ten results, and attributes that nothing tells."""
    imlib.write(str(tmp_path / 'sample_testing' / '000001.png'),
                sheets.compose(images(32, 32, 3), images(10, 32, 32, 3)))
    with pytest.raises(UserError, match="put the experiment's setting.txt into the folder"):
        sheets.open_folder(str(tmp_path / 'sample_testing')).column_index('reconstruction')
    RunConfig(atts=tuple('abcdefghi'), img_size=32).save(str(tmp_path / 'sample_testing'))
    folder = sheets.open_folder(str(tmp_path / 'sample_testing'))
    assert folder.column_index('reconstruction') == 0 and folder.columns[9].attributes == ['i']


def test_conditions_of_the_paper():
    columns = sheets.single_plan(RunConfig(), 2.).columns
    assert sheets.SheetFolder('x', 128, columns, None, {}).intensity == 2
    assert reports.unlike_paper(19962, 128, 2.) == []
    assert reports.unlike_paper(1, 64, 1.) == [
        '1 sheet instead of 19962', '64x64 pixels instead of 128x128',
        '1 intensity instead of 2']
