"""Photos of strangers are decoded elsewhere, in bounded time and memory."""

import io

import numpy as np
import people
import pytest
from pages import claims
from PIL import Image

from imlib import bounded, photos
from pylib import UserError


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


CUT = encoded(Image.effect_noise((200, 200), 50), 'PNG')[:9000]


def test_the_same_comes_out_as_without_bounds():
    alpha = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10))
    picture = Image.open(people.HOPPER).convert('RGB').resize((10, 6))
    exif = Image.Exif()
    exif[274], exif[315] = 6, 'Ada'    # turned, and by whom
    picture.putalpha(alpha)
    data = encoded(picture, 'PNG', exif=exif.tobytes(), icc_profile=b'x' * 16 + b'RGB ' + b'y' * 9)
    here, there = photos.read(io.BytesIO(data)), bounded.read(data, 'photo')
    assert here.pixels.shape == (10, 6, 3) and here.profile
    assert (here.pixels == there.pixels).all() and (here.alpha == there.alpha).all()
    assert here.profile == there.profile and here.exif == there.exif and b'Ada' in there.exif


def test_a_photo_without_transparency():
    with open(people.HOPPER, 'rb') as stream:
        decoded = bounded.read(stream.read(), 'hopper')
    assert (decoded.pixels == people.pixels(people.HOPPER)).all() and decoded.alpha is None


@pytest.mark.parametrize('data, said', [
    (b'GIF89a', 'not a JPEG'), (b'', 'not a JPEG'), (b'\xff\xd8\xff' + bytes(99), 'not a JPEG'),
    (CUT, 'not a readable image')], ids=range(4))
def test_what_is_wrong_is_told_in_a_line(data, said):
    with pytest.raises(UserError, match=f'me.png: {said}') as caught:
        bounded.read(data, 'me.png')
    assert '\n' not in str(caught.value)


def test_too_many_pixels():
    with pytest.raises(UserError, match='me.png: 40x30 pixels'):
        bounded.read(encoded(Image.new('RGB', (40, 30)), 'PNG'), 'me.png', max_pixels=1000)


def test_memory_is_bounded():
    with pytest.raises(UserError, match='me.png: not a readable image .*MemoryError'):
        # 676 MB, as Pillow keeps it.
        bounded.read(claims(13000, 13000), 'me.png', max_pixels=10 ** 9, memory=600 << 20)


def test_time_is_bounded():
    with open(people.HOPPER, 'rb') as stream, pytest.raises(UserError, match='me.jpg: takes more'):
        bounded.read(stream.read(), 'me.jpg', seconds=.001)
