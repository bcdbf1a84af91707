"""A folder of photos becomes a data root that training takes."""

import shutil

import numpy as np
import people
import pytest
from PIL import Image

from imlib import faces
from stgan import data
from stgan.celeba import CelebA

ALIGN = 'scripts/align_faces.py', 'photos', 'data', '--processes', 1
CSV = 'file,Smiling,Hat\nann.png,1,0\ngrace.jpg,0,1\ncat.png,0,-1\n'


@pytest.fixture
def album(tmp_path):
    """tmp_path with photos/ of two people and a cat, and labels.csv."""
    (tmp_path / 'photos').mkdir()
    shutil.copy(people.ASTRONAUT, str(tmp_path / 'photos' / 'ann.png'))
    shutil.copy(people.HOPPER, str(tmp_path / 'photos' / 'grace.jpg'))
    shutil.copy(people.WITHOUT_FACE[0], str(tmp_path / 'photos' / 'cat.png'))
    (tmp_path / 'labels.csv').write_text(CSV)
    return tmp_path


def test_aligned_images_and_list(run, album):
    done = run(*ALIGN, '--attributes', 'labels.csv')
    assert done.status == 1 and done.out == '2 of 3 photos in data/img_align_celeba\n'
    assert done.err.splitlines() == [
        'warning: photos/cat.png: no face found from 40 pixels on; see --smallest_face',
        'error: 1 of 3 photos could not be used']
    celeba = CelebA(str(album / 'data'))
    assert celeba.atts == ('Smiling', 'Hat') and celeba.names == ['ann.png', 'grace.png']
    assert celeba.labels.tolist() == [[1, 0], [0, 1]]
    ((_, images),) = data.load_images(celeba.paths([0, 1]), 64, celeba.crop, 2)
    assert images.shape == (2, 64, 64, 3)
    # The eyes are where CelebA has them, up to what a person sees in the photo.
    for name, photo in (('ann', people.ASTRONAUT), ('grace', people.HOPPER)):
        aligned = people.pixels(str(album / 'data' / 'img_align_celeba' / f'{name}.png'))
        wanted = faces.warped(people.pixels(photo), faces.alignment(people.LANDMARKS[photo]),
                              (178, 218))
        shift = best_shift(aligned[60:180, 40:140].mean(axis=2), wanted.mean(axis=2))
        assert max(map(abs, shift)) <= 3
    # Again: nothing is made anew, and what is missing is.
    ann, grace = (album / 'data' / 'img_align_celeba' / name for name in ('ann.png', 'grace.png'))
    Image.new('RGB', (178, 218), 'red').save(str(ann))
    grace.unlink()
    (album / 'data' / 'list_attr_celeba.txt').unlink()
    assert run(*ALIGN, '--attributes', 'labels.csv').status == 1
    assert (people.pixels(str(ann)) == [255, 0, 0]).all() and grace.exists()
    assert CelebA(str(album / 'data')).names == ['ann.png', 'grace.png']


def best_shift(part, image):
    """By how many pixels a part [120,100] of an image, from 60, 40, is to be moved to fit it."""
    shifts = [(y, x) for y in range(-6, 7) for x in range(-6, 7)]
    return min(shifts, key=lambda s: np.abs(
        image[60 + s[0]:180 + s[0], 40 + s[1]:140 + s[1]] - part).mean())


def test_square_crops(run, album):
    (album / 'photos' / 'cat.png').unlink()
    done = run(*ALIGN, '--attributes', 'labels.csv', '--size', 96)
    assert done.status == 0, done.err
    celeba = CelebA(str(album / 'data'), use_cropped_img=True)
    assert celeba.names == ['ann.png', 'grace.png'] and not celeba.crop
    assert people.pixels(celeba.paths([0])[0]).shape == (96, 96, 3)
    done = run(*ALIGN, '--attributes', 'labels.csv', '--size', 64)
    assert done.status == 2 and 'is of another size than --size 64' in done.err


def test_names_with_spaces(run, album):
    """As cameras and browsers give them; a space ends a name in CelebA's list."""
    (album / 'photos' / 'cat.png').unlink()
    (album / 'photos' / 'ann.png').rename(album / 'photos' / 'ann  (1).png')
    (album / 'labels.csv').write_text('file,Smiling\nann  (1).png,1\ngrace.jpg,0\n')
    done = run(*ALIGN, '--attributes', 'labels.csv')
    assert done.status == 0, done.err
    celeba = CelebA(str(album / 'data'))
    assert celeba.names == ['ann_(1).png', 'grace.png'] and celeba.labels.tolist() == [[1], [0]]
    shutil.copy(people.ASTRONAUT, str(album / 'photos' / 'ann_(1).png'))
    done = run(*ALIGN)
    assert done.status == 2 and 'ann  (1).png and ann_(1).png would become the same' in done.err


def test_without_attributes_and_with_photos_that_are_not_listed(run, album):
    (album / 'photos' / 'cat.png').unlink()
    (album / 'labels.csv').write_text('file,Hat\nann.png,1\nelse.jpg,0\n')
    done = run(*ALIGN, '--attributes', 'labels.csv')
    assert done.status == 0 and '1 of 2 photos are left out' in done.err
    assert CelebA(str(album / 'data')).names == ['ann.png']
    done = run(*ALIGN)
    assert done.status == 0 and 'give --attributes' in done.out
    assert (album / 'data' / 'img_align_celeba' / 'grace.png').exists()


def test_bad_input(run, album):
    (album / 'empty').mkdir()
    before = sorted(album.rglob('*'))
    for arguments, csv, message in (
            ([], 'file\n', 'labels.csv:1: expected a title and different attribute names'),
            ([], 'file,A,A\n', 'labels.csv:1: expected a title and different'),
            ([], 'file,A b\n', 'labels.csv:1: expected a title and different'),
            ([], '', 'labels.csv: empty; write or download it again'),
            ([], 'file,A\nann.png,2\n', 'labels.csv:2: expected a file name and 1 value, 1 or 0'),
            ([], 'file,A\n\nann.png,1\n', 'labels.csv:2: expected a file name and 1 value'),
            ([], 'file,A\nann.png,1,0\n', 'labels.csv:2: expected'),
            ([], 'file,A\nann.png,1\nann.png,0\n', 'labels.csv:3: ann.png is listed twice'),
            ([], 'file,A\nelse.png,1\n', 'labels.csv: lists no photo of photos'),
            (['--size', 5], CSV, '--size 5: expected 16 to 4096'),
            (['--processes', 0], CSV, '--processes 0: expected 1'),
            (['--smallest_face', 3], CSV, '--smallest_face 3: expected 12')):
        (album / 'labels.csv').write_text(csv)
        done = run(*ALIGN, '--attributes', 'labels.csv', *arguments)
        lines = [line for line in done.err.splitlines() if 'left out' not in line]
        assert done.status == 2 and len(lines) == 1 and message in lines[0], done.err
    for words, message in (
            (['nowhere', 'data'], 'nowhere: no such folder'),
            (['empty', 'data'], 'empty: has no JPEG'),
            (['photos', 'labels.csv'], 'is a file; name another folder with DATAROOT'),
            (['photos', 'data', '--attributes', 'x'], 'x: No such file or directory; is --attr')):
        done = run(ALIGN[0], *words)
        assert done.status == 2 and message in done.err and done.err.count('\n') == 1
    assert sorted(album.rglob('*')) == before
    shutil.copy(str(album / 'photos' / 'ann.png'), str(album / 'photos' / 'ann.jpg'))
    done = run(*ALIGN)
    assert done.status == 2 and 'ann.jpg and ann.png would become the same file' in done.err
