"""Photo files of every kind become upright RGB; what they say beside it is kept."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from imlib import photos
from pylib import UserError

PIXELS = np.random.RandomState(0).randint(0, 256, [24, 40, 3]).astype(np.uint8)
GREY = PIXELS[..., 0]
ORIENTATION = 0x0112


def stored(image, format, **options):
    """A file in memory that Pillow has written."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    stream.seek(0)
    return stream


def exif(orientation=1):
    """EXIF with a make, a date, a position and an orientation."""
    tags = Image.Exif()
    tags[271], tags[ORIENTATION] = 'Maker', orientation
    tags[0x8769], tags[0x8825] = {36867: '2020:01:02 03:04:05'}, {1: 'N'}
    return tags


@pytest.mark.parametrize('format, options', [('PNG', {}), ('TIFF', {}), ('WEBP', {'lossless': 1}),
                                             ('TIFF', {'compression': 'tiff_lzw'})])
def test_rgb(format, options):
    photo = photos.read(stored(Image.fromarray(PIXELS), format, **options), 'x')
    np.testing.assert_array_equal(photo.pixels, PIXELS)
    assert photo.pixels.dtype == np.uint8 and photo.alpha is None and photo.profile is None


@pytest.mark.parametrize('format', ['PNG', 'TIFF'])
def test_grey(format):
    photo = photos.read(stored(Image.fromarray(GREY), format), 'x')
    np.testing.assert_array_equal(photo.pixels, np.stack([GREY] * 3, axis=2))
    photo = photos.read(stored(Image.fromarray(GREY > 127), format), 'x')
    np.testing.assert_array_equal(photo.pixels[..., 1], np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize('format', ['PNG', 'TIFF'])
def test_grey_of_16_bits(format):
    values = GREY.astype(np.uint16) * 257
    photo = photos.read(stored(Image.fromarray(values), format), 'x')
    np.testing.assert_array_equal(photo.pixels, np.stack([GREY] * 3, axis=2))


def test_16_bits_by_other_writers():
    values = PIXELS.astype(np.uint16) * 257
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, photometric='rgb', compression='zlib')
    np.testing.assert_array_equal(photos.read(stream, 'x').pixels, PIXELS)
    np.testing.assert_array_equal(photos.read(png_of_16_bits(values), 'x').pixels, PIXELS)


def png_of_16_bits(values, size=None):
    """A PNG of uint16 [H,W,3] written by hand, which Pillow cannot; size: what its header says."""
    def chunk(name, data):
        return (struct.pack('>I', len(data)) + name + data
                + struct.pack('>I', zlib.crc32(name + data)))
    height, width = values.shape[:2]
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    header = struct.pack('>IIBBBBB', *(size or (width, height)), 16, 2, 0, 0, 0)
    return io.BytesIO(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
                      + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def test_palette_with_and_without_transparency():
    image = Image.fromarray(GREY % 4).copy()
    image = Image.frombytes('P', image.size, image.tobytes())
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 8, 7)]
    image.putpalette([value for colour in colours for value in colour])
    wanted = np.array(colours, np.uint8)[GREY % 4]
    photo = photos.read(stored(image, 'PNG'), 'x')
    np.testing.assert_array_equal(photo.pixels, wanted)
    assert photo.alpha is None
    photo = photos.read(stored(image, 'PNG', transparency=2), 'x')
    np.testing.assert_array_equal(photo.pixels, wanted)
    np.testing.assert_array_equal(photo.alpha, np.where(GREY % 4 == 2, 0, 255))


@pytest.mark.parametrize('format', ['PNG', 'TIFF'])
def test_alpha_comes_back(format):
    image = Image.fromarray(np.dstack([PIXELS, GREY]))
    photo = photos.read(stored(image, format), 'x')
    np.testing.assert_array_equal(photo.pixels, PIXELS)
    np.testing.assert_array_equal(photo.alpha, GREY)
    with Image.open(io.BytesIO(photos.encode(photo, 'png'))) as again:
        np.testing.assert_array_equal(np.asarray(again), np.dstack([PIXELS, GREY]))
    opaque = np.asarray(Image.open(io.BytesIO(photos.encode(photo, 'jpeg'))), int)
    wanted = 255 + (PIXELS.astype(int) - 255) * GREY[..., np.newaxis] / 255    # on white
    assert opaque.shape == (24, 40, 3) and np.abs(opaque - wanted).mean() < 12


@pytest.mark.parametrize('format, options', [('JPEG', {'quality': 100}), ('TIFF', {})])
def test_cmyk(format, options):
    colour = Image.new('CMYK', (16, 16), (255, 0, 255, 0))    # green
    photo = photos.read(stored(colour, format, **options), 'x')
    assert (np.abs(photo.pixels.astype(int) - [0, 255, 0]) <= 3).all()


TURNED = {1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1],
          5: PIXELS.transpose(1, 0, 2), 6: np.rot90(PIXELS, -1),
          7: PIXELS[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(PIXELS)}


