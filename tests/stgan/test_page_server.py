"""Who is let in, how much, and in which order: with raw sockets, and what may be hostile."""

import io
import json
import logging
import math
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

import pytest
from conftest import ROOT
from pages import claims, drawn, make_experiment, png, read_answer, serve
from PIL import Image

from stgan import page_runs, page_server
from stgan.config import PageConfig
from stgan.editing import Editor
from stgan.page import Page


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """A running server with the small model."""
    folder = tmp_path_factory.mktemp('served') / 'toy'
    make_experiment(folder)
    with Editor(str(folder), device='cpu', threads=2) as editor, \
            serve(Page(editor), str(folder)) as server:
        yield server


def head(method, path, address, **more):
    """The first lines of a request."""
    lines = [f'{method} {path} HTTP/1.1', f'Host: {address}',
             *(f'{name.replace("_", "-")}: {value}' for name, value in more.items())]
    return '\r\n'.join(lines).encode('latin-1') + b'\r\n\r\n'


def upload(host, body, kind='image/png', path='/api/photos', **more):
    """The bytes of a request that uploads a photo."""
    return head('POST', path, host, Content_Type=kind, Content_Length=len(body), **more) + body


def change(host, key, name, wish, **more):
    """The bytes of a request for an edit."""
    body = wish if isinstance(wish, bytes) else json.dumps(wish).encode()
    return upload(host, body, 'application/json', f'/api/photos/{key}/{name}', **more)


def status_and_body(answer):
    """(status or None, body) of an answer's bytes."""
    first, _, body = answer.partition(b'\r\n\r\n')
    found = re.match(rb'HTTP/1.1 (\d+)', first)
    return (int(found[1]) if found else None), body


def test_logging_of_the_process_stays_as_it_is(served):
    handler = logging.StreamHandler(io.StringIO())
    with page_server.listen('127.0.0.1', 0) as listener:
        page_server.Server(served.page, listener)
    # Setting logging up anew, as uvicorn likes to, takes all handlers out of this list.
    assert any(reference() is handler for reference in logging._handlerList)


def text_bomb():
    """A PNG of one pixel with a text that unpacks to 100 MB."""
    good = png(Image.new('RGB', (1, 1)))
    packed = zlib.compress(b'a' * (100 << 20))
    data = b'Comment\0\0' + packed
    chunk = (struct.pack('>I', len(data)) + b'zTXt' + data
             + struct.pack('>I', zlib.crc32(b'zTXt' + data)))
    return good[:33] + chunk + good[33:]


def pixels_bomb():
    """A black PNG of 39 megapixels in some kilobytes: just allowed."""
    stream = io.BytesIO()
    Image.new('1', (6200, 6200)).save(stream, 'PNG')
    return stream.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b'<html><script>alert(1)</script></html>'


