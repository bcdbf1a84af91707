"""Photo files of all kinds as upright pixels, and back with what the files said beside them."""

import io
import os
import warnings
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

import imlib
from pylib import UserError, atomic_path

FORMATS = 'JPEG', 'PNG', 'WEBP', 'TIFF'
EXTENSIONS = '.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff'
# A file of some hundred bytes may claim to be an image of any size ("decompression bomb").
MAX_PIXELS = 40_000_000
QUALITY = 95    # of JPEG
JPEG_SIDE = 65500             # most pixels of a JPEG's rows and columns, says libjpeg
JPEG_NOTE = (1 << 16) - 3     # most bytes of EXIF, or of a comment, in one

# Tags that say something about the photo, not about how its file keeps the pixels: description,
# make, model, resolution, software, date, artist, copyright, the sub-directories Exif and GPS. A
# thumbnail, which would show the photo as it was, is none of them.
_KEPT_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)
_KEPT_DIRECTORIES = 0x8769, 0x8825
# What Pillow has to do to see an image upright that says it is turned, by EXIF's number.
_TURNS = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM,
          5: Image.TRANSPOSE, 6: Image.ROTATE_270, 7: Image.TRANSVERSE, 8: Image.ROTATE_90}


class Decoded(NamedTuple):
    """What a photo file holds."""

    pixels: np.ndarray                    # uint8 [H,W,3], upright
    alpha: Optional[np.ndarray] = None    # uint8 [H,W]
    profile: Optional[bytes] = None       # ICC
    exif: bytes = b''                     # without orientation and thumbnail


def names_in(folder):
    """Names of the files in a folder that their extensions call photos, sorted.

    Raises:
        UserError: there is none, or the folder cannot be read.
    """
    try:
        found = os.listdir(folder)
    except OSError as error:
        raise UserError(f'{folder}: {error.strerror}') from None
    names = sorted(name for name in found
                   if name.lower().endswith(EXTENSIONS) and not name.startswith('.'))
    if not names:
        raise UserError(f'{folder}: has no JPEG, PNG, WebP or TIFF')
    return names


def read(file, name=None, max_pixels=MAX_PIXELS):
    """Decode a JPEG, PNG, WebP or TIFF, of several images the first one.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB; a colour profile that is not of RGB is
    applied.

    Args:
        file: path, or binary stream; name: what messages call it; default: as it is.
        max_pixels: the most that are decoded, on which memory depends.

    Raises:
        UserError: missing, damaged, too large, or something else.
    """
    name = name or str(file)
    too_many = f', at most {max_pixels / 1e6:g} million are edited; reduce it'
    if isinstance(file, (str, os.PathLike)) and os.path.exists(file) and not os.path.isfile(file):
        raise UserError(f'{name}: is no file')    # to open a pipe would wait for its other end
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')    # of what is an error, or borne, below
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise UserError(f'{name}: {image.width}x{image.height} pixels{too_many}')
                return _decoded(image, name)
    except UserError:
        raise
    except Image.DecompressionBombError:    # which Pillow raises on its own
        raise UserError(f'{name}: hundreds of millions of pixels{too_many}') from None
    except Image.UnidentifiedImageError:
        raise UserError(f'{name}: not a JPEG, PNG, WebP or TIFF') from None
    except Exception as error:    # what decoders raise for hostile files is not documented
        reason = getattr(error, 'strerror', None) or (
            str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f'{name}: not a readable image ({reason})') from None


def _decoded(image, name):
    exif = _kept_exif(image)
    # Pillow turns a TIFF when it loads it; whether it says so afterwards depends on the version.
    orientation = 1 if image.format == 'TIFF' else imlib.orientation_of(image)
    image.load()
    profile, alpha = image.info.get('icc_profile'), None
    if image.mode == 'F':
        raise UserError(f'{name}: pixels are floating-point numbers; save it with 8 or 16 bits')
    if image.mode.startswith('I'):
        image = Image.fromarray(_in_8_bits(np.asarray(image), name))
    elif 'A' in image.mode.upper()[1:] and image.mode != 'LAB' or 'transparency' in image.info:
        image = image.convert('RGBA')
        alpha = image.getchannel('A')
    if profile and profile[16:20] != b'RGB ':
        image, profile = _in_rgb(image, profile), None
    if image.mode != 'RGB':    # which would be copied
        image = image.convert('RGB')
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
        alpha = alpha and alpha.transpose(_TURNS[orientation])
    return Decoded(np.asarray(image), None if alpha is None else np.asarray(alpha), profile, exif)


