"""Start the processes of one job on this machine, watch them, and end them together.

Flags and habits are those of torchrun; what describes the job to each process is TF_CONFIG.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from pylib.command import UserError, counted
from pylib.rendezvous import PORT
from pylib.signals import REPEAT

PATIENCE = 15    # seconds that the others have to end by themselves once one has failed
STOPPED = 130, 143    # exit statuses of what ended in good order on a signal
BAD_INPUT = 2
MOST = 1024    # processes on a machine
# Of launchers here and elsewhere: TensorFlow's, Horovod's, Open MPI's, HCCL's.
VARIABLES = 'TF_CONFIG', 'HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'RANK_TABLE_FILE'
_PR_SET_PDEATHSIG = 1    # linux/prctl.h
_writing = threading.Lock()


def is_launched(environment=os.environ):
    """Whether other processes may have been started with this one, to share its work."""
    return any(environment.get(name) for name in VARIABLES)


def plan(count, hosts='', port=PORT, node_rank=None):
    """{rank: {variable: value}} of this machine's processes: TF_CONFIG tells each its place.

    Args:
        count: processes on this machine; with hosts: on each for which they name no number.
        hosts: 'a:2,b:2', machines and how many processes each takes; '': this one.
        port: of the first process of a machine; those that follow take the next ones. Without
            hosts free ones are found.
        node_rank: which of `hosts` this machine is; None: it is found by its addresses.

    Raises:
        UserError: hosts are not right, or this machine is none of them.
    """
    if not hosts:
        return _described([f'localhost:{free}' for free in free_ports(count)], 0, count)
    machines = [_machine(text, count) for text in hosts.split(',')]
    names = [name for name, _ in machines]
    if len(set(names)) < len(names):
        raise UserError(f'--hosts {hosts}: a machine is named twice')
    if node_rank is None:
        node_rank = next((number for number, name in enumerate(names) if is_here(name)), None)
    if node_rank is None:
        raise UserError(f'--hosts {hosts}: this machine, {socket.gethostname()}, has none of these '
                        'names and addresses; --node_rank tells which it is, from 0')
    if not 0 <= node_rank < len(machines):
        raise UserError(f'--node_rank {node_rank}: --hosts names {counted(len(machines), "host")}, '
                        'counted from 0')
    addresses = [f'{name}:{port + number}' for name, its in machines for number in range(its)]
    first = sum(its for _, its in machines[:node_rank])
    return _described(addresses, first, first + machines[node_rank][1])


def _described(addresses, first, end):
    """{rank: environment} of the processes first .. end-1 of those with these addresses."""
    return {rank: {'TF_CONFIG': json.dumps({'cluster': {'worker': addresses},
                                            'task': {'type': 'worker', 'index': rank}})}
            for rank in range(first, end)}


def _machine(text, count):
    name, _, number = text.strip().partition(':')
    number = number or str(count)
    if not name or not number.isdecimal() or not 1 <= int(number) <= MOST:
        raise UserError(f'--hosts {text}: expected a name and a number of processes up to {MOST}, '
                        'such as a:2')
    return name, int(number)


def is_here(name):
    """Whether a name leads to this machine: only an address of its own can be taken."""
    if name in (socket.gethostname(), socket.gethostname().partition('.')[0]):
        return True
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return True
        except OSError:
            continue
    return False


def free_ports(count):
    """Ports of this machine that nothing listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(('', 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Job:
    """The processes of this machine.

    Args:
        command: words of what each runs; make_plan: function that returns {rank: {variable: value}}
            of these processes, see `plan`, anew for each start, as free ports may not stay free.
    """

    def __init__(self, command, make_plan):
        self._command, self._make_plan = command, make_plan
        self._processes, self._all_run = {}, False
        self._received, self._pending = {}, []    # signals: when they came; not yet handed on

    def run(self, restarts=0):
        """Run the job to its end, again if it fails, and return the worst exit status.

        A job is not repeated that ended because of bad input or a signal.
        """
        previous = {signum: signal.signal(signum, self._pass_on)
                    for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            for attempt in range(restarts + 1):
                status = self._run_once()
                if status in (0, BAD_INPUT, *STOPPED) or self._received or attempt == restarts:
                    break
                _say(f'restart {attempt + 1} of {restarts}')
            return status
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def _pass_on(self, signum, frame):
        now = time.monotonic()
        # A terminal's and a parent's signals may come twice at once; the second means "now".
        if now - self._received.get(signum, -REPEAT) >= REPEAT:
            self._received[signum] = now
            self._pending.append(signum)
            if self._all_run:
                self._hand_on()

    def _hand_on(self):
        """Send each signal that is pending to all, once."""
        with contextlib.suppress(IndexError):
            while True:    # `_pass_on`, which may interrupt this, may have taken the last one
                signum = self._pending.pop(0)
                for process in self._processes.values():
                    process.send_signal(signum)

    def _run_once(self):
        self._processes, self._all_run, readers = {}, False, []
        try:
            for rank, variables in self._make_plan().items():
                self._processes[rank] = self._start(variables)
            for rank, process in self._processes.items():
                for stream, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                    readers.append(threading.Thread(target=_copy,
                                                    args=(stream, target, f'[{rank}] ')))
                    readers[-1].start()
            self._all_run = True
            self._hand_on()
            return self._watch()
        finally:
            self._kill()
            for reader in readers:
                reader.join()

    def _start(self, variables):
        environment = dict(os.environ, PYTHONUNBUFFERED='1', **variables)
        # When one worker is gone the others' TensorFlow would write pages about it.
        environment.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
        try:
            # In sessions of their own: a terminal's signals reach them from here only, once.
            return subprocess.Popen(self._command, env=environment, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, start_new_session=True,
                                    # No threads of ours yet, which forking might harm.
                                    preexec_fn=_end_with_parent(os.getpid()))  # noqa: PLW1509
        except OSError as error:
            raise UserError(f'{self._command[0]}: {os.strerror(error.errno)}') from None

    def _watch(self):
        """Wait for the end of all, and return the worst exit status of those not ended from here.

        Once one has failed the others, who hear of it from each other, have some time to end.
        """
        running, worst, deadline = dict(self._processes), 0, None
        while running:
            for rank, process in list(running.items()):
                status = process.poll()
                if status is None:
                    continue
                del running[rank]
                if status:
                    if deadline is None and status not in STOPPED:
                        _say(f'worker {rank} (process {process.pid}) {_in_words(status)}'
                             + ('; ending the others' if running else ''))
                        deadline = time.monotonic() + PATIENCE
                    worst = max(worst, status if status > 0 else 128 - status)
            # What stops on a signal saves first, which may take longer.
            if deadline and time.monotonic() > deadline:
                _say(f'killing {", ".join(f"worker {rank}" for rank in running)}, still running '
                     f'after {PATIENCE} s')
                break
            time.sleep(.05)
        return worst

    def _kill(self):
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()


def _end_with_parent(parent):
    """A function that lets the process that calls it get SIGTERM when its parent ends."""
    if not sys.platform.startswith('linux'):
        return None
    prctl = ctypes.CDLL(None).prctl

    def prepare():
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)
    return prepare


def _copy(stream, target, prefix):
    """Copy lines as they come, each with a prefix, until the writer has ended.

    Where they cannot be written, the writer's next line fails, as it would without the launcher.
    """
    try:
        with stream:
            for line in iter(stream.readline, b''):
                text = line.decode('utf-8', 'replace').rstrip('\n').rpartition('\r')[2]
                with _writing:    # whole lines
                    target.write(f'{prefix}{text}\n')
                    target.flush()
    except BrokenPipeError:    # the reader (`| head`) is gone
        pass
    except OSError as error:
        _say(f'cannot write output ({os.strerror(error.errno)})')


def _in_words(status):
    return f'ended with exit status {status}' if status > 0 else (
        f'was ended by {signal.Signals(-status).name}')


def _say(text):
    print(f'launch: {text}', file=sys.stderr, flush=True)