def hostile(server):
    """[(what, request, statuses that are right)]."""
    host, key, name = server.host, server.key, server.attribute
    good = png(Image.new('RGB', (50, 40), 'red'))
    fine = {'faces': [0], 'values': {name: 1}, 'kind': 'photo'}

    def foreign(header, value):
        return head('GET', '/api/about', host, **{header: value})

    def edit(**changes):
        return change(host, key, 'edit', {**fine, **changes})
    jpeg = io.BytesIO()
    Image.new('RGB', (60, 60)).save(jpeg, 'JPEG')
    return [
        # Addresses of other sites that lead here (DNS rebinding), and other ports.
        *[(f'Host {name}', head('GET', '/api/about', name), {421, 400}) for name in (
            'evil.example', f'evil.example:{server.port}', '127.0.0.1:1', 'localhost',
            f'127.0.0.1.evil.example:{server.port}', f'user@127.0.0.1:{server.port}',
            f'127.0.0.1:{server.port}/x', f'0x7f.1:{server.port}', '')],
        ('no Host', b'GET /api/about HTTP/1.0\r\n\r\n', {421, 400}),
        ('two Hosts', head('GET', '/', host, host='evil.example'), {400, 421}),
        # Requests that other sites make a visitor's browser send.
        *[(f'Origin {value}', foreign('Origin', value=value), {403}) for value in (
            'http://evil.example', 'null', f'https://{host}', 'http://127.0.0.1',
            f'http://evil.example:{server.port}')],
        ('cross-site edit', change(host, key, 'edit', fine, Origin='http://evil.example'), {403}),
        ('cross-site upload', upload(host, good, Origin='http://evil.example'), {403}),
        ('cross-site fetch', foreign('Sec-Fetch-Site', value='cross-site'), {403}),
        ('same-site fetch', foreign('Sec-Fetch-Site', value='same-site'), {403}),
        # What is no photo, or one that would take all memory.
        *[(f'upload of {what}', upload(host, data), {422}) for what, data in (
            ('nothing', b''), ('SVG', SVG), ('HTML', HTML), ('zeros', bytes(100000)),
            ('a cut PNG', good[:60]), ('a cut JPEG', jpeg.getvalue()[:300]),
            ('a GIF', b'GIF89a\1\0\1\0\0\0\0;'), ('a bomb', claims(60000, 60000)),
            ('a larger bomb', claims(2 ** 31 - 1, 2 ** 31 - 1)), ('a lie', claims(6000, 6000)),
            ('a program', b'#!/bin/sh\nexit 1\n'), ('PostScript', b'%!PS-Adobe-3.0 EPSF-3.0\n'))],
        ('a bomb of text', upload(host, text_bomb()), {422, 200}),
        ('a bomb of pixels', upload(host, pixels_bomb()), {200, 422}),
        *[(f'type {kind}', upload(host, good, kind), {415}) for kind in (
            'text/html', 'multipart/form-data; boundary=x', 'application/x-www-form-urlencoded',
            'text/plain', '')],
        ('20 MB and one byte', upload(host, bytes((20 << 20) + 1)), {413}),
        ('a length that lies', head('POST', '/api/photos', host, Content_Type='image/png',
                                    Content_Length=10 ** 12), {413}),
        ('no number as length', head('POST', '/api/photos', host, Content_Type='image/png',
                                     Content_Length='many'), {400}),
        ('chunks without end', head('POST', '/api/photos', host, Content_Type='image/png',
                                    Transfer_Encoding='chunked')
         + (b'100000\r\n' + bytes(1 << 20) + b'\r\n') * 22, {413}),
        ('two lengths', head('POST', '/api/photos', host, Content_Length=5, content_length=7)
         + b'12345', {400}),
        # Names and paths.
        *[(f'path {path}', head('GET', path, host), {404, 405, 400}) for path in (
            '/../setup.py', '/..%2f..%2fetc/passwd', '/page/../../stgan/page.py', '//etc/passwd',
            '/api/experiments/..%2f..%2fetc', '/api/experiments/toy/samples/..%2fsetting.txt',
            '/api/experiments/toy/samples/%2fetc%2fpasswd', '/api/examples/..', '/%00',
            '/api/photos')],
        *[(f'experiment {name}', head('GET', f'/api/experiments/{name}', host), {422, 404})
          for name in ('..', 'none', '%2e%2e', 'a' * 3000)],
        ('a photo with a path as name', upload(host, good, path='/api/photos?name='
                                               '..%2f..%2fetc%2fpasswd%0a<script>'), {200}),
        ('another method', head('DELETE', f'/api/photos/{key}/edit', host), {405}),
        ('a method of its own', head('BREW', '/', host), {405}),
        # Edits.
        ('an edit of a photo that is not there', change(host, 'x' * 22, 'edit', fine), {404}),
        *[(f'edit with {wish}'[:70], edit(**wish), {400, 422}) for wish in (
            {'faces': []}, {'faces': 'all'}, {'faces': [0, 0]}, {'faces': [-1]}, {'faces': [True]},
            {'faces': [10 ** 30]}, {'faces': list(range(5000))}, {'values': {name: 1e300}},
            {'values': {name: float('nan')}}, {'values': {name: 'a'}}, {'values': []},
            {'values': {'__class__': 1}}, {'kind': '../etc'}, {'labels': [1]})],
        *[(f'JSON {body[:20]!r}', change(host, key, 'edit', body), {400}) for body in (
            b'', b'{', b'[1]', b'\xff\xfe', b'[' * 100000)],
        ('much JSON', change(host, key, 'edit', b' ' * (1 << 18)), {413}),
        ('a recipe of nonsense', change(host, key, 'read_recipe', {'text': '{"stgan": 1}'}),
         {422}),
        ('a recipe of infinity', change(host, key, 'read_recipe', {'text': json.dumps({
            'stgan': 1, 'experiment': '', 'weights': '', 'photo': '', 'values': {}, 'faces': [],
            'numbers': [math.inf]})}), {422}),
        ('half a character', change(host, key, 'read_recipe', {'text': '\ud800'}), {422}),
        ('half a character as attribute', edit(values={'\ud800': 1}), {422}),
        ('a recipe of numbers', change(host, key, 'read_recipe', {'text': 5}), {422}),
        # HTTP.
        ('a header of 1 MB', head('GET', '/', host, X='a' * (1 << 20)), {400, 431}),
        ('10,000 headers', head('GET', '/', host, **{f'x{i}': i for i in range(10000)}),
         {400, 431}),
        ('a long address', head('GET', '/' + 'a' * 100000, host), {400, 414, 431}),
        ('no HTTP', b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(100), {400}),
        ('a websocket', head('GET', '/', host, Upgrade='websocket', Connection='Upgrade',
                             Sec_WebSocket_Key='dGhlIHNhbXBsZSBub25jZQ==',
                             Sec_WebSocket_Version=13), {200, 400}),
        ('a proxy', head('GET', 'http://evil.example/', host), {400, 404, 200}),
        ('a tunnel', head('CONNECT', 'evil.example:443', host), {400, 404, 405}),
    ]


