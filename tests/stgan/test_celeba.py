"""Reading and splitting a data set."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pylib import UserError
from stgan import celeba
from stgan.attributes import DEFAULT_ATTRIBUTES
from stgan.celeba import CelebA

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEADER = 'Bald Male Young'


def write_list(folder, *rows, count=None, header=HEADER):
    path = folder / 'list_attr_celeba.txt'
    path.write_text('\n'.join([str(len(rows) if count is None else count), header, *rows]) + '\n')
    return str(path)


def test_attributes_are_found_by_name(tmp_path):
    path = write_list(tmp_path, 'a.jpg -1  1 -1', 'b.jpg  1 -1  1')
    atts, names, labels = celeba.read_attribute_list(path, ['Young', 'Bald'])
    assert (atts, names) == (('Young', 'Bald'), ['a.jpg', 'b.jpg'])
    np.testing.assert_array_equal(labels, [[0, 0], [1, 1]])
    assert celeba.read_attribute_list(path)[0] == ('Bald', 'Male', 'Young')


@pytest.mark.parametrize('rows, options, complaint', [
    (['a.jpg 1 1 1', 'b.jpg 1 1'], {}, ':4: expected 4 fields, found 3'),
    (['a.jpg 1 1 1', 'b.jpg 1 0 1'], {}, ":4: expected values 1 or -1, found '0'"),
    (['a.jpg 1 1 1'], {'count': 2}, ":1: says '2' images, but 1 lines follow"),
    (['a.jpg 1 1 1'], {'count': '²'}, ":1: expected the number of images, found '²'"),
    (['a.jpg 1 1 1'], {'count': 'many'}, ":1: expected the number of images, found 'many'"),
    (['a.jpg 1 1'], {'header': 'Bald Young'}, ':2: no attribute Male'),
    (['a.jpg 1 1 1'], {'header': 'Bald Bald Male'}, ':2: Bald: named twice'),
    (['a.jpg 1 1 1'], {'header': 'b.jpg 1 -1 1'}, ':2: '),
    (['b.jpg -1 1 1'], {'header': 'a.jpg 1'}, ':2: expected the attribute names, found the labels'),
    (['../a.jpg 1 1 1'], {}, ':3: ../a.jpg: expected a file name within'),
    ([], {}, ': expected a count')])
def test_faults_of_the_list_are_located(tmp_path, rows, options, complaint):
    path = write_list(tmp_path, *rows, **options)
    with pytest.raises(UserError) as error:
        celeba.read_attribute_list(path, ['Bald', 'Male'])
    assert str(error.value).startswith(path + complaint)


PLAIN = '2\nBald Male\na.jpg -1  1\nb.jpg  1 -1\n'
KAGGLE = 'image_id,Bald,Male\na.jpg,-1,1\nb.jpg,1,-1\n'


@pytest.mark.parametrize('content', [
    PLAIN.encode(), b'\xef\xbb\xbf' + PLAIN.encode(), PLAIN.replace('\n', '\r\n').encode(),
    b'\n \n' + PLAIN.encode() + b'\n\n', PLAIN.replace(' ', '\t').encode(), KAGGLE.encode(),
    b'\xef\xbb\xbf' + KAGGLE.replace('\n', '\r\n').encode(), KAGGLE.replace(',', ';').encode(),
    KAGGLE.replace('a.jpg', '"a.jpg"').replace(',1', ', 1').encode(), b'2\n' + KAGGLE.encode(),
    PLAIN.encode('utf-16'), b'\xfe\xff' + KAGGLE.encode('utf-16-be'),
    b'2\n\n\n' + PLAIN[2:].encode(), b'2\n\n' + KAGGLE.encode()])
@pytest.mark.parametrize('extension', ['.txt', '.csv'])
def test_lists_as_people_have_them(tmp_path, content, extension):
    """Marks and line ends of Windows, blank lines, commas or semicolons, under either name."""
    (tmp_path / 'img_align_celeba').mkdir()
    (tmp_path / ('list_attr_celeba' + extension)).write_bytes(content)
    data_set = CelebA(str(tmp_path))
    assert (data_set.atts, data_set.names) == (('Bald', 'Male'), ['a.jpg', 'b.jpg'])
    np.testing.assert_array_equal(data_set.labels, [[0, 1], [1, 0]])


@pytest.mark.parametrize('content, complaint', [
    (PLAIN[2:], ":1: expected the number of images, found 'Bald Male'; it goes before"),
    ('\n' + PLAIN[2:], ":2: expected the number of images, found 'Bald Male'"),
    (PLAIN[12:], ":1: expected the number of images, found 'a.jpg -1 1'"),
    (PLAIN.replace('Bald', 'Bald Head'), ':2: 3 attribute names, but 2 values follow; names have '
                                         'no spaces'),
    ('\n<!DOCTYPE html>\n<html><body>Virus scan warning', ":2: a web page ('<!DOCTYPE html>')"),
    (KAGGLE.replace('-1', '0'), ":2: expected values 1 or -1, found '0'"),
    (KAGGLE.replace(',1\n', '\n'), ':1: 2 attribute names, but 1 values follow'),
    (PLAIN.replace('a.jpg', 'a\0.jpg'), ':3: zero bytes, which no text has; download it again'),
    (PLAIN.encode('utf-16-le').decode(), ':1: zero bytes'), ('\0' * 4096, ':1: zero bytes'),
    ('60,000' + PLAIN[1:], ":1: says '60000' images, but 2 lines follow"),
    ('60.000' + PLAIN[1:], ":1: says '60000' images, but 2 lines follow"),
    ('', ': empty'), (' \n\n', ': empty'), ('2\n', ': expected a count'),
    ('image_id,Bald,Male\n', ': expected a count'), ('2,\n', ': expected a count')])
def test_other_files_under_the_name_of_the_list(tmp_path, content, complaint):
    path = tmp_path / 'list_attr_celeba.txt'
    path.write_text(content)
    with pytest.raises(UserError) as error:
        celeba.read_attribute_list(str(path))
    assert str(error.value).startswith(str(path) + complaint)
    assert '\n' not in str(error.value)


def test_a_list_in_another_encoding(tmp_path):
    path = tmp_path / 'list_attr_celeba.txt'
    path.write_bytes(PLAIN.replace('Bald', 'Garçon').encode('latin-1'))
    with pytest.raises(UserError, match='list_attr_celeba.txt: not a text file in UTF-8'):
        celeba.read_attribute_list(str(path))


def test_attribute_names_with_spaces_in_csv(tmp_path):
    path = tmp_path / 'list.csv'
    path.write_text(KAGGLE.replace('Bald', 'No hair'))
    assert celeba.read_attribute_list(str(path))[0] == ('No hair', 'Male')


@pytest.mark.parametrize('content', [
    b'\xef\xbb\xbfb 2\r\na 0\r\nc 1\r\n', b'\n\nb 2\na 0\nc 1\n',
    b'image_id,partition\nb,2\na,0\nc,1\n',
    b'\xef\xbb\xbfimage_id;partition\r\nb;2\r\na;0\r\nc;1\r\n'])
def test_partitions_as_people_have_them(tmp_path, content):
    path = tmp_path / 'list_eval_partition.csv'
    path.write_bytes(content)
    (tmp_path / 'img_align_celeba').mkdir()
    (tmp_path / 'list_attr_celeba.txt').write_text('3\nBald\na 1\nb 1\nc -1\n')
    data_set = CelebA(str(tmp_path))
    assert data_set.split == 'list_eval_partition.csv'
    assert [data_set.part(part).tolist() for part in celeba.PARTS] == [[0], [2], [1]]


def test_a_web_page_as_partition(tmp_path):
    path = tmp_path / 'list_eval_partition.txt'
    path.write_text('<html>')
    with pytest.raises(UserError, match='partition.txt:1: a web page'):
        celeba.read_partition(str(path), ['a'])


def test_split_by_position_is_the_published_one():
    names = ['x'] * celeba.CELEBA_IMAGES
    description, parts = celeba.split_parts('auto', names, 'no/such/file')
    assert description == 'by position as published'
    assert [int(n) for n in np.bincount(parts)] == [182000, 637, 19962]
    assert parts[181999] == 0 and parts[182000] == 1 and parts[182637] == 2


def test_split_by_partition_file(tmp_path):
    path = tmp_path / 'list_eval_partition.txt'
    path.write_text('b 2\na 0\nc 1\n')
    assert celeba.split_parts('auto', ['a', 'b', 'c'], str(path))[1].tolist() == [0, 2, 1]
    path.write_text('b 2\na 3\n')
    with pytest.raises(UserError, match=r'partition.txt:2: expected `file 0|1|2`'):
        celeba.split_parts('partition', ['a', 'b'], str(path))
    path.write_text('a 0\n')
    with pytest.raises(UserError, match='lacks 1 image of the attribute list'):
        celeba.split_parts('partition', ['a', 'b'], str(path))


def test_split_by_ratios():
    parts = celeba.split_parts('0.5,0.2,0.3', ['x'] * 10, '')[1]
    assert parts.tolist() == [0] * 5 + [1] * 2 + [2] * 3


@pytest.mark.parametrize('split', ['half', '0.5,0.5', '0.5,0.6,0.2', '-0.1,0.5,0.6', 'nan,0,1'])
def test_illegal_splits_are_refused(split):
    with pytest.raises(UserError, match=r'^split .*train.py --split'):
        celeba.split_parts(split, ['x'] * 10, '')


def test_folders(tmp_path, toy_data):
    data_set = CelebA(str(toy_data), DEFAULT_ATTRIBUTES)
    assert len(data_set) == 60 and data_set.labels.shape == (60, 13)
    assert sum(len(data_set.part(part)) for part in celeba.PARTS) == 60
    assert data_set.paths([0])[0].endswith('img_align_celeba/000001.jpg')
    with pytest.raises(UserError, match='img_align_celeba: no such folder; it is empty; .*'
                                        '--use_cropped_img'):
        CelebA(str(tmp_path))
    (tmp_path / 'images').mkdir()
    with pytest.raises(UserError, match='there is images; '):
        CelebA(str(tmp_path))
    with pytest.raises(UserError, match='--dataroot'):
        CelebA(str(tmp_path / 'none'))


def test_png_folder_comes_first(tmp_path, toy_data):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    (tmp_path / 'toy' / 'img_align_celeba_png').mkdir()
    data_set = CelebA(str(tmp_path / 'toy'))
    with pytest.raises(UserError, match=r'lacks 2 of 2 images \(000001.png, 000002.png\)'):
        data_set.paths([0, 1])


@pytest.fixture
def data_set(tmp_path, toy_data):
    """A copy of the toy data, a `pathlib.Path`."""
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    return tmp_path / 'toy'


def test_kaggles_archive(data_set):
    """Images in a folder within the folder, lists as .csv without a count."""
    (data_set / 'img_align_celeba').rename(data_set / 'images')
    (data_set / 'img_align_celeba').mkdir()
    (data_set / 'images').rename(data_set / 'img_align_celeba' / 'img_align_celeba')
    before = CelebA(str(data_set))
    for name, skipped, header in (('list_attr_celeba', 1, 'image_id '),
                                  ('list_eval_partition', 0, 'image_id partition\n')):
        text = (data_set / (name + '.txt')).read_text()
        text = header + ''.join(text.splitlines(True)[skipped:])
        (data_set / (name + '.txt')).unlink()
        (data_set / (name + '.csv')).write_text(
            '\n'.join(','.join(line.split()) for line in text.splitlines()) + '\n')
    read = CelebA(str(data_set))
    assert read.notes == [f'the images are in {data_set}/img_align_celeba/img_align_celeba']
    assert (read.atts, read.names) == (before.atts, before.names)
    np.testing.assert_array_equal(read.labels, before.labels)
    for part in celeba.PARTS:
        np.testing.assert_array_equal(read.part(part), before.part(part))
    assert all(os.path.exists(path) for path in read.paths(range(60)))


def test_an_image_folder_far_down(data_set):
    for name in ('one', 'two'):
        (data_set / 'img_align_celeba').rename(data_set / name)
        (data_set / 'img_align_celeba').mkdir()
        (data_set / name).rename(data_set / 'img_align_celeba' / 'img_align_celeba')
    read = CelebA(str(data_set))
    assert read.folder == str(data_set) + 3 * '/img_align_celeba'
    assert read.notes == [f'the images are in {read.folder}'] and read.paths([59])


@pytest.mark.usefixtures('read_only')    # for root may list every folder
def test_an_image_folder_that_may_not_be_listed():
    with tempfile.TemporaryDirectory() as folder:
        write_list(Path(folder), 'a.jpg 1 1 1')
        images = Path(folder) / 'img_align_celeba'
        images.mkdir(0o300)
        with pytest.raises(UserError) as error:
            CelebA(folder).paths([0])
        images.chmod(0o700)
    assert str(error.value) == f'{images}: cannot be listed (Permission denied)'


def test_folders_within_the_folder_that_are_listed(data_set):
    """Only a folder of the same name, beside no images, is taken for the image folder."""
    (data_set / 'img_align_celeba' / 'img_align_celeba').mkdir()
    assert CelebA(str(data_set)).folder == str(data_set / 'img_align_celeba')


@pytest.mark.parametrize('extension', ['.png', '.jpeg', '.JPG', '.JPEG', '.PNG'])
def test_other_extensions_than_listed(data_set, extension):
    for path in (data_set / 'img_align_celeba').glob('*.jpg'):
        path.rename(path.with_suffix(extension))
    read = CelebA(str(data_set))
    assert read.paths([0, 1])[1] == str(data_set / 'img_align_celeba' / ('000002' + extension))
    assert read.notes == [f'2 files found by another extension than listed (000001{extension} for '
                          '000001.jpg)']
    read.paths([0, 1])
    assert len(read.notes) == 1


def test_extensions_that_are_ambiguous(data_set):
    folder = data_set / 'img_align_celeba'
    shutil.copy(str(folder / '000002.jpg'), str(folder / '000002.png'))
    read = CelebA(str(data_set))
    assert read.paths([1]) == [str(folder / '000002.jpg')] and not read.notes    # as listed
    (folder / '000002.jpg').rename(folder / '000002.JPG')
    with pytest.raises(UserError, match='000002.jpg is missing, and 000002.JPG and 000002.png '
                                        'could both be meant'):
        read.paths([1])


def test_what_is_there_is_said_if_no_image_is(data_set):
    folder = data_set / 'img_align_celeba'
    for path in folder.glob('*.jpg'):
        path.rename(path.with_suffix('.webp'))
    with pytest.raises(UserError, match=r'lacks 1 of 1 image \(000003.jpg\); there is '
                                        r'000001.webp, 000002.webp, 000003.webp, ...$'):
        CelebA(str(data_set)).paths([2])


def test_labels_need_no_images(data_set):
    shutil.rmtree(str(data_set / 'img_align_celeba'))
    assert len(CelebA(str(data_set), labels_only=True)) == 60


def test_most_images_of_another_size_are_refused(data_set):
    """Single ones are left to decoding, the first image, too."""
    folder = data_set / 'img_align_celeba'
    Image.new('RGB', (1024, 1024)).save(str(folder / '000001.jpg'))
    read = CelebA(str(data_set))
    assert len(read.paths(range(60))) == 60
    for number in range(2, 50):
        Image.new('RGB', (160, 200)).save(str(folder / f'{number:06d}.jpg'))
    with pytest.raises(UserError, match='1024x1024 pixels, expected .*178x218.*--use_cropped_img'):
        read.paths(range(60))


def test_aligned_images_are_no_squares(data_set):
    (data_set / 'img_align_celeba').rename(data_set / 'img_crop_celeba')
    with pytest.raises(UserError, match='000001.jpg: 178x218 pixels, expected a square; crop'):
        CelebA(str(data_set), use_cropped_img=True).paths([0, 1])


def test_images_of_another_size_are_refused_where_crops_are_made(tmp_path, toy_data):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    path = tmp_path / 'toy' / 'img_align_celeba' / '000001.jpg'
    Image.new('RGB', (300, 300)).save(str(path))
    with pytest.raises(UserError, match='000001.jpg: 300x300 pixels, expected .*178x218'):
        CelebA(str(tmp_path / 'toy')).paths([0])


def test_lists_need_no_tensorflow():
    """It takes seconds to load; a command that is wrong about its list should not."""
    code = ('import sys\n'
            'import psnr_ssim, stgan.celeba, stgan.config, stgan.sheets, stgan.stream\n'
            'sys.exit("tensorflow" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0
