"""The check of a data set finds what is wrong with it."""

import shutil

import pytest
from PIL import Image

from pylib import read_json


@pytest.fixture
def data(tmp_path, toy_data):
    """A copy of the toy data in tmp_path/data."""
    shutil.copytree(str(toy_data), str(tmp_path / 'data'))
    return tmp_path / 'data'


def check(run, *flags):
    return run('scripts/check_data.py', '--dataroot', 'data', '--processes', 1, *flags)


def test_a_good_data_set(run, data):
    done = check(run)
    assert done.status == 0, done.err
    assert '60 images, 40 attributes; train 52, val 2, test 6' in done.out
    assert done.out.splitlines()[1] == '     60 of 178x218 pixels'
    assert done.out.splitlines()[-1] == 'data: all is well'


def test_turned_images_are_counted_and_are_no_problem(run, data):
    path = data / 'img_align_celeba' / '000007.jpg'
    metadata = Image.Exif()
    metadata[0x112] = 6
    Image.open(str(path)).transpose(Image.ROTATE_90).save(str(path), exif=metadata)
    with Image.open(str(path)) as image:
        assert image.size == (218, 178)
    done = check(run, '--report', 'report.json')
    assert done.status == 0, done.err
    assert '60 of 178x218 pixels' in done.out and '1 turned as their EXIF' in done.out
    assert read_json('report.json')['turned as their EXIF orientation says'] == [
        'data/img_align_celeba/000007.jpg: orientation 6']


def test_squares_are_counted_by_size(run, data):
    folder = data / 'img_align_celeba'
    for number in range(1, 61):
        size = 64 + number % 2
        Image.effect_noise((size, size), number).convert('RGB').save(
            str(folder / f'{number:06d}.jpg'))
    folder.rename(data / 'img_crop_celeba')
    done = check(run, '--use_cropped_img')
    assert done.status == 0, done.out
    assert '30 of 65x65 pixels' in done.out and '30 of 64x64 pixels' in done.out


def test_what_is_named_otherwise_is_said(run, data):
    for path in (data / 'img_align_celeba').glob('*.jpg'):
        path.rename(path.with_suffix('.JPG'))
    done = check(run)
    assert done.status == 0
    assert '60 files found by another extension than listed (000001.JPG for 000001.jpg)' in done.out


def test_everything_wrong_is_found_and_reported(run, data):
    images = data / 'img_align_celeba'
    (images / '000002.jpg').unlink()
    (images / '000003.jpg').write_bytes((images / '000004.jpg').read_bytes()[:500])
    Image.new('RGB', (200, 218)).save(str(images / '000005.jpg'))
    shutil.copy(str(images / '000060.jpg'), str(images / '000006.jpg'))
    path = data / 'list_attr_celeba.txt'
    lines = path.read_text().splitlines()
    lines[-2] = lines[-3]    # 000058.jpg again, instead of 000059.jpg
    path.write_text('\n'.join(lines) + '\n')
    done = check(run, '--split', '0.9,0.05,0.05', '--report', 'report.json')
    assert done.status == 1 and done.err.endswith('error: data: 6 problems\n')
    found = read_json('report.json')
    assert found['missing'] == ['data/img_align_celeba/000002.jpg']
    (unreadable,) = found['unreadable']
    assert unreadable.startswith('data/img_align_celeba/000003.jpg: cut short')
    assert found['of another size'] == [
        "data/img_align_celeba/000005.jpg: 200x218 pixels, expected CelebA's aligned 178x218"]
    assert found['sizes'] == {'178x218': 57, '200x218': 1}
    assert found['duplicates'][1] == ('data/img_align_celeba/000006.jpg = '
                                      'data/img_align_celeba/000060.jpg, in train and test')
    assert found['listed twice'] == ['000058.jpg']
    for text in ('000002.jpg', '000003.jpg', '000005.jpg', '1 listed twice'):
        assert text in done.out


def test_an_empty_image_folder(run, data):
    shutil.rmtree(str(data / 'img_align_celeba'))
    (data / 'img_align_celeba').mkdir()
    done = check(run)
    assert done.status == 2 and done.err.endswith('; it is empty\n') and done.err.count('\n') == 1


@pytest.mark.parametrize('flags, complaint', [
    (['--dataroot', 'nowhere'], '--dataroot nowhere: no such folder'),
    (['--processes', '0'], '--processes 0'),
    (['--use_cropped_img'], 'img_crop_celeba: no such folder')])
def test_bad_input(run, data, flags, complaint):
    done = check(run, *flags)
    assert done.status == 2 and complaint in done.err and done.err.count('\n') == 1
