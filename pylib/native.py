"""Standard error of native code, for libraries that chatter there whatever their settings say."""

import contextlib
import os
import subprocess
import sys
import threading

# Collects what is hidden, forgets it at a line that says "$1", and shows what is left when nobody
# can write there any more, which is when the process has ended.
_WATCHER = '''
text=
while IFS= read -r line || [ -n "$line" ]; do
    if [ "$line" = "$1" ]; then text=; else text="$text$line
"; fi
done
printf %s "$text" >&2
'''


class _HiddenErrors:
    """Context manager that drops what is written to file descriptor 2.

    If the process ends meanwhile, by abort() for example, all of it is shown after all: a process
    beside it holds it until then. Threads may overlap: the first to enter hides, the last to leave
    restores. What other threads' Python code writes to `sys.stderr` is dropped as well.
    """

    def __init__(self):
        self._lock, self._threads = threading.Lock(), 0
        self._watcher, self._forget = None, os.urandom(8).hex()

    def __enter__(self):
        with self._lock:
            if not self._threads:
                self._hide()
            self._threads += 1

    def __exit__(self, *exception):
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._restore()

    def _hide(self):
        sys.stderr.flush()
        if self._watcher is None or self._watcher.poll() is not None:
            # In a session of its own, as Ctrl-C is not for it.
            self._watcher = subprocess.Popen(
                ['/bin/sh', '-c', _WATCHER, 'watcher', self._forget], bufsize=0,
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
        self._standard_error = os.dup(2)
        os.dup2(self._watcher.stdin.fileno(), 2)

    def _restore(self):
        sys.stderr.flush()
        os.dup2(self._standard_error, 2)
        os.close(self._standard_error)
        with contextlib.suppress(BrokenPipeError):    # somebody has ended it
            self._watcher.stdin.write(f'\n{self._forget}\n'.encode())


hidden_native_errors = _HiddenErrors()
