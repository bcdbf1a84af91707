"""Ending a long run politely."""

import os
import signal

from pylib.command import Interrupted


class StopRequest:
    """Context manager that turns the first SIGINT or SIGTERM into a flag; a second one kills.

    Attributes:
        signum: None, or the number of the signal that asked to stop.
    """

    def __init__(self):
        self.signum = None
        self._previous = {}

    def __enter__(self):
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exception):
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _handle(self, signum, frame):
        if self.signum is not None:
            os._exit(128 + signum)
        self.signum = signum

    def interruption(self, message):
        """The `Interrupted` error of the signal received: exit status 130 or 143, as in a shell."""
        return Interrupted(f'{signal.Signals(self.signum).name}: {message}', 128 + self.signum)
