"""Many clients at once on the page of scripts/page.py, which has to run already.

Each loads an example and moves a slider, as fast as the answers come. Every picture is compared
with the one that a single client got before; what is not the same picture has to be a refusal, or
say that the photo is forgotten, as of more than 32 clients' photos some are.

Examples:
    python scripts/bench/load_page.py http://127.0.0.1:8000/
    python scripts/bench/load_page.py http://127.0.0.1:8000/ \\
        --clients 60 --seconds 20
"""

import http.client
import json
import statistics
import threading
import time
import urllib.parse
from collections import Counter

if not __package__:
    import _checkout

from pylib import ArgumentParser, RunFailed, UserError, run_command

VALUES = [-2, -1.5, -1, -.5, .5, 1, 1.5, 2]


class Client:
    """A visitor with a connection and a photo."""

    def __init__(self, address):
        parts = urllib.parse.urlsplit(address)
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
        about = json.loads(self.ask('GET', '/api/about')[1].decode())
        self._attribute = about['attributes'][0]
        example = urllib.parse.quote(about['examples'][0])
        status, body = self.ask('POST', f'/api/examples/{example}', {})
        while status == 503:
            time.sleep(1)
            status, body = self.ask('POST', f'/api/examples/{example}', {})
        self._photo = json.loads(body.decode())
        self._faces = [0] if self._photo['whole'] else [1]

    def ask(self, method, path, wish=None):
        """(status, body) of a request."""
        body = None if wish is None else json.dumps(wish)
        self._connection.request(method, path, body)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def edit(self, value):
        """(status, picture) of an edit."""
        return self.ask('POST', f'/api/photos/{self._photo["id"]}/edit', {
            'faces': self._faces, 'kind': 'photo', 'values': {self._attribute: value}})


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('address', help='of the page, as it has printed it')
    parser.add_argument('--clients', type=int, default=20, help='how many at once')
    parser.add_argument('--seconds', type=float, default=60., help='how long')
    args = parser.parse_args()
    try:
        alone = Client(args.address)
    except (OSError, ValueError, LookupError) as error:
        raise UserError(f'{args.address}: no page answers there with a model ({error}); start '
                        'scripts/page.py, and give the address that it prints') from None
    expected = {value: alone.edit(value)[1] for value in VALUES}
    times = []
    for value in VALUES * 4:
        since = time.monotonic()
        alone.edit(value)
        times.append(time.monotonic() - since)
    print(f'alone: median {1000 * statistics.median(times):.0f} ms')

    counts, times, end = Counter(), [], time.monotonic() + args.seconds

    def visit(number):
        try:
            client = Client(args.address)
            while time.monotonic() < end:
                value = VALUES[(number + len(times)) % len(VALUES)]
                since = time.monotonic()
                status, picture = client.edit(value)
                times.append(time.monotonic() - since)
                kind = {200: 'right' if picture == expected[value] else 'wrong', 503: 'refused',
                        404: 'forgotten'}
                counts[kind.get(status, 'wrong')] += 1
        except Exception as error:    # in a thread, where nobody would see it
            counts[f'failed: {type(error).__name__} {error}'] += 1

    began = time.monotonic()
    threads = [threading.Thread(target=visit, args=(number,)) for number in range(args.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    seconds = time.monotonic() - began
    print(f'{args.clients} clients, {seconds:.0f} s: {dict(counts)}; {len(times) / seconds:.0f} a '
          f'second, median {1000 * statistics.median(times):.0f} ms, '
          f'95 % within {1000 * times[int(.95 * len(times))]:.0f} ms')
    if set(counts) - {'right', 'refused', 'forgotten'}:
        raise RunFailed('answers were wrong or missing, see above')


if __name__ == '__main__':
    run_command(main)
