"""A headless Chromium without a network, driven through its debugging pipe."""

import contextlib
import json
import os
import shutil
import subprocess

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))),
                None)
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync',
         '--disable-dev-shm-usage', '--remote-debugging-pipe',
         # No name resolves, and what needs none meets a proxy that is not there.
         '--host-resolver-rules=MAP * ~NOTFOUND', '--proxy-server=127.0.0.1:9',
         '--proxy-bypass-list=<-loopback>']


class Page:
    """The only tab.

    Attributes:
        requested: addresses of all that was asked for, data: left out; errors: uncaught ones.
    """

    def __init__(self, send_to, receive_from):
        self._out, self._in, self._number = send_to, receive_from, 0
        self.requested, self.errors, self._rest = [], [], b''
        target = self._command('Target.createTarget', url='about:blank')['targetId']
        self._session = self._command('Target.attachToTarget', targetId=target,
                                      flatten=True)['sessionId']
        for domain in ('Page', 'Network', 'Runtime', 'DOM'):
            self.command(f'{domain}.enable')

    def _receive(self):
        while b'\0' not in self._rest:
            part = os.read(self._in, 1 << 20)
            assert part, 'Chromium has ended'
            self._rest += part
        message, _, self._rest = self._rest.partition(b'\0')
        return json.loads(message.decode())

    def _command(self, method, session=None, **params):
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': params}
        if session:
            message['sessionId'] = session
        os.write(self._out, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._number:
                assert 'error' not in answer, answer
                return answer['result']
            params = answer.get('params', {})
            if answer.get('method') == 'Network.requestWillBeSent':
                url = params['request']['url']
                self.requested += [] if url.startswith('data:') else [url]
            elif answer.get('method') == 'Runtime.exceptionThrown':
                self.errors.append(str(params['exceptionDetails'])[:2000])

    def command(self, method, **params):
        """The result of a command of Chrome's DevTools protocol."""
        return self._command(method, self._session, **params)

    def run(self, script):
        """The JSON value of a JavaScript expression; a promise is waited for."""
        answer = self.command('Runtime.evaluate', expression=script, awaitPromise=True,
                              returnByValue=True)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def open(self, address):
        """Show a page and wait until it has loaded."""
        self.command('Page.navigate', url=address)
        self.run('new Promise(done => document.readyState === "complete" ? done() : '
                 'addEventListener("load", () => done()))')

    def give_file(self, selector, path):
        """Choose a file in an input."""
        root = self.command('DOM.getDocument')['root']['nodeId']
        node = self.command('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
        self.command('DOM.setFileInputFiles', nodeId=node, files=[str(path)])


@contextlib.contextmanager
def browser(profile):
    """Context of a `Page`; `profile`: a new folder for Chromium's files."""
    to_chromium, from_chromium = os.pipe(), os.pipe()
    # Chromium reads commands from 3 and answers at 4.
    wrapped = f'exec "$@" 3<&{to_chromium[0]} 4>&{from_chromium[1]}'
    process = subprocess.Popen(
        ['bash', '-c', wrapped, 'bash', CHROMIUM, *FLAGS, f'--user-data-dir={profile}'],
        pass_fds=(to_chromium[0], from_chromium[1]), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    os.close(to_chromium[0])
    os.close(from_chromium[1])
    try:
        yield Page(to_chromium[1], from_chromium[0])
    finally:
        process.kill()
        process.wait()
        os.close(to_chromium[1])
        os.close(from_chromium[0])
