"""Processes that train together: what each computes on its own share of the data is averaged.

`join` gives the process its `Alone` or `TensorFlowWorkers`, which have the same interface. Alone
nothing is added to a graph.

The engine `tensorflow` is TensorFlow's own: each process runs a server, described by the standard
TF_CONFIG, and the collective operations of the graph exchange tensors between them, in a ring over
gRPC between CPUs and by NCCL between GPUs.
"""

import contextlib
import json
import os

from pylib import CommandError, Interrupted, NotFinite, RunFailed, UserError, usable_cores
from pylib.rendezvous import Rendezvous, split_address
from tflib import quiet_native_code, tf

# What TensorFlow's own strategies are made of; public in no version.
from tensorflow.python.ops import collective_ops, data_flow_ops  # isort: skip

ENVIRONMENT = 'TF_CONFIG'
# Tensors of fewer values than that are averaged together: each exchange takes its time.
SMALL = 1 << 14
# Groups of devices, as collective operations number them.
_CPUS, _GPUS = 1, 2


class Alone:
    """One process, which trains by itself.

    Attributes:
        rank: 0 .. size-1, of this process; size: processes; local_rank, local_size: the same among
            those of this machine.
    """

    rank, size, local_rank, local_size = 0, 1, 0, 1
    device = 'cpu'    # on which the exchanged tensors are: 'cpu' or 'gpu'

    def meet(self, facts):
        """Wait for all processes and return what each brought, as JSON, by rank."""
        return [json.loads(json.dumps(facts))]

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

    def barrier(self):
        """Wait until all processes have come here."""

    def leave(self, error=None):
        """End the connections to the others; see `Rendezvous.leave`."""


class TensorFlowWorkers(Alone):
    """Processes whose tensors TensorFlow's own collective operations exchange.

    All have to build the same operations of this class in the same order.

    Args:
        addresses: 'host:port' of each; rank: place of this process among them.
        timeout: seconds to wait for the others at the start.
    """

    def __init__(self, addresses, rank, timeout=600):
        self.rank, self.size = rank, len(addresses)
        self.addresses = addresses
        hosts = [split_address(address)[0] for address in addresses]
        self.local_rank = hosts[:rank].count(hosts[rank])
        self.local_size = hosts.count(hosts[rank])
        self._rendezvous = Rendezvous(addresses, rank, timeout)
        self._keys, self._server = 0, None
        self._order = None    # of a context `in_order`: the operations so far

    def meet(self, facts):
        """See `Alone.meet`.

        Raises:
            UserError, RunFailed: they do not come, or one of them has met an error.
        """
        return self._rendezvous.meet(facts)

    def name(self, rank):
        """How messages call a process."""
        return self._rendezvous.name(rank)

    @property
    def _task(self):
        return f'/job:worker/replica:0/task:{self.rank}'

    def scope(self):
        """See `Alone.scope`."""
        return tf.device(self._task)

    def session(self, config, graph=None):
        """Open a session on the server of this process, which is started for the first one."""
        config.device_filters.append(f'/job:worker/task:{self.rank}')
        config.experimental.collective_group_leader = '/job:worker/replica:0/task:0'
        with quiet_native_code():
            if self._server is None:
                cluster = tf.train.ClusterSpec({'worker': self.addresses})
                self._server = tf.train.Server(cluster, 'worker', self.rank, config=config)
                # The first operation fails, or complains, where a server is not there yet.
                self.barrier()
            return tf.Session(self._server.target, graph=graph, config=config)

    def _next_key(self):
        """The number of an exchange, the same in all processes."""
        self._keys += 1
        return self._keys

    def _reduced(self, tensor, final='Id'):
        """The sum of a tensor over all processes; final: 'Id', or 'Div' for the average."""
        # Whole numbers, which are not computed with, wait for nothing that the GPU does.
        on_gpu = self.device == 'gpu' and tensor.dtype.is_floating
        with tf.device(f'{self._task}/device:{"GPU" if on_gpu else "CPU"}:0'):
            # Kernels of NCCL wait for each other: all processes have to start them in one order.
            with tf.control_dependencies(self._order[-1:] if on_gpu and self._order else []):
                tensor = tf.identity(tensor)
            summed = collective_ops.all_reduce(
                tensor, self.size, _GPUS if on_gpu else _CPUS, self._next_key(), 'Add', final,
                communication_hint='nccl' if on_gpu else 'auto')
        if self._order is not None and on_gpu:
            self._order.append(summed)
        return summed

    @contextlib.contextmanager
    def in_order(self):
        """See `Alone.in_order`."""
        self._order = []
        try:
            yield
        finally:
            self._order = None

    def average(self, tensors):
        """See `Alone.average`: large tensors by themselves, on CPUs each as soon as it is there."""
        tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
        with tf.control_dependencies(tensors if self.device == 'gpu' else []):
            return self._averages(tensors)

    def _averages(self, tensors):
        averages, small = [None] * len(tensors), []
        for place, tensor in enumerate(tensors):
            if tensor.shape.num_elements() < SMALL:
                small.append((place, tensor))
            else:
                averages[place] = self._reduced(tensor, 'Div')
        if small:
            together = self._reduced(
                tf.concat([tf.reshape(tensor, [-1]) for _, tensor in small], 0), 'Div')
            parts = tf.split(together, [tensor.shape.num_elements() for _, tensor in small])
            for (place, tensor), part in zip(small, parts):
                averages[place] = tf.reshape(part, tensor.shape)
        return averages

    def gather(self, tensor):
        """See `Alone.gather`: a sum of tensors that are zero but for one row each."""
        rows = [[self.rank, self.size - 1 - self.rank]] + [[0, 0]] * tensor.shape.ndims
        padded = tf.pad(tensor[tf.newaxis], rows)
        if not tensor.dtype.is_floating:
            return self._reduced(padded)

        @tf.custom_gradient
        def summed(x):
            # The loss of all is the sum of what each has of it, as of its gradient.
            return self._reduced(x), summed
        return summed(padded)

    def agreement(self):
        """See `Alone.agreement`."""
        number = tf.placeholder(tf.int64, [])
        largest = tf.reduce_max(self.gather(number))
        return lambda session, own: int(session.run(largest, {number: own}))

    def broadcast(self, variables):
        """See `Alone.broadcast`."""
        assignments = []
        for variable in variables:
            shape, dtype = variable.shape, variable.dtype.base_dtype
            numbers = self.size, _CPUS, self._next_key()
            with tf.device(f'{self._task}/device:CPU:0'):
                value = (collective_ops.broadcast_recv(shape, dtype, *numbers) if self.rank
                         else collective_ops.broadcast_send(variable.read_value(), shape, dtype,
                                                            *numbers))
            assignments.append(variable.assign(value))
        return tf.group(*assignments)

    def barrier(self):
        """See `Alone.barrier`."""
        self._rendezvous.barrier()

    def leave(self, error=None):
        """See `Alone.leave`."""
        self._rendezvous.leave(error)

    def part(self):
        """Leave when all others do."""
        try:
            if self._server is not None:
                self.barrier()
        finally:
            self.leave()

    def raise_if_lost(self):
        """Raise the error of another process, if one has ended just now."""
        self._rendezvous.raise_if_lost(2)