def test_hostile_requests_are_refused_and_it_keeps_serving(served):
    cases = hostile(served)
    assert len(cases) >= 60
    before = memory()
    wrong = []
    for what, request, statuses in cases:
        status, body = status_and_body(served.send(request))
        if status not in statuses or b'Traceback' in body or b'File "' in body:
            wrong.append((what, status, body[:200]))
    assert not wrong
    assert served.edit()[0] == 200
    # One photo of 39 megapixels is kept, at 115 MB.
    assert memory() - before < 700e6


def memory():
    """Bytes that this process has in memory."""
    with open('/proc/self/statm') as stream:
        return int(stream.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def test_answers_say_what_a_browser_must_not_do(served):
    answer = served.send(head('GET', '/', served.host)).decode()
    headers = answer.partition('\r\n\r\n')[0].lower()
    policy = re.search('content-security-policy: (.*)', headers)[1]
    assert "default-src 'none'" in policy and "'unsafe" not in policy and 'http' not in policy
    assert "frame-ancestors 'none'" in policy and 'nosniff' in headers
    assert 'access-control-allow' not in headers and 'server:' not in headers
    # A page of a foreign site is no better than none.
    refused = served.send(head('GET', '/', 'evil.example')).decode().lower()
    assert 'content-security-policy' in refused


def test_a_photo_with_markup_as_name_is_only_text(served):
    request = upload(served.host, png(Image.new('RGB', (8, 9))), path='/api/photos?name='
                     '..%2fa%0d%0aX-Evil:1%3Cscript%3E.png')
    status, body = status_and_body(served.send(request))
    assert status == 200 and json.loads(body.decode())['name'] == 'aX-Evil:1<script>.png'


def test_silent_connections_and_slow_bodies_end(served, monkeypatch):
    monkeypatch.setattr(page_server, 'IDLE_SECONDS', .4)
    monkeypatch.setattr(page_server, 'UPLOAD_SECONDS', .6)
    monkeypatch.setattr(page_server.Protocol, '_CHECK', .1)
    silent, slow_head, slow_body = (served.connect() for _ in range(3))
    slow_head.sendall(b'GET / HTTP/1.1\r\nHo')
    slow_body.sendall(head('POST', '/api/photos', served.host, Content_Type='image/png',
                           Content_Length=1000) + b'123')
    assert status_and_body(read_all(slow_body))[0] == 408
    assert read_all(silent) == b'' and read_all(slow_head) == b''
    assert served.edit()[0] == 200


def test_connections_in_use_stay(served, monkeypatch):
    monkeypatch.setattr(page_server, 'IDLE_SECONDS', 1.)
    monkeypatch.setattr(page_server.Protocol, '_CHECK', .1)
    with served.connect() as connection:
        connection.settimeout(20)
        for _ in range(18):
            connection.sendall(head('GET', '/api/about', served.host))
            assert read_answer(connection).startswith(b'HTTP/1.1 200')
            time.sleep(.13)


def read_all(connection):
    """What comes until the other side ends."""
    connection.settimeout(20)
    parts = []
    try:
        for part in iter(lambda: connection.recv(1 << 16), b''):
            parts.append(part)
    except ConnectionResetError:
        pass
    connection.close()
    return b''.join(parts)


def test_200_connections_leave_it_serving(served):
    connections = [served.connect() for _ in range(200)]
    for connection in connections[::2]:
        connection.sendall(b'POST /api/photos HTTP/1.1\r\nHost: ')
    assert served.edit()[0] == 200
    for connection in connections:
        connection.close()


def test_two_edits_at_once_others_wait_in_order_or_are_told(served, monkeypatch):
    monkeypatch.setattr(page_server, 'MOST_WAITING', 5)
    running, most, order, lock = [0], [0], [], threading.Lock()
    real, go_on = served.page.edit, threading.Event()

    def held(key, kind, numbers, values, labels=None):
        with lock:
            order.append(values[served.attribute])
            running[0] += 1
            most[0] = max(most[0], running[0])
        go_on.wait(60)
        result = real(key, kind, numbers, values, labels)
        with lock:
            running[0] -= 1
        return result
    monkeypatch.setattr(served.page, 'edit', held)
    connections = []
    for number in range(12):
        connections.append(served.connect())
        wish = {'faces': [0], 'kind': 'photo', 'values': {served.attribute: number / 10}}
        connections[-1].sendall(change(served.host, served.key, 'edit', wish, Connection='close'))
        time.sleep(.05)
    # Two are at work and five wait; the others are told at once.
    refused = [status_and_body(read_all(connection)) for connection in connections[7:]]
    assert [status for status, _ in refused] == [503] * 5
    assert all(b'try again' in body for _, body in refused)
    go_on.set()
    answers = [status_and_body(read_all(connection))[0] for connection in connections[:7]]
    assert answers == [200] * 7 and most[0] == 2 and order == sorted(order)


def test_waiting_has_an_end(served, monkeypatch):
    monkeypatch.setattr(page_server, 'PATIENCE', .2)
    real = served.page.edit

    def slow(*arguments):
        time.sleep(.8)
        return real(*arguments)
    monkeypatch.setattr(served.page, 'edit', slow)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(served.edit()[0]))
               for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What has begun is finished.
    assert sorted(answers) == [200, 200, 503]


