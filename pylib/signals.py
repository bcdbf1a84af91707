"""Ending a long run politely."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

from pylib.command import Interrupted

# `timeout` signals the command and its group, terminals and parents do likewise: within so many
# seconds of the first, the same signal is no second one.
REPEAT = 1
_SIGNALS = signal.SIGINT, signal.SIGTERM


class StopRequest:
    """Context manager that turns SIGINT, SIGTERM or a time limit into a flag.

    A second signal ends the process at once, also within a long call into native code. The same
    signal within a second of the first is no second one.

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
        threading.Thread(target=self._watch, args=(self._receiver, _SIGNALS), daemon=True).start()
        self._previous_sender = signal.set_wakeup_fd(self._sender.fileno())
        for signum in _SIGNALS:
            self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exception):
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._previous_sender)
        self._sender.close()    # which ends the thread

    def _handle(self, signum, frame):
        if self.signum is None:
            self.signum = signum
        elif signum != self.signum:
            os._exit(128 + signum)

    @staticmethod
    def _watch(receiver, signums):
        # Python calls handlers between its own instructions only, so while a session runs nobody
        # would see a second signal, nor when it came. The number of each one is sent here at once.
        first, since = None, 0.
        with receiver:
            for number in iter(lambda: receiver.recv(1), b''):
                signum = number[0]
                if first is None and signum in signums:
                    first, since = signum, time.monotonic()
                elif signum in signums and (
                        signum != first or time.monotonic() - since > REPEAT):
                    os._exit(128 + signum)

    @property
    def requested(self):
        """Whether to stop."""
        return self.signum is not None or time.monotonic() >= self._deadline

    @property
    def exit_status(self):
        """Of a process that stops because of this: 130 or 143, as in a shell; a time limit: 143.

        0 as long as there is nothing to stop for.
        """
        if self.signum is not None:
            return 128 + self.signum
        return 128 + signal.SIGTERM if self.requested else 0

    def interruption(self, message):
        """The `Interrupted` error."""
        why = 'time limit' if self.signum is None else signal.Signals(self.signum).name
        return Interrupted(f'{why}: {message}', self.exit_status)


@contextlib.contextmanager
def child(command, **options):
    """Start a command and yield its `subprocess.Popen`; wait for its end when the block ends.

    SIGINT and SIGTERM are passed on to it, so that a training saves and stops. It is in a session
    of its own, as it would get those of the terminal twice, and some commands end badly then.

    Args:
        options: those of `subprocess.Popen`.

    Raises:
        Interrupted: a signal came, and the command has ended.
    """
    processes, received = [], {}    # of signals: when each came last

    def pass_on(signum, frame):
        now = time.monotonic()
        if now - received.get(signum, -REPEAT) >= REPEAT:
            received[signum] = now
            for process in processes:
                process.send_signal(signum)

    previous = {signum: signal.signal(signum, pass_on) for signum in _SIGNALS}
    try:
        process = subprocess.Popen(command, start_new_session=True, **options)
        processes.append(process)
        for signum in list(received):    # while it was being started
            process.send_signal(signum)
        try:
            yield process
        finally:
            process.wait()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        if received:
            signum = next(iter(received))
            raise Interrupted(f'{signal.Signals(signum).name}: the command has ended, with status '
                              f'{process.returncode}', 128 + signum) from None
