"""The engines by which processes exchange tensors, see `tflib.collective`; `joined` chooses one.

tensorflow: TensorFlow's own. Each process runs a server, described by the standard TF_CONFIG, and
the collective operations of the graph exchange tensors between them, in a ring over gRPC between
CPUs and by NCCL between GPUs.

horovod: horovodrun or mpirun has started the processes, and Horovod tells each its place.

hccl: Ascend NPUs, described by a rank table and the environment of ModelZoo's scripts.
"""

import contextlib
import json
import os
import socket

import numpy as np

from pylib import CommandError, Interrupted, NotFinite, RunFailed, UserError, counted, rank_table
from pylib.rendezvous import PORT, split_address
from tflib import npu, quiet_native_code, tf
from tflib.collective import Alone, Workers

# What TensorFlow's own strategies are made of; public in no version.
from tensorflow.python.ops import collective_ops  # isort: skip

ENVIRONMENT = 'TF_CONFIG'
RANK_TABLE = 'RANK_TABLE_FILE'
# The number of processes, as horovodrun and Open MPI's mpirun tell it.
_LAUNCHED = 'HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE'
# Tensors of fewer values than that are averaged together: each exchange takes its time.
SMALL = 1 << 14
# Groups of devices, as collective operations number them.
_CPUS, _GPUS = 1, 2


class TensorFlowWorkers(Workers):
    """Processes whose tensors TensorFlow's own collective operations exchange; see `Workers`.

    All have to build the same operations of this class in the same order.
    """

    def __init__(self, addresses, rank, timeout=600):
        super().__init__(addresses, rank, timeout)
        self._keys, self._server = 0, None
        self._order = None    # of a context `in_order`: the operations so far

    @property
    def _task(self):
        return f'/job:worker/replica:0/task:{self.rank}'

    def scope(self):
        """See `Alone.scope`."""
        return tf.device(self._task)

    def session(self, config, graph=None):
        """Open a session on the server of this process, which is started for the first one."""
        self._computes = True
        config.device_filters.append(f'/job:worker/task:{self.rank}')
        config.experimental.collective_group_leader = '/job:worker/replica:0/task:0'
        with quiet_native_code():
            if self._server is None:
                cluster = tf.train.ClusterSpec({'worker': self.addresses})
                self._server = tf.train.Server(cluster, 'worker', self.rank, config=config)
                # The first operation fails, or complains, where a server is not there yet.
                self.exchange()
            return tf.Session(self._server.target, graph=graph, config=config)

    def _next_key(self):
        """The number of an exchange, the same in all processes."""
        self._keys += 1
        return self._keys

    def summed(self, tensor):
        """See `Alone.summed`."""
        return self._reduced(tensor, 'Id')

    def _reduced(self, tensor, final):
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
        kind = task.get('type', 'worker')
        # Of several, all would take themselves for the first.
        index = int(task['index'] if len(workers) > 1 else task.get('index', 0))
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        raise UserError(f'{ENVIRONMENT}: expected JSON such as {{"cluster": {{"worker": ["a:2222", '
                        '"b:2222"]}, "task": {"type": "worker", "index": 0}}') from None
    if kind not in ('chief', 'master', 'worker') or 'ps' in cluster:
        raise UserError(f'{ENVIRONMENT}: has tasks of type {"ps" if "ps" in cluster else kind}; '
                        'every task trains here: describe workers only')
    if not workers:
        if cluster:    # as many would train alone as were started
            raise UserError(f'{ENVIRONMENT}: its cluster names no worker; add them, or unset '
                            f'{ENVIRONMENT} to train alone')
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