def test_other_machines_need_the_token(served):
    options = PageConfig(experiment_name='x', host='0.0.0.0')
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        guard, address = page_runs.prepare(options, str(ROOT / 'scripts/page'), drawn, None,
                                           listener)
        port = listener.getsockname()[1]
        server = page_server.Server(guard, listener)
        server.start()
        token = re.fullmatch(rf'http://localhost:{port}/\?token=([\w-]{{22}})', address)[1]

        def get(path, name=f'192.168.1.7:{port}', **more):
            with socket.create_connection(('127.0.0.1', port)) as connection:
                connection.sendall(head('GET', path, name, Connection='close', **more))
                return read_all(connection)
        assert [status_and_body(get(path))[0] for path in (
            '/', '/page.js', '/api/about', '/?token=', '/?token=x', f'/page.js?token={token}')
        ] == [403] * 6
        entrance = get(f'/?token={token}')
        assert status_and_body(entrance)[0] == 303
        cookie = re.search(rb'set-cookie: (\S+);', entrance)[1].decode()
        assert b'HttpOnly' in entrance and token in cookie
        assert status_and_body(get('/api/about', Cookie=cookie))[0] == 200
        assert status_and_body(get('/api/about', Cookie=cookie[:-1]))[0] == 403
        # Whoever has the token by mistake, but not the address.
        assert status_and_body(get('/', 'evil.example', Cookie=cookie))[0] == 421
        server.stop()


