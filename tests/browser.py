"""A real Chromium without a window, driven over its DevTools protocol through pipes."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))),
                None)
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync',
         '--disable-dev-shm-usage', '--hide-scrollbars']
# No name resolves, and what needs none meets a proxy that is not there.
NO_NETWORK = ['--host-resolver-rules=MAP * ~NOTFOUND', '--proxy-server=127.0.0.1:9',
              '--proxy-bypass-list=<-loopback>']
SECONDS = 30    # of waiting for anything; machines may be busy


class Browser:
    """The process. Args: folder: an empty one, for its profile; flags: more of them."""

    def __init__(self, folder, flags=()):
        read_end, self._to = os.pipe()
        self._from, write_end = os.pipe()
        # It reads commands from file 3 and writes answers to file 4, each ended by a zero byte.
        command = ['bash', '-c', f'exec "$@" 3<&{read_end} 4>&{write_end}', 'bash', CHROMIUM,
                   *FLAGS, *flags, '--remote-debugging-pipe', f'--user-data-dir={folder}',
                   'about:blank']
        self._process = subprocess.Popen(command, pass_fds=[read_end, write_end],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(read_end)
        os.close(write_end)
        self._numbers, self._buffer, self.events = itertools.count(1), b'', []

    def call(self, method, session=None, **parameters):
        """The result of a command of the protocol."""
        number = next(self._numbers)
        message = {'id': number, 'method': method, 'params': parameters}
        if session:
            message['sessionId'] = session
        os.write(self._to, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._next()
            if answer.get('id') == number:
                assert 'error' not in answer, (method, answer['error'])
                return answer['result']
            self.events.append(answer)

    def _next(self):
        while b'\0' not in self._buffer:
            data = os.read(self._from, 1 << 20)
            assert data, 'Chromium has ended'
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b'\0')
        return json.loads(message.decode())

    def open(self, address, width=1280, height=860, downloads=None, dark=False):
        """A `Tab` with an address open, of a visitor of its own (as in a private window)."""
        context = self.call('Target.createBrowserContext')['browserContextId']
        target = self.call('Target.createTarget', url='about:blank',
                           browserContextId=context)['targetId']
        session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        tab = Tab(self, session)
        for domain in ('Page', 'Network', 'Runtime', 'DOM', 'Log'):
            tab.call(f'{domain}.enable')
        if downloads:
            self.call('Browser.setDownloadBehavior', behavior='allow', browserContextId=context,
                      downloadPath=str(downloads))
        tab.resize(width, height)
        if dark:
            tab.call('Emulation.setEmulatedMedia',
                     features=[{'name': 'prefers-color-scheme', 'value': 'dark'}])
        tab.call('Page.navigate', url=address)
        return tab

    def close(self):
        """End it."""
        self._process.terminate()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)


class Tab:
    """A page in the browser."""

    def __init__(self, browser, session):
        self._browser, self._session = browser, session

    def call(self, method, **parameters):
        """See `Browser.call`."""
        return self._browser.call(method, self._session, **parameters)

    def resize(self, width, height, scale=1):
        """Give the page another size, in CSS pixels."""
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
                  deviceScaleFactor=scale, mobile=width < 600)

    def run(self, code):
        """The value of a JavaScript expression, awaited."""
        done = self.call('Runtime.evaluate', expression=code, awaitPromise=True,
                         returnByValue=True)
        assert 'exceptionDetails' not in done, done['exceptionDetails']
        return done['result'].get('value')

    def wait(self, condition):
        """Wait until a JavaScript expression is true; returns its value."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            value = self.run(f'(() => {{ try {{ return {condition} }} catch (e) {{ return null }} '
                             '})()')
            if value:
                return value
            time.sleep(.03)
        raise AssertionError(f'waited in vain for {condition}: ' + str(self.run(
            'document.body && document.body.innerText'))[:1500])

    def click(self, selector):
        """A click with the mouse in the middle of an element."""
        x, y = self.run(f'(() => {{ const e = document.querySelector({json.dumps(selector)}); '
                        'e.scrollIntoView({block: "nearest"}); const b = e.getBoundingClientRect();'
                        ' return [b.x + b.width / 2, b.y + b.height / 2] })()')
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def press(self, key, modifiers=0, code=0):
        """A key; modifiers: 2 is Ctrl, 8 is Shift."""
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, modifiers=modifiers,
                      windowsVirtualKeyCode=code)

    def choose_file(self, selector, path):
        """Choose a file, as in the browser's dialogue."""
        root = self.call('DOM.getDocument')['root']['nodeId']
        node = self.call('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
        self.call('DOM.setFileInputFiles', nodeId=node, files=[str(path)])

    def screenshot(self, path):
        """Write a PNG of what is seen."""
        data = self.call('Page.captureScreenshot', format='png')['data']
        with open(str(path), 'wb') as stream:
            stream.write(base64.b64decode(data))

    def requests(self):
        """Addresses that it has asked for so far."""
        self.run('0')
        return [event['params']['request']['url'] for event in self._browser.events
                if event.get('method') == 'Network.requestWillBeSent'
                and event.get('sessionId') == self._session]

    def complaints(self):
        """What the browser's console has said: errors, refusals of the policy."""
        self.run('0')
        said = []
        for event in self._browser.events:
            if event.get('sessionId') == self._session:
                if event.get('method') == 'Runtime.exceptionThrown':
                    said.append(event['params']['exceptionDetails'])
                elif event.get('method') == 'Log.entryAdded':
                    said.append(event['params']['entry']['text'])
        return said
