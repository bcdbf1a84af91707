"""The processes of one job find each other, compare what they were started with, and end together.

Each has a connection to the first. Its end is how a process learns that another one is gone: what
computes together may wait for ever for one that is not there (TensorFlow 1.15 does).

No authentication, as in the servers of TensorFlow that take the same ports over: for networks whose
machines trust each other.
"""

import contextlib
import errno
import json
import os
import select
import socket
import sys
import threading
import time

from pylib.command import CommandError, Interrupted, RunFailed, UserError

GREETING = 'stgan'
PORT = 29500         # of the first process of a machine, unless told otherwise
NOTICE = 10          # seconds after which a process says for whom it waits
NAMING = 20          # seconds in which the hosts' names have to become known
TELLING = 10         # seconds in which others come to hear what went wrong
STRANGER = 20        # seconds in which what answers in the place of the first may give way to it
GRACE = 5            # seconds that a process has to end by itself once another one is gone
LONGEST = 1 << 22    # bytes of a message
# Seconds: a connection that is silent for longer than their sum of about 20 is dead. The system
# answers for a process that is busy.
KEEPALIVE = (('TCP_KEEPIDLE', 5), ('TCP_KEEPINTVL', 5), ('TCP_KEEPCNT', 3),
             ('TCP_USER_TIMEOUT', 20000))