def _in_8_bits(values, name):
    """Grey levels of 16 bits, which Pillow may give in 32, in 8."""
    values = values.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UserError(f'{name}: more than 16 bits per pixel; save it with 8 or 16')
    return ((values * 255 + 32767) // 65535).astype(np.uint8)


def _in_rgb(image, profile):
    """An image of another colour space, by its profile; as it is if that is damaged."""
    try:
        return ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                                         ImageCms.createProfile('sRGB'), outputMode='RGB')
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def _kept_exif(image):
    try:
        source, kept = image.getexif(), Image.Exif()
        for tag in _KEPT_TAGS:
            if tag in source:
                kept[tag] = source[tag]
        for directory in _KEPT_DIRECTORIES:
            values = source.get_ifd(directory)
            if values:
                kept[directory] = dict(values)
        return kept.tobytes() if len(kept) else b''
    except Exception:    # what damaged metadata raises is not documented
        return b''


def encode(photo, format, text=''):
    """The bytes of a file.

    Args:
        photo: `Decoded`; JPEG has no transparency, so it is put on white, and less space for EXIF
            and text: what is longer than `JPEG_NOTE` is left out.
        format: 'png' or 'jpeg'.
        text: what `read_text` is to find in it.
    """
    image, options = Image.fromarray(photo.pixels), {}
    if photo.profile:
        options['icc_profile'] = photo.profile
    if photo.exif and (format == 'png' or len(photo.exif) <= JPEG_NOTE):
        options['exif'] = photo.exif
    if format == 'png':
        if photo.alpha is not None:
            image.putalpha(Image.fromarray(photo.alpha))
        notes = PngImagePlugin.PngInfo()
        if text:
            notes.add_text(TEXT, text)
        # The lowest level takes a third of the time, for files that are a third larger.
        options.update(format='PNG', pnginfo=notes, compress_level=1)
    else:
        if photo.alpha is not None:
            white = Image.new('RGB', image.size, 'white')
            image = Image.composite(image, white, Image.fromarray(photo.alpha))
        options.update(format='JPEG', quality=QUALITY, subsampling=0)
    stream = io.BytesIO()
    image.save(stream, **options)
    if format == 'jpeg' and 0 < len(text.encode()) <= JPEG_NOTE:
        return _with_comment(stream.getvalue(), text.encode())
    return stream.getvalue()


def _with_comment(jpeg, comment):
    """A JPEG with a comment. Pillow 9 fails where this and EXIF together take more than 64 kB."""
    place = 2
    while jpeg[place + 1] & 0xf0 == 0xe0:    # segments of applications: JFIF, EXIF, profile
        place += 2 + int.from_bytes(jpeg[place + 2:place + 4], 'big')
    head = b'\xff\xfe' + (len(comment) + 2).to_bytes(2, 'big')
    return jpeg[:place] + head + comment + jpeg[place:]


TEXT = 'stgan'    # keyword of the text in a PNG


def write(path, photo, format, text=''):
    """Write what `encode` gives, atomically."""
    content = encode(photo, format, text)
    with atomic_path(path) as temporary, open(temporary, 'wb') as stream:
        stream.write(content)


def read_text(path):
    """The text that `encode` put into a file; '' if there is none.

    Raises:
        UserError: no such image.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()    # a PNG may have its texts behind its pixels
            text = image.info.get(TEXT) or image.info.get('comment', b'')
            return text.decode('utf-8', 'replace') if isinstance(text, bytes) else str(text)
    except Exception as error:
        raise UserError(f'{path}: not a readable image ({error})') from None
