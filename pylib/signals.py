"""Ending a long run politely."""

import os
import signal
import socket
import threading
import time

from pylib.command import Interrupted


class StopRequest:
    """Context manager that turns SIGINT, SIGTERM or a time limit into a flag.

    A second signal ends the process at once, also within a long call into native code.

    Args:
        minutes: from now on until the flag is set; 0: no limit.

    Attributes:
        signum: None, or the number of the signal that asked to stop.
    """

    def __init__(self, minutes=0):
        self.signum = None
        # The monotonic clock: the time of day may jump.
        self._deadline = time.monotonic() + minutes * 60 if minutes else float('inf')
        self._previous = {}

    def __enter__(self):
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        threading.Thread(target=self._watch, args=(self._receiver,), daemon=True).start()
        self._previous_sender = signal.set_wakeup_fd(self._sender.fileno())
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exception):
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._previous_sender)
        self._sender.close()    # which ends the thread

    def _handle(self, signum, frame):
        if self.signum is not None:
            os._exit(128 + signum)
        self.signum = signum

    @staticmethod
    def _watch(receiver):
        # Python calls handlers between its own instructions only, so while a session runs nobody
        # would see a second signal. The number of each one is sent here at once.
        with receiver:
            if receiver.recv(1):
                for signum in receiver.recv(1):
                    os._exit(128 + signum)

    @property
    def requested(self):
        """Whether to stop."""
        return self.signum is not None or time.monotonic() >= self._deadline

    def interruption(self, message):
        """The `Interrupted` error: exit status 130 or 143, as in a shell; a time limit: 143."""
        if self.signum is None:
            return Interrupted(f'time limit: {message}', 128 + signal.SIGTERM)
        return Interrupted(f'{signal.Signals(self.signum).name}: {message}', 128 + self.signum)
