"""One writer at a time in a folder."""

import contextlib
import fcntl
import json
import os
import socket
import time

from pylib.command import RunFailed, UserError, warn

LOCK = 'in_use.lock'


class FolderLock:
    """Context manager that keeps other processes out of a folder, which it makes if need be.

    The system's lock on `in_use.lock` decides, as it ends with its process however that ends; the
    file's content tells people who holds it.

    Raises:
        UserError: another process is at work in the folder.
        RunFailed: the folder cannot be written to.
    """

    def __init__(self, folder):
        self._folder, self._path = folder, os.path.join(folder, LOCK)

    def __enter__(self):
        self._made, missing = [], os.path.abspath(self._folder)
        while not os.path.isdir(missing):
            self._made.append(missing)
            missing = os.path.dirname(missing)
        try:
            os.makedirs(self._folder, exist_ok=True)
            self._stream = self._opened()
            left = self._stream.read()
            if left:
                warn(f'{self._path}: taken over, {_owner(left)} ended without removing it')
            self._stream.seek(0)
            self._stream.truncate()
            json.dump({'host': socket.gethostname(), 'pid': os.getpid(), 'since': time.ctime()},
                      self._stream)
            self._stream.flush()
        except OSError as error:
            raise RunFailed(f'{self._folder}: cannot be written to ({error.strerror}); free or '
                            'repair the disk, or take another folder') from None
        return self

    def __exit__(self, *exception):
        # What went wrong with the disk or the folder has been reported by then.
        with contextlib.suppress(OSError):
            os.unlink(self._path)
            # Folders in which nothing was done after all; one that is not empty ends this.
            for folder in self._made:
                os.rmdir(folder)
        self._stream.close()

    def _opened(self):
        """The lock file, opened and locked."""
        while True:
            stream = open(self._path, 'a+', encoding='utf-8', errors='replace')  # noqa: SIM115
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                raise UserError(f'{self._folder}: in use by {_owner(stream.read())}; wait for it, '
                                'or stop it') from None
            except OSError:
                warn(f'{self._folder}: its file system has no locks; see to it that nothing else '
                     'writes there')
            # Its last owner may have removed the file between opening and locking.
            if os.path.exists(self._path) and os.path.samestat(os.fstat(stream.fileno()),
                                                               os.stat(self._path)):
                stream.seek(0)
                return stream
            stream.close()


def _owner(content):
    try:
        owner = json.loads(content)
        return f'process {owner["pid"]} on {owner["host"]} since {owner["since"]}'
    except (ValueError, KeyError, TypeError):
        return 'an unknown process'
