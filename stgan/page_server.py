"""The page of scripts/page.py over HTTP: who is let in, how much, and in which order.

Made for one or a few people on their own machine. It answers under its own names only, so that no
other web site can use it through a visitor's browser; every request is bounded in size and time.
"""

import asyncio
import base64
import concurrent.futures
import functools
import hmac
import http.cookies
import ipaddress
import json
import os
import socket
import threading
import time
import urllib.parse
from collections import OrderedDict

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from pylib import UserError

WORKERS, MOST_WAITING = 2, 40     # edits at once, and that may wait
PATIENCE = 30                     # seconds that an edit waits
MOST_BYTES = 20 << 20             # of a photo's file
MOST_JSON = 1 << 17               # bytes of a request that is no photo
MOST_ARRIVING = 4 * MOST_BYTES    # bytes of all uploads that are on their way
UPLOAD_SECONDS, IDLE_SECONDS, REQUEST_SECONDS = 30, 15, 120
MOST_HEADERS, MOST_CONNECTIONS = 16 << 10, 400
LOOPBACK = 'localhost', '127.0.0.1', '::1'
FILES = {'/': ('index.html', 'text/html; charset=utf-8'),
         '/page.css': ('page.css', 'text/css; charset=utf-8'),
         '/page.js': ('page.js', 'text/javascript; charset=utf-8')}
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
          "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
HEADERS = [(name.encode(), value.encode()) for name, value in (
    ('content-security-policy', POLICY), ('x-content-type-options', 'nosniff'),
    ('referrer-policy', 'no-referrer'), ('cross-origin-resource-policy', 'same-origin'),
    ('cross-origin-opener-policy', 'same-origin'), ('cache-control', 'no-store'))]


