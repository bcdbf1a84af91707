"""Processes that train together: what each computes on its own share of the data is averaged.

`Alone` and `Workers` have the same interface; `tflib.engines` gives a process its own. Alone
nothing is added to a graph.
"""

import contextlib
import json
import os

from pylib import usable_cores
from pylib.rendezvous import Rendezvous, split_address
from tflib import npu, quiet_native_code, tf

# What TensorFlow's own input pipelines are made of; public in no version.
from tensorflow.python.ops import data_flow_ops  # isort: skip

# How the types of operations begin that exchange tensors between processes.
_EXCHANGES = 'Collective', 'Horovod', 'Hcom'


class Alone:
    """One process, which trains by itself.

    Attributes:
        rank: 0 .. size-1, of this process; size: processes; local_rank, local_size: the same among
            those of this machine.
    """

    rank, size, local_rank, local_size = 0, 1, 0, 1
    device = 'cpu'    # on which the exchanged tensors are

    def meet(self, facts):
        """Wait for all processes and return what each brought, as JSON, by rank."""
        return [json.loads(json.dumps(facts))]

    def share(self, items):
        """This process's part of a list that all have."""
        return list(items)[self.rank::self.size]

    def merged(self, made):
        """What all have made of their `share`s, in the order of the list; after `meet`."""
        shares = self.exchange(list(made))
        items = [None] * sum(map(len, shares))
        for rank, each in enumerate(shares):
            items[rank::self.size] = each
        return items

    def scope(self):
        """Context in which the graph is built."""
        return contextlib.nullcontext()

    def session(self, config, graph=None):
        """Open a session on `graph` (default: the current graph)."""
        with quiet_native_code():
            return tf.Session(graph=graph, config=config)

    def in_order(self):
        """Context of operations of this class that one session run executes."""
        return contextlib.nullcontext()

    def summed(self, tensor):
        """The sum of a tensor over all processes."""
        return tensor

    def average(self, tensors):
        """Float32 tensors averaged over all processes, as a list."""
        return list(tensors)

    def gather(self, tensor):
        """What all processes have of a tensor: [size, *its shape], differentiable."""
        return tensor[tf.newaxis]

    def agreement(self):
        """A function (session, whole number) that returns the largest of all processes' numbers."""
        return lambda session, number: number

    def broadcast(self, variables):
        """Return the operation that gives `variables` the values that the first process has."""
        return tf.no_op()

    def exchange(self, facts=None):
        """Wait for all processes and return what each brought, as JSON, by rank; after `meet`."""
        return [facts]

    def leave(self, error=None):
        """End the connections to the others; see `Rendezvous.leave`."""


