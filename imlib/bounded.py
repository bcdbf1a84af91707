"""Photo files of strangers, decoded in a process of its own: no file takes memory or time without
end, and none ends the process that asked.
"""

import io
import json
import os
import subprocess
import sys

import numpy as np

from imlib import photos
from pylib import UserError

SECONDS = 20               # of waiting for a photo
MEMORY = 2 << 30           # bytes of address space for decoding
# How files of the formats begin. Others are refused without a process.
_BEGINNINGS = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'RIFF', b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'
# Exit status of the child for a photo that is refused, as it is for bad input.
_REFUSED = UserError.exit_status


def read(data, name, max_pixels=photos.MAX_PIXELS, seconds=SECONDS, memory=MEMORY):
    """Decode the bytes of a photo, see `photos.read`.

    Args:
        data: bytes of the file; name: what messages call it.

    Raises:
        UserError: no photo, a damaged one, or one that takes too much memory or time.
    """
    if not data.startswith(_BEGINNINGS):
        raise UserError(f'{name}: not a JPEG, PNG, WebP or TIFF')
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = dict(os.environ, OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1')
    command = [sys.executable, '-c', 'from imlib.bounded import main; main()', str(max_pixels),
               str(memory)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, cwd=root, env=environment,
                              timeout=seconds)
    except subprocess.TimeoutExpired:
        raise UserError(f'{name}: takes more than {seconds:g} seconds to decode') from None
    if done.returncode == _REFUSED:
        raise UserError(f'{name}: {done.stderr.decode("utf-8", "replace").strip()}')
    try:
        return _unpacked(done.stdout)
    except (ValueError, LookupError, TypeError):    # it was ended, or has crashed
        raise UserError(f'{name}: cannot be decoded within {memory >> 20} MB of memory, or is '
                        'damaged') from None


def main():
    """The child: a file on standard input, what it holds on standard output."""
    max_pixels, memory = map(int, sys.argv[1:])
    _limit_memory(memory)
    try:
        decoded = photos.read(io.BytesIO(sys.stdin.buffer.read()), 'photo', max_pixels)
    except UserError as error:
        print(str(error).partition('photo: ')[2], file=sys.stderr)
        sys.exit(_REFUSED)
    alpha = b'' if decoded.alpha is None else decoded.alpha.tobytes()
    parts = [decoded.profile or b'', decoded.exif, alpha]
    head = {'shape': decoded.pixels.shape, 'sizes': [len(part) for part in parts]}
    for part in (json.dumps(head).encode() + b'\n', *parts, np.ascontiguousarray(decoded.pixels)):
        sys.stdout.buffer.write(part)


def _limit_memory(most):
    try:
        import resource  # noqa: PLC0415  (which not every system has)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, ValueError, OSError):
        pass    # the limit of pixels remains


def _unpacked(output):
    line, _, rest = output.partition(b'\n')
    head = json.loads(line.decode())
    parts, start = [], 0
    for size in head['sizes']:
        parts.append(rest[start:start + size])
        start += size
    profile, exif, alpha = parts
    pixels = np.frombuffer(rest, np.uint8, offset=start).reshape(head['shape'])
    if pixels.shape[2:] != (3,):
        raise ValueError('no colours')
    planes = np.frombuffer(alpha, np.uint8).reshape(pixels.shape[:2]) if alpha else None
    return photos.Decoded(pixels, planes, profile or None, exif)