@pytest.mark.parametrize('format', ['PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation(format, orientation):
    tags = Image.Exif()    # Pillow 9 writes no others into a TIFF
    tags[ORIENTATION] = orientation
    options = {'lossless': True} if format == 'WEBP' else {}
    photo = photos.read(stored(Image.fromarray(PIXELS), format, exif=tags, **options), 'x')
    np.testing.assert_array_equal(photo.pixels, TURNED[orientation])


@pytest.mark.parametrize('format', ['png', 'jpeg'])
def test_exif_and_profile_are_kept_but_for_the_orientation(format):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    source = stored(Image.fromarray(PIXELS), 'JPEG', exif=exif(6), icc_profile=profile)
    photo = photos.read(source, 'x')
    assert photo.pixels.shape == (40, 24, 3)
    with Image.open(io.BytesIO(photos.encode(photo, format))) as again:
        tags = again.getexif()
        assert again.info['icc_profile'] == profile and again.size == (24, 40)
        assert tags[271] == 'Maker' and ORIENTATION not in tags
        assert tags.get_ifd(0x8769)[36867] == '2020:01:02 03:04:05'
        assert tags.get_ifd(0x8825)[1] == 'N'


def test_what_a_jpeg_has_no_room_for_is_left_out(tmp_path):
    tags = Image.Exif()
    tags[271], tags[0x8769] = 'Maker', {0x927c: bytes(70000)}    # the maker's notes
    photo = photos.read(stored(Image.fromarray(PIXELS), 'PNG', exif=tags), 'x')
    path = tmp_path / 'x'
    photos.write(str(path), photo, 'jpeg', 'a' * 70000)
    with Image.open(str(path)) as again:
        assert again.size == (40, 24) and not again.getexif()
    assert photos.read_text(str(path)) == ''
    photos.write(str(path), photo, 'png', 'a' * 70000)
    with Image.open(str(path)) as again:
        assert again.getexif()[271] == 'Maker'
    assert photos.read_text(str(path)) == 'a' * 70000
    # As much as there is room for.
    photos.write(str(path), photo._replace(exif=b'Exif\0\0' + bytes(65527)), 'jpeg', 'a' * 65533)
    assert photos.read_text(str(path)) == 'a' * 65533


def test_profile_of_another_colour_space_is_applied():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes()
    photo = photos.read(stored(Image.fromarray(PIXELS), 'PNG', icc_profile=lab), 'x')
    assert photo.profile is None    # the pixels are RGB now


@pytest.mark.parametrize('format', ['png', 'jpeg'])
def test_text_comes_back(tmp_path, format):
    path = tmp_path / f'x.{format}'
    photos.write(str(path), photos.Decoded(PIXELS), format, '{"a": [1, 2]}')
    assert photos.read_text(str(path)) == '{"a": [1, 2]}'
    photos.write(str(path), photos.Decoded(PIXELS), format)
    assert photos.read_text(str(path)) == ''
    with pytest.raises(UserError, match='no.png: not a readable image'):
        photos.read_text(str(tmp_path / 'no.png'))


def test_png_keeps_every_pixel():
    content = photos.encode(photos.Decoded(PIXELS), 'png', 'text')
    np.testing.assert_array_equal(photos.read(io.BytesIO(content), 'x').pixels, PIXELS)


def jpeg():
    return stored(Image.fromarray(PIXELS), 'JPEG').getvalue()


BAD = {
    'cut short': jpeg()[:-200],
    'header only': jpeg()[:30],
    'empty': b'',
    'text': b'hello',
    'vector graphics': b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>',
    'postscript': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n',
    'another format': stored(Image.fromarray(PIXELS), 'BMP').getvalue(),
    'noise': b'\x89PNG\r\n\x1a\n' + np.random.RandomState(1).bytes(3000),
    'floats': stored(Image.fromarray(GREY.astype(np.float32)), 'TIFF').getvalue(),
    'bomb': png_of_16_bits(np.zeros([2, 2, 3]), (30000, 30000)).getvalue(),
    'large': png_of_16_bits(np.zeros([2, 2, 3]), (6400, 6400)).getvalue(),
}


@pytest.mark.parametrize('kind', sorted(BAD))
def test_bad_files_are_named_in_a_line(tmp_path, kind, recwarn):
    path = tmp_path / 'x.jpg'
    path.write_bytes(BAD[kind])
    with pytest.raises(UserError) as error:
        photos.read(str(path))
    assert str(error.value).startswith(str(path)) and '\n' not in str(error.value)
    assert not list(recwarn)
    if kind in ('bomb', 'large'):
        assert 'at most 40 million' in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match='x.jpg: not a readable image .No such file'):
        photos.read(str(tmp_path / 'x.jpg'))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(str(tmp_path / 'pipe.png'))
    (tmp_path / 'folder.png').mkdir()
    for name in ('pipe.png', 'folder.png'):
        with pytest.raises(UserError, match=f'{name}: is no file'):
            photos.read(str(tmp_path / name))


def test_folders_that_cannot_be_read_are_named(tmp_path):
    for folder, said in ((tmp_path / 'none', 'none: No such file'), (tmp_path, 'has no JPEG')):
        with pytest.raises(UserError, match=said):
            photos.names_in(str(folder))


def test_most_pixels_is_an_argument():
    stream = stored(Image.fromarray(PIXELS), 'PNG')
    assert photos.read(stream, 'x', max_pixels=24 * 40).pixels.shape == (24, 40, 3)
    with pytest.raises(UserError, match='x: 40x24 pixels, at most 0.000959 million'):
        photos.read(stream, 'x', max_pixels=24 * 40 - 1)
