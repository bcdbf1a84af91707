"""Images as arrays: float [H,W,3] in [-1,1] inside the networks, uint8 [H,W,3] in files."""

import numpy as np
from PIL import Image

from pylib import UserError, atomic_path

# Sheets grow with the number of columns; Pillow's limit for "decompression bombs" still holds.
_READ_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read(path, columns=None):
    """Return the image file as uint8 [H,W,3].

    Args:
        columns: return these leftmost ones only, [H,columns,3].

    Raises:
        UserError: missing, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            # Cropped before all of it is copied.
            part = image if columns is None else image.crop((0, 0, columns, image.height))
            return np.asarray(part.convert('RGB'))
    except _READ_ERRORS as error:
        raise UserError(f'{path}: not a readable image ({_reason(error)})') from None


def size(path):
    """Return (width, height) from an image file's header.

    Raises:
        UserError: missing or no image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except _READ_ERRORS as error:
        raise UserError(f'{path}: not a readable image ({_reason(error)})') from None


def format_name(path):
    """Return the format of an image file by its content, such as 'JPEG' or 'WEBP'; '' if unknown.
    """
    try:
        with Image.open(path) as image:
            return image.format or ''
    except _READ_ERRORS:
        return ''


def orientation(file):
    """Return how an image file (path or binary stream) says it is turned: 1 (upright) to 8.

    Source: EXIF 2.3, tag 0x0112. No image, or one that says nothing, is upright.
    """
    try:
        with Image.open(file) as image:
            return orientation_of(image)
    except Exception:    # what damaged metadata raises is not documented
        return 1


def orientation_of(image):
    """Return how an open Pillow image says it is turned, see `orientation`."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:    # as above
        return 1
    return value if value in range(1, 9) else 1


def upright_size(path):
    """Return (width, height) of an image file as it is to be seen, see `orientation`.

    Raises:
        UserError: missing or no image.
    """
    width, height = size(path)
    return (height, width) if orientation(path) >= 5 else (width, height)


def _reason(error):
    # An OSError of the system has an errno and repeats the path; Pillow's have neither.
    return getattr(error, 'strerror', None) or str(error).splitlines()[0]


def write(path, image, **options):
    """Write uint8 [H,W,3] to `path`, whose extension is the format, atomically.

    Args:
        options: of Pillow's encoder, e.g. quality for JPEG.
    """
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, **options)


def to_uint8(image):
    """[-1,1] -> uint8, cutting fractions off as the published code does."""
    return ((np.clip(image, -1, 1) + 1) / 2 * 255).astype(np.uint8)


def to_float(image):
    """uint8 -> float32 in [-1,1]."""
    return np.asarray(image, np.float32) / np.float32(127.5) - np.float32(1)


def stack_rows(images):
    """[N,H,W,3] -> [N*H,W,3], one image below the other."""
    return np.reshape(images, (-1,) + images.shape[2:])
