"""A server of the page in this process, for tests."""

import contextlib
import io
import json
import math
import re
import shutil
import socket
import struct
import zlib

import numpy as np
from conftest import GOLDEN, ROOT
from PIL import Image

from stgan import page_runs, page_server
from stgan.config import PageConfig


def png(image):
    """The bytes of a Pillow image's PNG."""
    stream = io.BytesIO()
    image.save(stream, 'PNG')
    return stream.getvalue()


def claims(width, height):
    """A PNG that claims to be as large as that, and ends."""
    def chunk(kind, data):
        return (struct.pack('>I', len(data)) + kind + data
                + struct.pack('>I', zlib.crc32(kind + data)))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0,
                                                            0))
            + chunk(b'IDAT', zlib.compress(b'\0' * 1000)) + chunk(b'IEND', b''))


def drawn(number):
    """A picture in the place of a drawn face: 178x218."""
    x, y = np.meshgrid(np.arange(178), np.arange(218))
    return png(Image.fromarray(np.stack([x, y, x * 0 + 40 * number], 2).astype(np.uint8)))


def make_experiment(folder):
    """An experiment of 32x32 pixels, random weights, 60 iterations and two sample sheets."""
    shutil.copytree(str(GOLDEN / 'current_run'), str(folder))
    lines = [json.dumps({'iteration': i, 'epoch': (i - 1) // 14, 'lr': 2e-3, 'seconds': .5,
                         'g_loss': 100 / i, 'd_skipped': float(i > 30),
                         'gp': math.nan if i == 3 else 1.}) for i in range(1, 61)]
    (folder / 'metrics.jsonl').write_text('\n'.join(lines) + '\n')
    (folder / 'sample_training').mkdir()
    for place in ('Epoch_(0)_(7of14)', 'Epoch_(3)_(14of14)'):
        Image.new('RGB', (64, 32), 'blue').save(str(folder / 'sample_training' / f'{place}.jpg'))


class Served:
    """Its port, its `Page`, and a photo that is loaded: `key`."""

    def __init__(self, page, port):
        self.page, self.port, self.host = page, port, f'127.0.0.1:{port}'
        self.address = f'http://{self.host}/'
        self.key, self.attribute = page.add(drawn(1), 'drawn')['id'], page.config.atts[0]

    def connect(self):
        """A connection."""
        return socket.create_connection(('127.0.0.1', self.port), timeout=60)

    def send(self, data):
        """The bytes of the answer to a request's, until it ends."""
        with self.connect() as connection:
            # Who is refused early gets the answer before all is sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            return read_answer(connection)

    def edit(self, value=1):
        """(status, body) of an edit of the photo."""
        body = json.dumps({'faces': [0], 'kind': 'photo', 'values': {self.attribute: value}})
        answer = self.send(f'POST /api/photos/{self.key}/edit HTTP/1.1\r\nHost: {self.host}\r\n'
                           f'Content-Length: {len(body)}\r\n\r\n{body}'.encode())
        first, _, body = answer.partition(b'\r\n\r\n')
        return int(first.split()[1]), body


def read_answer(connection):
    """The bytes of an answer, or of what comes before the other side ends."""
    answer = b''
    with contextlib.suppress(ConnectionResetError):
        while not _is_whole(answer):
            part = connection.recv(1 << 16)
            if not part:
                break
            answer += part
    return answer


def _is_whole(answer):
    first, end, body = answer.partition(b'\r\n\r\n')
    length = re.search(rb'(?i)content-length: (\d+)', first)
    return bool(end) and length is not None and len(body) >= int(length[1])


@contextlib.contextmanager
def serve(page, experiment):
    """A `Served` that serves a `Page`."""
    with page_server.listen('127.0.0.1', 0) as listener:
        guard, _ = page_runs.prepare(PageConfig(experiment_name=experiment),
                                     str(ROOT / 'scripts/page'), drawn, page, listener)
        server = page_server.Server(guard, listener)
        server.start()
        yield Served(page, listener.getsockname()[1])
        server.stop()
