"""Reading and splitting a data set."""

import os
import shutil
import subprocess
import sys

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
    (['a.jpg 1 1 1'], {'count': 'many'}, ":1: says 'many' images"),
    (['a.jpg 1 1'], {'header': 'Bald Young'}, ':2: no attribute Male'),
    (['../a.jpg 1 1 1'], {}, ':3: ../a.jpg: expected a file name within'),
    ([], {}, ': expected a count')])
def test_faults_of_the_list_are_located(tmp_path, rows, options, complaint):
    path = write_list(tmp_path, *rows, **options)
    with pytest.raises(UserError) as error:
        celeba.read_attribute_list(path, ['Bald', 'Male'])
    assert str(error.value).startswith(path + complaint)


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
    with pytest.raises(UserError, match='1 images of the attribute list are missing'):
        celeba.split_parts('partition', ['a', 'b'], str(path))


def test_split_by_ratios():
    parts = celeba.split_parts('0.5,0.2,0.3', ['x'] * 10, '')[1]
    assert parts.tolist() == [0] * 5 + [1] * 2 + [2] * 3


@pytest.mark.parametrize('split', ['half', '0.5,0.5', '0.5,0.6,0.2', '-0.1,0.5,0.6', 'nan,0,1'])
def test_illegal_splits_are_refused(split):
    with pytest.raises(UserError, match='--split'):
        celeba.split_parts(split, ['x'] * 10, '')


def test_folders(tmp_path, toy_data):
    data_set = CelebA(str(toy_data), DEFAULT_ATTRIBUTES)
    assert len(data_set) == 60 and data_set.labels.shape == (60, 13)
    assert sum(len(data_set.part(part)) for part in celeba.PARTS) == 60
    assert data_set.paths([0])[0].endswith('img_align_celeba/000001.jpg')
    with pytest.raises(UserError, match='--use_cropped_img'):
        CelebA(str(tmp_path))
    with pytest.raises(UserError, match='--dataroot'):
        CelebA(str(tmp_path / 'none'))


def test_png_folder_comes_first(tmp_path, toy_data):
    shutil.copytree(str(toy_data), str(tmp_path / 'toy'))
    (tmp_path / 'toy' / 'img_align_celeba_png').mkdir()
    data_set = CelebA(str(tmp_path / 'toy'))
    with pytest.raises(UserError, match=r'2 of 2 images are missing \(000001.png, 000002.png\)'):
        data_set.paths([0, 1])


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