class HorovodWorkers(Workers):
    """Processes whose tensors Horovod exchanges; see `Workers`.

    Their addresses become known when they meet: telling them takes a session, and a process has to
    choose its GPU before its first one.

    Args:
        hvd: the module horovod.tensorflow, initialized.
    """

    def __init__(self, hvd, timeout=600):
        self.rank, self.size = hvd.rank(), hvd.size()
        self.local_rank, self.local_size = hvd.local_rank(), hvd.local_size()
        self._hvd, self._timeout = hvd, timeout
        self._exchanges, self._computes, self._rendezvous = 0, False, None

    def meet(self, facts):
        """See `Workers.meet`."""
        host = os.environ.get('HOROVOD_HOSTNAME') or socket.gethostname()
        with contextlib.closing(socket.socket()) as free:
            free.bind(('', 0))
            address = f'{host}:{free.getsockname()[1]}'
        super().__init__(_gathered_texts(self._hvd, address), self.rank, self._timeout)
        return super().meet(facts)

    def leave(self, error=None):
        """See `Alone.leave`; who launched the processes ends all when one fails."""
        if self._rendezvous:
            super().leave(error)

    def raise_if_lost(self):
        """See `Workers.raise_if_lost`."""
        if self._rendezvous:
            super().raise_if_lost()

    def _next_name(self):
        """The name of an exchange, the same in all processes: the first one's graph has more."""
        self._exchanges += 1
        return f'exchange_{self._exchanges}'

    def summed(self, tensor):
        """See `Alone.summed`."""
        return self._hvd.allreduce(tensor, name=self._next_name(), op=self._hvd.Sum)

    def broadcast(self, variables):
        """See `Alone.broadcast`."""
        return tf.group(*[
            variable.assign(self._hvd.broadcast(variable.read_value(), 0, name=self._next_name()))
            for variable in variables])


def _gathered_texts(hvd, text):
    """A text of each process, by rank."""
    size = 1024
    data = np.frombuffer(text.encode().ljust(size), np.uint8)[np.newaxis]
    with tf.Graph().as_default(), tf.device('/cpu:0'):
        config = tf.ConfigProto(device_count={'GPU': 0})
        gathered = hvd.allgather(tf.constant(data))
        with quiet_native_code(), tf.Session(config=config) as session:
            return [row.tobytes().decode().strip() for row in session.run(gathered)]


def _horovod_workers(timeout):
    """The `HorovodWorkers` of this process; None if there is only this one.

    Raises:
        UserError: Horovod is not installed, or not for this TensorFlow.
    """
    try:
        import horovod.tensorflow as hvd  # noqa: PLC0415
    except ImportError as error:
        reason = (str(error).splitlines() or [''])[0]
        raise UserError(f'--distribute horovod: Horovod cannot be imported ({reason}); install it '
                        'for this TensorFlow, see docs/distributed.md, or take scripts/launch.py '
                        'with --distribute tensorflow') from None
    hvd.init()
    return HorovodWorkers(hvd, timeout) if hvd.size() > 1 else None


class HcclWorkers(Workers):
    """Ascend NPUs, whose tensors HCCL exchanges; see `Workers`."""

    devices = ('npu',)

    @contextlib.contextmanager
    def session(self, config, graph=None):
        """Context of a session, which opens HCCL before anything else and closes it at the end."""
        ops = npu.adapter_module('estimator.npu_ops')
        with super().session(config, graph) as session:
            with session.graph.as_default():
                start, end = ops.initialize_system(), ops.shutdown_system()
            # The session that opens it decides for the whole graph engine, which ends with it.
            session.run(start)
            yield session
            session.run(end)

    def summed(self, tensor):
        """See `Alone.summed`."""
        return self._summed(tensor, fusion=0)

    def average(self, tensors):
        """See `Alone.average`: in groups, as HCCL's policy for gradients makes them."""
        return [self._summed(tensor, fusion=1) / self.size for tensor in tensors]

    def _summed(self, tensor, fusion):
        allreduce = npu.adapter_module('hccl.hccl_ops').allreduce
        if tensor.dtype.base_dtype == tf.int64:    # which not every version takes
            return tf.cast(allreduce(tf.cast(tensor, tf.int32), 'sum', fusion=fusion), tf.int64)
        return allreduce(tensor, 'sum', fusion=fusion)

    def broadcast(self, variables):
        """See `Alone.broadcast`."""
        values = npu.adapter_module('hccl.hccl_ops').broadcast(
            [variable.read_value() for variable in variables], 0)
        return tf.group(*[variable.assign(value) for variable, value in zip(variables, values)])


