"""Image files and ranges."""

import importlib
import warnings

import numpy as np
import pytest
from PIL import Image

import imlib
from pylib import UserError


def test_an_import_hides_no_warnings():
    before = list(warnings.filters)
    importlib.reload(imlib)
    assert warnings.filters == before


def test_ranges():
    assert imlib.to_uint8(np.array([-1, -.5, 0, 1, 2])).tolist() == [0, 63, 127, 255, 255]
    np.testing.assert_allclose(imlib.to_float(np.array([0, 255], np.uint8)), [-1, 1])
    levels = np.arange(256, dtype=np.uint8)
    assert np.abs(imlib.to_uint8(imlib.to_float(levels)).astype(int) - levels).max() <= 1


def test_round_trip_and_size(tmp_path):
    image = np.random.RandomState(0).randint(0, 256, [5, 7, 3]).astype(np.uint8)
    path = str(tmp_path / 'folder' / 'x.png')
    imlib.write(path, image)
    np.testing.assert_array_equal(imlib.read(path), image)
    assert imlib.size(path) == (7, 5)


def test_grey_images_become_rgb(tmp_path):
    Image.new('L', (4, 4), 9).save(str(tmp_path / 'x.png'))
    assert imlib.read(str(tmp_path / 'x.png')).shape == (4, 4, 3)


@pytest.mark.parametrize('spoil', [lambda b: b[:len(b) // 2], lambda b: b'', lambda b: b'text'])
def test_broken_images_are_named(tmp_path, spoil):
    path = tmp_path / 'x.png'
    Image.fromarray(np.random.RandomState(0).randint(0, 256, [64, 64, 3]).astype(np.uint8)).save(
        str(path))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match='x.png: not a readable image'):
        imlib.read(str(path))


def test_missing_images_are_named(tmp_path):
    for function in (imlib.read, imlib.size):
        with pytest.raises(UserError, match='x.png: not a readable image .No such file'):
            function(str(tmp_path / 'x.png'))


def test_stack_rows():
    images = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    np.testing.assert_array_equal(imlib.stack_rows(images)[3:], images[1])


@pytest.mark.parametrize('mode', ['RGB', 'L', 'P', 'RGBA'])
def test_the_left_of_an_image(tmp_path, mode):
    path = str(tmp_path / 'x.png')
    pixels = np.random.RandomState(0).randint(0, 256, [5, 9, 3]).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    whole = imlib.read(path)
    np.testing.assert_array_equal(imlib.read(path, 4), whole[:, :4])
    assert imlib.read(path, 4).shape == (5, 4, 3) and whole.std() > 10