class Workers(Alone):
    """Processes that know each other's addresses; an engine adds how tensors are exchanged.

    Args:
        addresses: 'host:port' of each; rank: place of this process among them.
        timeout: seconds to wait for the others at the start.
    """

    devices = 'cpu', 'gpu'    # between which tensors are exchanged

    def __init__(self, addresses, rank, timeout=600):
        self.rank, self.size = rank, len(addresses)
        self.addresses = addresses
        hosts = [split_address(address)[0] for address in addresses]
        self.local_rank = hosts[:rank].count(hosts[rank])
        self.local_size = hosts.count(hosts[rank])
        self._rendezvous = Rendezvous(addresses, rank, timeout)
        self._computes = False

    def meet(self, facts):
        """See `Alone.meet`.

        Raises:
            UserError, RunFailed: they do not come, or one of them has met an error.
        """
        return self._rendezvous.meet(facts)

    def name(self, rank):
        """How messages call a process."""
        return self._rendezvous.name(rank)

    def session(self, config, graph=None):
        """See `Alone.session`."""
        self._computes = True
        return super().session(config, graph)

    def summed(self, tensor):
        """See `Alone.summed`."""
        raise NotImplementedError

    def average(self, tensors):
        """See `Alone.average`."""
        return [self.summed(tensor) / self.size for tensor in tensors]

    def gather(self, tensor):
        """See `Alone.gather`: a sum of tensors that are zero but for one row each."""
        rows = [[self.rank, self.size - 1 - self.rank]] + [[0, 0]] * tensor.shape.ndims
        padded = tf.pad(tensor[tf.newaxis], rows)
        if not tensor.dtype.is_floating:
            return self.summed(padded)

        @tf.custom_gradient
        def differentiable(x):
            # The loss of all is the sum of what each has of it, as of its gradient.
            return self.summed(x), differentiable
        return differentiable(padded)

    def agreement(self):
        """See `Alone.agreement`."""
        number = tf.placeholder(tf.int64, [])
        largest = tf.reduce_max(self.gather(number))
        return lambda session, own: int(session.run(largest, {number: own}))

    def exchange(self, facts=None):
        """See `Alone.exchange`.

        Raises:
            UserError, RunFailed, Interrupted: what has ended another process.
        """
        return self._rendezvous.exchange(facts)

    def leave(self, error=None):
        """See `Alone.leave`."""
        self._rendezvous.leave(error)

    def part(self, error=None):
        """Leave when all others do, or because of an error, (message, exit status)."""
        if not self._computes:
            self.leave(error)
            return
        # Those that compute together have agreed to end.
        try:
            self.exchange()
        finally:
            self.leave()

    def raise_if_lost(self):
        """Raise the error of another process, if one has ended just now."""
        self._rendezvous.raise_if_lost(2)


def gpus_of(gpus, workers, environment=os.environ):
    """Which GPUs a process may see: one for each of those on this machine, in the order of rank.

    Args:
        gpus: as for `utils.select_gpus`, for all processes of a machine together.
    """
    if workers.local_size == 1:
        return gpus
    visible = environment.get('CUDA_VISIBLE_DEVICES') if gpus == 'all' else gpus
    if visible is None:
        return str(workers.local_rank)
    names = visible.split(',')
    # Batch systems show each process its own.
    return names[workers.local_rank] if len(names) > workers.local_rank else gpus


def threads_of(threads, workers):
    """How many threads a process takes: its share of the cores, unless it is told."""
    if threads > 0 or workers.local_size == 1:
        return threads
    return max(1, usable_cores() // workers.local_size)


def staged(values):
    """Values to be computed in a run of their own.

    For what may fail: a run that exchanges tensors has to fail in all processes or in none.

    Returns:
        (operation that computes them and puts them aside, function that adds operations which take
        what was put aside first, operation that drops what is aside).
    """
    def get():
        with npu.host_scope():
            return area.get()
    with npu.host_scope():
        area = data_flow_ops.StagingArea([value.dtype for value in values],
                                         [value.shape for value in values])
        return area.put(values), get, area.clear()


def traced_seconds(metadata):
    """What a traced session run spent its time on; the two may overlap.

    Args:
        metadata: the tf.RunMetadata of a run with tf.RunOptions.FULL_TRACE.

    Returns:
        {'exchange': seconds in which tensors were exchanged, or others waited for; 'compute':
        seconds in which anything else was computed}.
    """
    times = {'exchange': [], 'compute': []}
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            # 'name = Type(inputs)'
            kind = node.timeline_label.partition(' = ')[2].partition('(')[0]
            if kind in ('', 'NoOp', 'Const', '_Send', '_Recv', '_HostRecv', '_HostSend'):
                continue
            name = 'exchange' if kind.startswith(_EXCHANGES) else 'compute'
            times[name].append((node.all_start_micros + node.op_start_rel_micros,
                                node.all_start_micros + node.op_end_rel_micros))
    return {name: _covered(intervals) / 1e6 for name, intervals in times.items()}


def _covered(intervals):
    """The length of the union of intervals."""
    total, reached = 0, 0
    for start, end in sorted(intervals):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