def test_the_command_serves_until_ctrl_c(tmp_path):
    make_experiment(tmp_path / 'output' / 'toy')
    command = [sys.executable, str(ROOT / 'scripts/page.py'), '--watch', '--port', '0']
    with subprocess.Popen(command, cwd=str(tmp_path), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        address = process.stdout.readline().decode().split()[-1]
        port = int(re.fullmatch(r'http://127\.0\.0\.1:(\d+)/', address)[1])
        with socket.create_connection(('127.0.0.1', port)) as connection:
            connection.sendall(head('GET', '/api/experiments/toy', f'127.0.0.1:{port}',
                                    Connection='close'))
            status, body = status_and_body(read_all(connection))
        # A client that never reads on does not hold it up.
        with socket.create_connection(('127.0.0.1', port)) as held:
            held.sendall(b'GET / HT')
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert status == 200 and json.loads(body.decode())['iteration'] > 0
    assert process.returncode == 0 and b'forgotten' in out and err == b''


def test_without_a_name_the_model_in_the_box_edits_in_the_browser_that_is_opened(tmp_path):
    browser, opened = tmp_path / 'browser', tmp_path / 'opened'
    browser.write_text(f'#!/bin/sh\necho "$1" >{opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    command = [sys.executable, str(ROOT / 'scripts/page.py'), '--port', '0', '--device', 'cpu',
               '--open']
    with subprocess.Popen(command, cwd=str(tmp_path), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          env=dict(os.environ, BROWSER=str(browser))) as process:
        line = process.stdout.readline().decode()
        deadline = time.monotonic() + 30
        while not opened.exists() and time.monotonic() < deadline:
            time.sleep(.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert line.startswith(f'editing with {ROOT / "models" / "toy"}: http://127.0.0.1:')
    assert opened.read_text() == line.partition(': ')[2]
    assert process.returncode == 0, err


@pytest.mark.parametrize('options, said', [
    (['--model', 'x', '--watch'], 'take one of --experiment_name (or --model) and --watch'),
    (['--model', 'missing'], 'output/missing: no such experiment'),
    (['--model', './missing'], './missing: no such experiment'),
    (['--experiment_name', 'models/missing'], 'models/missing: no such experiment'),
    (['--watch', '--host', 'no.such.host.invalid'], '--host no.such.host.invalid'),
    (['--watch', '--port', '70000'], '--port'),
])
def test_bad_options_are_told_in_a_line(run, options, said):
    done = run('scripts/page.py', *options)
    assert done.status == 2 and said in done.err and done.err.count('\n') == 1


def test_a_port_in_use_is_told_in_a_line(run):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen(1)
        port = other.getsockname()[1]
        done = run('scripts/page.py', '--watch', '--port', port)
    assert done.status == 2 and f'127.0.0.1:{port}' in done.err and '--port' in done.err
    assert done.err.count('\n') == 1