class Channel:
    """A connection that carries JSON objects, one a line."""

    def __init__(self, connection):
        self._connection, self._received, self._lock = connection, b'', threading.Lock()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            if hasattr(socket, name):    # macOS has other names, and longer times
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def fileno(self):
        """For `select`."""
        return self._connection.fileno()

    def send(self, **message):
        """Send a message; one that cannot be delivered is as good as not read."""
        with contextlib.suppress(OSError), self._lock:
            self._connection.settimeout(20)
            self._connection.sendall(json.dumps(message).encode() + b'\n')

    def receive(self, deadline=None):
        """Return the next message; None at the end of the connection or the deadline.

        What is no message ends the connection, too.
        """
        while b'\n' not in self._received:
            left = None if deadline is None else max(0., deadline - time.monotonic())
            try:
                if len(self._received) > LONGEST or not select.select([self], [], [], left)[0]:
                    return None
                data = self._connection.recv(1 << 16)
            except (OSError, ValueError):
                return None
            if not data:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b'\n')
        try:
            message = json.loads(line.decode())
        except ValueError:
            return None
        return message if isinstance(message, dict) else None

    def has_message(self):
        """Whether a whole message has been received that nobody has asked for yet."""
        return b'\n' in self._received

    def close(self):
        """End the connection."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def split_address(address):
    """(host, port) of 'host:port'; UserError for anything else."""
    host, _, port = address.rpartition(':') if isinstance(address, str) else ('', '', '')
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f'{address!r}: expected host:port')
    return host.strip('[]'), int(port)


def _is_known(host, port):
    try:
        return bool(socket.getaddrinfo(host, port))
    except (OSError, UnicodeError):
        return False


def _connect(address, seconds):
    """A `Channel` to an address, or None if nothing answers."""
    try:
        return Channel(socket.create_connection(split_address(address), max(seconds, .1)))
    except OSError:
        return None


def _listener(port):
    """A socket that listens on a port of all of this machine's addresses, as TensorFlow will."""
    try:
        return _bound(socket.AF_INET6, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise
        return _bound(socket.AF_INET, port)    # a system without IPv6


def _bound(family, port):
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(('', port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


class Rendezvous:
    """The connections between the processes of a job.

    Args:
        addresses: 'host:port' of each process, the same list in all; rank: place of this one.
        timeout: seconds to wait for the others.
    """

    def __init__(self, addresses, rank, timeout=600):
        self._addresses, self._rank = list(addresses), rank
        self._timeout = timeout
        self._channels = {}    # rank -> Channel: all others in the first, the first in all others
        self._condition = threading.Condition()
        self._exchanges, self._passed, self._arrived, self._brought = 0, 0, {}, []
        self._lost, self._left, self._met = None, False, False
        self._failed = False    # to meet: the others know why, or cannot be told

    def name(self, rank):
        """How messages call a process."""
        return f'worker {rank} ({self._addresses[rank]})'

    def meet(self, facts=None, error=None):
        """Wait for all, and return what they brought, by rank.

        Args:
            facts: what JSON holds; error: (message, exit status) that ends all processes instead.

        Raises:
            UserError, RunFailed: the others cannot be met, or one of them has met an error.
        """
        deadline = time.monotonic() + self._timeout
        with contextlib.ExitStack() as stack:
            listener = None
            try:
                self._check_hosts(min(deadline, time.monotonic() + NAMING))
                listener = stack.enter_context(contextlib.closing(
                    _listener(split_address(self._addresses[self._rank])[1])))
            except CommandError as problem:
                error = error or (str(problem), 2)
            except OSError as problem:
                error = error or (f'{self.name(self._rank)}: cannot listen on its port ('
                                  f'{os.strerror(problem.errno)}); end what uses it, or take '
                                  'another', 2)
            try:
                if self._rank == 0:
                    met = self._gather(listener, facts, error, deadline)
                else:
                    met = self._join(listener, facts, error, deadline)
            except CommandError:
                self._failed = True
                self.close()
                raise
        self._met = True
        threading.Thread(target=self._watch, daemon=True).start()
        return met

    def _check_hosts(self, deadline):
        """Wait until all hosts are known: a cluster manager may name them as it starts them."""
        for rank, address in enumerate(self._addresses):
            while not _is_known(*split_address(address)):
                if time.monotonic() > deadline:
                    raise UserError(f'{self.name(rank)}: no host of that name is known')
                time.sleep(.2)

    def _gather(self, listener, facts, error, deadline):
        """`meet` of the first process."""
        if error and listener is None:    # nobody can come
            _fail(*error)
        brought, announced = {0: facts}, time.monotonic() + NOTICE
        while len(brought) < len(self._addresses) and time.monotonic() < deadline:
            if error:
                deadline = min(deadline, time.monotonic() + TELLING)
            if time.monotonic() > announced:
                print(f'waiting for {self._names_missing(brought)}', flush=True)
                announced = float('inf')
            if select.select([listener], [], [], .5)[0]:
                channel = Channel(listener.accept()[0])
                error = self._admit(channel, brought, error)
        if not error and len(brought) < len(self._addresses):
            error = (f'{self._names_missing(brought)} did not come within {self._timeout:g} s', 1)
        if error:
            self._tell_all(*_of(0, *error))
            _fail(*error)
        met = [brought[rank] for rank in range(len(self._addresses))]
        for channel in self._channels.values():
            channel.send(facts=met)
        return met

    def _admit(self, channel, brought, error):
        """Take note of a process that has come, and return the first error so far."""
        hello = channel.receive(time.monotonic() + 5) or {}
        rank, problem = hello.get('rank'), hello.get('error')
        if hello.get('greeting') != GREETING or not isinstance(rank, int):    # a stranger
            channel.close()
            return error
        if problem:
            problem = _of(rank, *problem)
        elif hello.get('addresses') != self._addresses:
            problem = (f'worker {rank} was started for other workers ('
                       f'{", ".join(map(str, hello.get("addresses") or []))}) than worker 0 ('
                       f'{", ".join(self._addresses)})', 2)
        elif rank in brought:
            problem = (f'two processes say that they are {self.name(rank)}', 2)
        channel.send(greeting=GREETING)
        # A second one of a rank, or one of other workers, hears of it but is not counted.
        self._channels[-len(self._channels) - 1 if problem else rank] = channel
        if rank < len(self._addresses):
            brought.setdefault(rank, hello.get('facts'))
        if not problem and not self._answers(rank):
            problem = (f'{self.name(rank)}: has come from elsewhere, nothing answers under that '
                       'address', 2)
        return error or problem

    def _names_missing(self, brought):
        return ', '.join(self.name(rank) for rank in range(len(self._addresses))
                         if rank not in brought)

    def _answers(self, rank):
        """Whether a process can be reached at its address."""
        channel = _connect(self._addresses[rank], 5)
        if channel is None:
            return False
        with contextlib.closing(channel):
            return (channel.receive(time.monotonic() + 5) or {}).get('rank') == rank

    def _join(self, listener, facts, error, deadline):
        """`meet` of all processes but the first."""
        if error:
            deadline = min(deadline, time.monotonic() + TELLING)
        channel = self._channel_to_first(
            {'greeting': GREETING, 'rank': self._rank, 'addresses': self._addresses,
             'facts': facts, 'error': error}, deadline, error)
        self._channels[0] = channel
        while True:
            ready = select.select([channel] + [listener] * bool(listener), [], [], 1)[0]
            if listener in ready:
                with contextlib.closing(Channel(listener.accept()[0])) as asking:
                    asking.send(rank=self._rank)
            if channel in ready or channel.has_message():
                break
        message = channel.receive(time.monotonic() + 20) or {
            'error': [f'{self.name(0)} is gone', 1]}
        if message.get('error'):
            _fail(*message['error'])
        return message['facts']

    def _channel_to_first(self, hello, deadline, error):
        """The `Channel` to the first process, which has taken note of `hello`."""
        stranger, announced = None, time.monotonic() + NOTICE
        while True:
            channel = _connect(self._addresses[0], min(5, deadline - time.monotonic()))
            if channel:
                channel.send(**hello)
                if (channel.receive(time.monotonic() + 5) or {}).get('greeting') == GREETING:
                    return channel
                channel.close()
                stranger = stranger or time.monotonic()
            now = time.monotonic()
            if now > announced:
                print(f'waiting for {self.name(0)}', flush=True)
                announced = float('inf')
            if stranger and now > stranger + STRANGER or now > deadline:
                if error:
                    _fail(*error)
                if stranger:
                    raise UserError(f'{self.name(0)}: what answers there does not wait for '
                                    'workers; has the training begun without this one, or has '
                                    'another program the port?')
                raise RunFailed(f'{self.name(0)}: nothing answers there; waited '
                                f'{self._timeout:g} s')
            time.sleep(.2)

    def exchange(self, facts=None):
        """Wait until all have called this; returns what they brought, by rank.

        Raises:
            what has ended another process.
        """
        self._exchanges += 1
        if self._rank:
            self._channels[0].send(brought=facts)
        else:
            self._note_arrival(0, facts)
        with self._condition:
            self._condition.wait_for(lambda: self._passed >= self._exchanges or self._lost)
        self.raise_if_lost()
        return self._brought

    def _note_arrival(self, rank, facts):
        """The first process takes note of who has come to the next exchange."""
        with self._condition:
            self._arrived[rank] = facts
            if len(self._arrived) < len(self._addresses):
                return
            brought = [self._arrived.pop(each) for each in range(len(self._addresses))]
        # The others first: once this one goes on it may end.
        for channel in self._channels.values():
            channel.send(exchanged=brought)
        self._pass(brought)

    def _pass(self, brought):
        with self._condition:
            self._passed, self._brought = self._passed + 1, brought
            self._condition.notify_all()

    def raise_if_lost(self, seconds=0.):
        """Raise what has ended another process, if that becomes known within so many seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._lost, seconds)
        if self._lost:
            _fail(*self._lost)

    def leave(self, error=None):
        """End the connections; an error, (message, exit status), is told to the others first."""
        if not self._met:
            if error and not self._failed:
                with contextlib.suppress(CommandError):
                    self.meet(error=error)
            self.close()
            return
        self._left = True
        if error:
            self._tell_all(*_of(self._rank, *error))
        else:
            for channel in self._channels.values():
                channel.send(done=True)
        self.close()

    def _tell_all(self, text, status):
        for channel in self._channels.values():
            channel.send(error=[text, status])

    def close(self):
        """End the connections without a word."""
        self._left = True
        for channel in self._channels.values():
            channel.close()

    def _watch(self):
        """Read what the others say, until one is gone or has ended in an error."""
        channels = {channel: rank for rank, channel in self._channels.items()}
        while channels and not self._left:
            ready = [channel for channel in channels if channel.has_message()]
            try:
                ready = ready or select.select(list(channels), [], [], 1)[0]
            except (OSError, ValueError):    # closed by `leave`
                return
            for channel in ready:
                message, rank = channel.receive(), channels[channel]
                if self._left:
                    return
                if message is None:
                    message = {'error': [f'{self.name(rank)} is gone: it was killed, or its '
                                         'machine or network failed', 1]}
                if message.get('done'):
                    del channels[channel]
                elif 'brought' in message:
                    self._note_arrival(rank, message['brought'])
                elif 'exchanged' in message:
                    self._pass(message['exchanged'])
                elif 'error' in message:
                    self._end_with(message['error'])
                    return

    def _end_with(self, error):
        """End this process because of another one: by itself if it can, else at once."""
        with self._condition:
            self._lost = tuple(error)
            self._condition.notify_all()
        if self._rank == 0:
            self._tell_all(*error)
        time.sleep(GRACE)
        # Whatever becomes of the words: who read them may have been the first to go.
        with contextlib.suppress(OSError, ValueError):
            if not self._left:
                print(f'error: {error[0]}', file=sys.stderr, flush=True)
            sys.stdout.flush()
        os._exit(error[1])    # the program may wait for ever in native code


def _of(rank, message, status):
    """(message, status) of an error with the process that has met it."""
    return message if message.startswith('worker') else f'worker {rank}: {message}', status


def _fail(message, status):
    """Raise the error that has this message and exit status."""
    for kind in (RunFailed, UserError):
        if kind.exit_status == status:
            raise kind(message)
    raise Interrupted(message, status)
