"""Images as arrays: float [H,W,3] in [-1,1] inside the networks, uint8 [H,W,3] in files."""

import struct
import warnings
import zlib

import numpy as np
from PIL import Image

from pylib import UserError, atomic_path

try:
    from isal import isal_zlib as fast_zlib  # decompresses in less than half the time
except ImportError:    # a platform it is not built for
    fast_zlib = zlib

# It counts as none, see `orientation`.
warnings.filterwarnings('ignore', 'Corrupt EXIF data', UserWarning)

# Sheets grow with the number of columns; Pillow's limit for "decompression bombs" still holds.
_READ_ERRORS = (OSError, SyntaxError, ValueError, zlib.error, fast_zlib.error,
                Image.DecompressionBombError)


def read(path, columns=None):
    """Return the image file as uint8 [H,W,3].

    Args:
        columns: return these leftmost ones only, [H,columns,3]; faster for wide PNGs.

    Raises:
        UserError: missing, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            # 8 bits, all rows in order: what sheets are.
            if (columns is not None and image.format == 'PNG' and image.tile[0][3] == 'RGB'
                    and 'interlace' not in image.info):
                return _read_left_of_png(path, image.size, columns)
            return np.asarray(image.convert('RGB'))[:, :columns]
    except _READ_ERRORS as error:
        raise UserError(f'{path}: not a readable image ({_reason(error)})') from None


def _read_left_of_png(path, size, columns):
    """The leftmost columns of an RGB PNG of 8 bits that is not interlaced, uint8 [H,columns,3].

    A PNG's filters look left and up only, so rows can be cut before these are undone, for which
    Pillow takes as long as for decompression.
    """
    with open(path, 'rb') as stream:
        content = stream.read()
    chunks, start = [], 8
    while start + 8 <= len(content):
        length, kind = struct.unpack_from('>I4s', content, start)
        if kind == b'IDAT':
            chunks.append(content[start + 8:start + 8 + length])
        start += 12 + length    # a checksum follows
    width, height = size
    stride = 1 + 3 * width      # the number of the row's filter comes first
    # Limited, as a few bytes may expand to any length; one byte more reaches the final checksum.
    rows = fast_zlib.decompressobj().decompress(b''.join(chunks), height * stride + 1)
    if len(rows) < height * stride:
        raise ValueError('image file is truncated')
    rows = np.frombuffer(rows, np.uint8, height * stride).reshape(height, stride)
    rows = rows[:, :1 + 3 * columns].tobytes()
    return np.asarray(Image.frombytes('RGB', (columns, height), zlib.compress(rows, 0),
                                      'zip', 'RGB'))


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


def orientation(file):
    """Return how an image file (path or binary stream) says it is turned: 1 (upright) to 8.

    Source: EXIF 2.3, tag 0x0112. No image, or one that says nothing, is upright.
    """
    try:
        with Image.open(file) as image:
            value = image.getexif().get(0x0112, 1)
    except Exception:    # noqa: BLE001  (what damaged metadata raises is not documented)
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