def _described(environment):
    """(addresses, rank) that TF_CONFIG describes; no addresses without it.

    Raises:
        UserError: it is not what training takes.
    """
    text = environment.get(ENVIRONMENT, '').strip()
    if not text:
        return [], 0
    try:
        described = json.loads(text)
        cluster, task = described.get('cluster') or {}, described.get('task') or {}
        workers = list(cluster.get('chief', [])) + list(cluster.get('worker', []))
        kind, index = task.get('type', 'worker'), int(task.get('index', 0))
    except (ValueError, TypeError, AttributeError):
        raise UserError(f'{ENVIRONMENT}: expected JSON such as {{"cluster": {{"worker": ["a:2222", '
                        '"b:2222"]}, "task": {"type": "worker", "index": 0}}') from None
    if kind not in ('chief', 'master', 'worker') or 'ps' in cluster:
        raise UserError(f'{ENVIRONMENT}: has tasks of type {"ps" if "ps" in cluster else kind}; '
                        'every task trains here: describe workers only')
    if not workers:
        return [], 0
    chiefs = len(cluster.get('chief', []))
    rank = index + (chiefs if kind == 'worker' else 0)
    if not 0 <= rank < len(workers):
        raise UserError(f'{ENVIRONMENT}: task {kind} {index}, but there are '
                        f'{len(workers)} workers, counted from 0')
    for address in workers:
        try:
            split_address(address)
        except UserError as error:
            raise UserError(f'{ENVIRONMENT}: {error}') from None
    if len(set(workers)) < len(workers):
        raise UserError(f'{ENVIRONMENT}: two workers have the same address')
    return workers, rank


@contextlib.contextmanager
def joined(engine='auto', timeout=600, environment=os.environ):
    """Context of the processes that train together: yields `Alone`, or a class derived from it.

    What ends this process is told to the others, which end then, too.

    Args:
        engine: 'none', 'tensorflow', or 'auto', which is what the environment describes.

    Raises:
        UserError: the environment describes none, or wrongly.
    """
    addresses, rank = ([], 0) if engine == 'none' else _described(environment)
    if engine == 'tensorflow' and not addresses:
        raise UserError(f'--distribute tensorflow: {ENVIRONMENT} describes no workers; '
                        'scripts/launch.py sets it')
    if len(addresses) < 2:
        yield Alone()
        return
    workers = TensorFlowWorkers(addresses, rank, timeout)
    try:
        yield workers
    except (Interrupted, NotFinite):
        # Then all have agreed to end.
        workers.part()
        raise
    except RunFailed as error:
        # What it failed for may be that another process has.
        try:
            workers.raise_if_lost()
        except CommandError:
            workers.leave()
            raise
        workers.leave((str(error), error.exit_status))
        raise
    except CommandError as error:
        workers.leave((str(error), error.exit_status))
        raise
    except BaseException as error:
        workers.leave((f'ended with {type(error).__name__}', 1))
        raise
    workers.part()


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
        (operation that computes them and puts them aside, what was put aside, operation that drops
        what is aside).
    """
    area = data_flow_ops.StagingArea([value.dtype for value in values],
                                     [value.shape for value in values])
    return area.put(values), area.get(), area.clear()