def _hccl_workers(environment, timeout):
    """The `HcclWorkers` of this process, as rank table and environment describe them.

    Raises:
        UserError: they do not, or wrongly.
    """
    numbers = {}
    for name in ('RANK_SIZE', 'RANK_ID'):
        text = environment.get(name, '')
        if not text.isdecimal():
            raise UserError(f'--distribute hccl: {name} is {text or "not set"}, a whole number was '
                            'expected; scripts/ascend/train_full_8p.sh sets what HCCL needs')
        numbers[name] = int(text)
    size, rank = numbers['RANK_SIZE'], numbers['RANK_ID']
    for name in ('JOB_ID', RANK_TABLE):
        if not environment.get(name):
            raise UserError(f'--distribute hccl: {name} is not set; scripts/ascend/'
                            'train_full_8p.sh sets what HCCL needs')
    path = environment[RANK_TABLE]
    servers = [server for server, _ in rank_table.read(path)]
    if len(servers) != size or not rank < size:
        raise UserError(f'{path}: describes {counted(len(servers), "device")}, but RANK_SIZE is '
                        f'{size} and RANK_ID {rank}')
    port = environment.get('MASTER_PORT') or str(PORT)
    if not port.isdecimal() or not 0 < int(port) <= 64000:
        raise UserError(f'MASTER_PORT is {port}, a port from 1 to 64000 was expected')
    addresses = [f'{server}:{int(port) + servers[:place].count(server)}'
                 for place, server in enumerate(servers)]
    return HcclWorkers(addresses, rank, timeout) if size > 1 else None


def _workers(engine, timeout, environment):
    """The `Workers` of the engine asked for, or of what the environment describes; None: alone."""
    if engine == 'auto':
        engine = ('tensorflow' if environment.get(ENVIRONMENT, '').strip() else
                  'horovod' if _size_in(environment, *_LAUNCHED) > 1 else
                  'hccl' if environment.get(RANK_TABLE) and _size_in(environment, 'RANK_SIZE') > 1
                  else 'none')
    elif engine == 'tensorflow' and not _described(environment)[0]:
        raise UserError(f'--distribute tensorflow: {ENVIRONMENT} describes no workers; '
                        'scripts/launch.py sets it')
    if engine == 'horovod':
        return _horovod_workers(timeout)
    if engine == 'hccl':
        return _hccl_workers(environment, timeout)
    addresses, rank = _described(environment) if engine == 'tensorflow' else ([], 0)
    return TensorFlowWorkers(addresses, rank, timeout) if len(addresses) > 1 else None


def _size_in(environment, *names):
    """The largest number that these variables hold."""
    texts = [environment.get(name, '') for name in names]
    return max(int(text) if text.isdecimal() else 0 for text in texts)


@contextlib.contextmanager
def joined(engine='auto', timeout=600, environment=os.environ):
    """Context of the processes that share a job: yields `Alone`, or one of the `Workers`.

    What ends this process is told to the others, which end then, too.

    Args:
        engine: 'none', 'tensorflow', 'horovod', 'hccl', or 'auto': as what has launched this
            process describes it in the environment.
        timeout: seconds to wait for the others.

    Raises:
        UserError: the environment describes none, or wrongly.
    """
    workers = _workers(engine, timeout, environment)
    if workers is None:
        yield Alone()
        return
    try:
        yield workers
    except (Interrupted, NotFinite) as error:
        workers.part((str(error), error.exit_status))
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