class Refused(Exception):
    """A request that is not answered: status and reason."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


class Json(JSONResponse):
    """JSON in ASCII, as halves of characters, which JSON may hold, cannot be encoded otherwise."""

    def render(self, content):
        """The bytes."""
        return json.dumps(content, allow_nan=False, separators=(',', ':')).encode()


class Guard:
    """Middleware that lets in who may come: by Host, by Origin, and by token if there is one.

    Args:
        port: the server's; names: by which it may be called; None: by any address, or this
            machine's name. A foreign web site whose name leads here (DNS rebinding) has neither.
        token: what a visitor has to know, once in the address, then as a cookie; '': nothing.
    """

    def __init__(self, app, port, names, token=''):
        self._app, self._port, self._names, self._token = app, port, names, token
        self._cookie = f'stgan_{port}'

    async def __call__(self, scope, receive, send):
        async def send_guarded(message):
            if message['type'] == 'http.response.start':
                message = {**message, 'headers': [*message.get('headers', []), *HEADERS]}
            await send(message)

        headers = {}
        for name, value in scope['headers']:
            headers.setdefault(name.decode('latin-1'), []).append(value.decode('latin-1'))
        try:
            entrance = self._admit(scope, headers)
        except Refused as refusal:
            answer = PlainTextResponse(f'{refusal}\n', refusal.status)
            await answer(scope, receive, send_guarded)
            return
        await (entrance or self._app)(scope, receive, send_guarded)

    def _admit(self, scope, headers):
        """The response that hands out the cookie; None: go on. Raises `Refused`."""
        # h11 does not count those that arrive all at once.
        if len(scope['raw_path']) + len(scope['query_string']) + sum(
                len(name) + len(value) for name, value in scope['headers']) > MOST_HEADERS:
            raise Refused(431, 'the address and the headers are too long')
        hosts, origins = headers.get('host', []), headers.get('origin', [])
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            raise Refused(421, 'this server answers under its own address only')
        if len(origins) > 1 or (origins and origins[0].lower() != f'http://{hosts[0].lower()}'):
            raise Refused(403, 'requests of other web sites are refused')
        if headers.get('sec-fetch-site', ['none'])[0] not in ('same-origin', 'none') and not (
                scope['path'] == '/' and scope['method'] == 'GET'):
            raise Refused(403, 'requests of other web sites are refused')
        if not self._token:
            return None
        query = urllib.parse.parse_qs(scope['query_string'].decode('latin-1'))
        if scope['path'] == '/' and self._is_token(query.get('token', [''])[0]):
            answer = RedirectResponse('/', 303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite='lax')
            return answer
        if not self._is_token(self._cookie_of(headers)):
            raise Refused(403, 'open the whole address that the server has printed, with its token')
        return None

    def _is_token(self, text):
        return hmac.compare_digest(text.encode(), self._token.encode())

    def _cookie_of(self, headers):
        try:
            cookies = http.cookies.SimpleCookie('; '.join(headers.get('cookie', [])))
        except http.cookies.CookieError:
            return ''
        return cookies[self._cookie].value if self._cookie in cookies else ''

    def _is_own(self, host):
        try:
            parts = urllib.parse.urlsplit(f'//{host}')
            name, port = parts.hostname or '', parts.port or 80
        except ValueError:
            return False
        if port != self._port or parts.path or parts.query or '@' in host:
            return False
        if self._names is not None:
            return name in self._names
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return name in ('localhost', socket.gethostname().lower())


class Queue:
    """At most `WORKERS` pieces of work at once; others wait in order, and not for long."""

    def __init__(self):
        self._workers, self._waiting = concurrent.futures.ThreadPoolExecutor(WORKERS), 0

    async def run(self, function, *arguments):
        """The result of a function, called in a thread. Raises `Refused` under overload."""
        if self._waiting >= MOST_WAITING + WORKERS:
            raise Refused(503, f'{MOST_WAITING} edits are waiting already; try again in a moment')
        started = threading.Event()

        def work():
            started.set()
            return function(*arguments)

        self._waiting += 1
        job = self._workers.submit(work)
        future = asyncio.wrap_future(job)
        try:
            await asyncio.wait([future], timeout=PATIENCE)
            if not started.is_set() and job.cancel():
                raise Refused(503, 'others are being served; try again in a moment')
            return await future
        finally:
            self._waiting -= 1


class Handlers:
    """What is behind the addresses.

    Args:
        page: the `Page`; None: only trainings are shown. watcher: the `Watcher`.
        about: what the page says of the model, for JSON.
        examples: {name: function that returns the bytes of an image file}.
    """

    def __init__(self, page, watcher, about, examples):
        self._page, self._watcher, self._about, self._examples = page, watcher, about, examples
        self._queue, self._arriving = Queue(), 0

    def routes(self):
        """The addresses, for Starlette."""
        pages = [
            Route('/api/photos', self.upload, methods=['POST']),
            Route('/api/examples/{name}', self.example, methods=['GET', 'POST']),
            Route('/api/photos/{key}/view', self.view, methods=['GET']),
            Route('/api/photos/{key}/forget', self.forget, methods=['POST']),
            *[Route(f'/api/photos/{{key}}/{name}', functools.partial(self.change, name),
                    methods=['POST']) for name in self._CHANGES]]
        return [Route('/api/about', self.about, methods=['GET']), *(pages if self._page else ()),
                Route('/api/experiments', self.experiments, methods=['GET']),
                Route('/api/experiments/{name}', self.experiment, methods=['GET']),
                Route('/api/experiments/{name}/samples/{file}', self.sample, methods=['GET'])]

    async def about(self, request):
        """What the page shows of the model."""
        return Json({**self._about, 'examples': list(self._examples)})

    async def upload(self, request):
        """A photo comes in, as the body."""
        kind = request.headers.get('content-type', '').split(';')[0]
        if not (kind.startswith('image/') or kind == 'application/octet-stream'):
            raise Refused(415, 'expected a photo: JPEG, PNG, WebP or TIFF')
        data = await self._body(request, MOST_BYTES)
        name = _printable(request.query_params.get('name', '')) or 'photo'
        return Json(await self._queue.run(self._page.add, data, name))

    async def example(self, request):
        """GET: an example's picture. POST: it is taken for a photo."""
        name = request.path_params['name']
        if name not in self._examples:
            raise Refused(404, 'no such example')
        await self._body(request, MOST_JSON)    # else the connection ends with the answer
        data = await self._queue.run(self._examples[name])
        if request.method == 'GET':
            return Response(data, media_type='image/jpeg' if data[:2] == b'\xff\xd8' else
                            'image/png')
        return Json(await self._queue.run(self._page.add, data, name))

    async def view(self, request):
        """The photo, or its chosen faces, before the edit."""
        query = request.query_params
        kind = query.get('kind', 'photo')
        numbers = _numbers([_integer(part) for part in query.get('faces', '').split(',') if part])
        data = await self._queue.run(self._page.view, request.path_params['key'], _kind(kind),
                                     numbers)
        return Response(data, media_type='image/png')

    async def forget(self, request):
        """The photo goes."""
        await self._body(request, MOST_JSON)
        self._page.forget(request.path_params['key'])
        return Json({})

    async def change(self, name, request):
        """One of `_CHANGES`, with what the body says."""
        began, key = time.monotonic(), request.path_params['key']
        try:
            wish = json.loads((await self._body(request, MOST_JSON)).decode())
            if not isinstance(wish, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise Refused(400, 'expected JSON') from None
        answer = await self._queue.run(getattr(self, self._CHANGES[name]), key, wish)
        answer.headers['server-timing'] = f'all;dur={1000 * (time.monotonic() - began):.1f}'
        return answer

    def _edit(self, key, wish):
        data, left, top = self._page.edit(key, _kind(wish.get('kind')), _numbers(wish.get('faces')),
                                          _values(wish), _labels(wish))
        return Response(data, media_type='image/png', headers={'x-place': f'{left},{top}'})

    def _strip(self, key, wish):
        amount = wish.get('amount')
        if not isinstance(amount, (int, float)):
            raise Refused(400, 'amount: expected a number')
        number, = _numbers(wish.get('faces'))[:1]
        return Response(self._page.strip(key, number, amount, _labels(wish)),
                        media_type='image/png')

    def _gates(self, key, wish):
        number, = _numbers(wish.get('faces'))[:1]
        levels = self._page.gates(key, number, _values(wish), _labels(wish))
        return Json({'levels': [
            dict({name: base64.b64encode(np.ascontiguousarray(values, '<f4').tobytes()).decode()
                  for name, values in level.items()}, size=len(level['reset']))
            for level in levels]})

    def _download(self, key, wish):
        photo = self._page.edited(key, _numbers(wish.get('faces')), _values(wish), _labels(wish))
        format = wish.get('format', 'png')
        if format not in ('png', 'jpeg'):
            raise Refused(400, 'format: expected png or jpeg')
        return Response(photo.encode(format), media_type=f'image/{format}')

    def _recipe(self, key, wish):
        return Json({'text': self._page.recipe(key, _numbers(wish.get('faces')),
                                                       _values(wish), _labels(wish))})

    def _read_recipe(self, key, wish):
        return Json(self._page.read_recipe(key, str(wish.get('text', ''))))

    _CHANGES = {'edit': '_edit', 'strip': '_strip', 'gates': '_gates', 'download': '_download',
                'recipe': '_recipe', 'read_recipe': '_read_recipe'}

    async def experiments(self, request):
        """Names of the experiments."""
        return Json({'names': await self._queue.run(self._watcher.names)})

    async def experiment(self, request):
        """What there is to say of a training."""
        state = await self._queue.run(self._watcher.state, request.path_params['name'])
        return Json(state)

    async def sample(self, request):
        """A sample sheet."""
        path = self._watcher.sample(request.path_params['name'], request.path_params['file'])
        with open(path, 'rb') as stream:
            return Response(stream.read(), media_type='image/jpeg' if path.endswith('.jpg') else
                            'image/png')

    async def _body(self, request, most):
        """The bytes of a request. Raises `Refused`: too many, too many at once, or too slow."""
        too_large = Refused(413, f'more than {most >> 20} MB' if most >> 20 else 'too large')
        length = request.headers.get('content-length', '0')
        if not length.isdigit() or int(length) > most:
            raise too_large
        parts, size = [], 0

        async def receive():
            nonlocal size
            async for part in request.stream():
                size += len(part)
                self._arriving += len(part)
                if size > most:
                    raise too_large
                if self._arriving > MOST_ARRIVING:
                    raise Refused(503, 'others are loading photos; try again in a moment')
                parts.append(part)
        try:
            await asyncio.wait_for(receive(), UPLOAD_SECONDS)
        except asyncio.TimeoutError:
            raise Refused(408, f'the photo has not arrived within {UPLOAD_SECONDS} seconds'
                          ) from None
        finally:
            self._arriving -= size
        return b''.join(parts)


def _kind(value):
    if value not in ('photo', 'face'):
        raise Refused(400, 'kind: expected photo or face')
    return value


def _integer(text):
    try:
        return int(text)
    except ValueError:
        return None


def _numbers(value):
    """Numbers of faces, from JSON: some whole ones that differ."""
    if not isinstance(value, list) or not 1 <= len(value) <= 200 or not all(
            type(each) is int for each in value) or len(set(value)) < len(value):
        raise Refused(400, 'faces: expected numbers of faces')
    return value


def _values(wish):
    """{attribute: number} from JSON."""
    values = wish.get('values')
    if not isinstance(values, dict) or not all(
            type(value) in (int, float) for value in values.values()):
        raise Refused(400, 'values: expected numbers by attribute')
    return values


def _labels(wish):
    """Names of attributes that the photo shows, from JSON; None: it does not say."""
    labels = wish.get('labels')
    if labels is None or (isinstance(labels, list) and all(type(x) is str for x in labels)):
        return labels
    raise Refused(400, 'labels: expected names of attributes')


def _printable(name):
    """A file name without folders and what could not be shown."""
    name = name.replace('\\', '/').rpartition('/')[2]
    return ''.join(letter for letter in name if letter.isprintable())[:80]


async def _refused(request, error):
    status = getattr(error, 'status', 422)
    headers = {'retry-after': '2'} if status == 503 else {}
    # What is left of the request will not be read.
    return Json({'error': str(error)}, status, {**headers, 'connection': 'close'}
                        if status in (408, 413) else headers)


async def _failed(request, error):
    return Json({'error': 'the server has failed at this; its terminal says how'}, 500)


def application(handlers, folder):
    """The application.

    Args:
        handlers: the `Handlers`; folder: of `FILES`.
    """
    contents = OrderedDict()
    for address, (name, kind) in FILES.items():
        with open(os.path.join(folder, name), 'rb') as stream:
            contents[address] = stream.read(), kind

    async def file(request):
        data, kind = contents[request.url.path]
        return Response(data, media_type=kind)

    routes = [Route(address, file, methods=['GET']) for address in contents]
    return Starlette(routes=routes + handlers.routes(), exception_handlers={
        Refused: _refused, UserError: _refused, Exception: _failed})


class Protocol(H11Protocol):
    """HTTP with an end to connections that say nothing, and to requests that take too long."""

    _CHECK = 3    # seconds

    def connection_made(self, transport):
        super().connection_made(transport)
        self._since, self._state = self.loop.time(), (None, False)
        self._watch = self.loop.call_later(self._CHECK, self._check)

    def connection_lost(self, exc):
        self._watch.cancel()
        super().connection_lost(exc)

    def _check(self):
        now, cycle = self.loop.time(), self.cycle
        busy = cycle is not None and not cycle.response_complete
        if (cycle, busy) != self._state:    # each request has a cycle of its own
            self._state, self._since = (cycle, busy), now
        if now - self._since > (REQUEST_SECONDS if busy else IDLE_SECONDS):
            self.transport.abort()
            return
        self._watch = self.loop.call_later(self._CHECK, self._check)


class Server:
    """The server in a thread of its own, so that signals stay with the main thread.

    Args:
        app: what answers, `Guard` first; listener: a bound socket.
    """

    def __init__(self, app, listener):
        config = uvicorn.Config(
            app, http=Protocol, ws='none', log_config=None, log_level='error', access_log=False,
            lifespan='off', server_header=False, proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=3,
            limit_concurrency=MOST_CONNECTIONS, h11_max_incomplete_event_size=MOST_HEADERS)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True,
                                        kwargs={'sockets': [listener]})

    def start(self):
        """Serve from now on."""
        self._thread.start()
        while self._thread.is_alive() and not self._server.started:
            time.sleep(.01)

    @property
    def is_alive(self):
        """Whether it serves."""
        return self._thread.is_alive()

    def stop(self):
        """Finish what is under way, for some seconds, and end."""
        self._server.should_exit = True
        self._thread.join(10)


def listen(host, port):
    """A socket that listens.

    Raises:
        UserError: the port is in use, or there is no such address.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except socket.gaierror:
        raise UserError(f'--host {host}: no such address') from None
    except OSError as error:
        raise UserError(f'{host}:{port}: {error.strerror}; choose another port with --port, or '
                        'another address with --host') from None
    return listener


def is_loopback(host):
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'
