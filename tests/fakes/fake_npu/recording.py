"""The switches of the fakes, the state of the pretended device, and what happened to it."""

import os
import sys

import tensorflow.compat.v1 as tf
from tensorflow.python.client.session import BaseSession

VERSIONS = ('r1.5', 'r1.9', 'r1.15')
FAKES = ('npu_bridge', 'npu_device', 'hccl')


class Recorder:
    """One per process, `fake_npu.recorder`.

    Switches, from the environment at `reset()` and assignable before the fake is imported:
        version       FAKE_NPU_VERSION, one of VERSIONS: the adapter's branch; default r1.15
        inf_nan       FAKE_NPU_INF_NAN 0 or 1: whether the device keeps infinities (newer chips)
                      instead of saturating and raising the overflow flag; default 1 on r1.15
        overflow_at   FAKE_NPU_OVERFLOW_AT '3,5': numbers of the reads of the float status, from 0
                      over all optimizers of the process, that see an overflow; any container
                      (`reads` counts them)
        overflow      the device's sticky overflow flag; a clear lowers it
        no_hccl       FAKE_NPU_NO_HCCL 1: the toolkit's communication library does not load
        resource      whether npu_resource_init keeps the graph engine alive without sessions
    What happened:
        built         (name, details) of what was added to a graph or called, in order
        ran           names of the device ops that sessions ran, in order
        sessions      copies of the ConfigProtos that reached TensorFlow's patched sessions
        initialized   whether a session ran initialize_system, and no shutdown_system since; the
                      graph engine, and this with it, ends with the last of its sessions
    """

    def __init__(self):
        self._originals = {}
        self._open = set()
        self._watched = None
        self._start()

    def reset(self):
        """Be as in a new process: real sessions, nothing recorded, no fake imported."""
        for session, original in self._originals.items():
            session.__init__ = original
        self._unwatch_sessions()
        self._originals.clear()
        self._open.clear()
        for name in [name for name in sys.modules if name.split('.')[0] in FAKES]:
            del sys.modules[name]
        self._start()

    def _start(self):
        self.version = os.environ.get('FAKE_NPU_VERSION', 'r1.15')
        if self.version not in VERSIONS:
            raise ValueError(f'FAKE_NPU_VERSION is {self.version!r}, not one of {VERSIONS}')
        inf_nan = os.environ.get('FAKE_NPU_INF_NAN')
        self.inf_nan = None if inf_nan is None else inf_nan == '1'
        at = os.environ.get('FAKE_NPU_OVERFLOW_AT', '')
        self.overflow_at = {int(number) for number in at.split(',') if number}
        self.no_hccl = os.environ.get('FAKE_NPU_NO_HCCL') == '1'
        self.overflow = self.initialized = self.resource = False
        self.built, self.ran, self.sessions = [], [], []
        self.reads = 0

    def is_inf_nan(self):
        return self.version == 'r1.15' if self.inf_nan is None else self.inf_nan

    def note(self, name, **details):
        self.built.append((name, details))

    def named(self, name):
        """Details of the entries of `built` called `name`."""
        return [details for entry, details in self.built if entry == name]

    def note_optimizer(self, optimizer, **details):
        """Note a wrapper of an optimizer with the names of all types from it inwards."""
        nesting, inner = [], optimizer
        while inner is not None:
            nesting += [*vars(inner).get('_npu_wrappers', ()), type(inner).__name__]
            inner = vars(inner).get('_opt')
        self.note('optimizer', nesting=nesting, **details)

    def run_op(self, name, inputs=(), act=None):
        """An op that, in each run and after `inputs`, notes itself in `ran` and calls `act()`."""
        def run():
            self.ran.append(name)
            if act:
                act()
            return []
        with tf.control_dependencies(inputs):
            return tf.numpy_function(run, [], [], name=name)

    def read_overflow(self):
        """The overflow flag, as the op that gets the float status sees it."""
        self.overflow = self.overflow or self.reads in self.overflow_at
        self.reads += 1
        return self.overflow

    def clear_overflow(self):
        self.overflow = False

    def watch_sessions(self):
        """Notice sessions of the graph engine that open and close, all versions alike."""
        if self._watched:
            return
        create, close = self._watched = (BaseSession.__init__, BaseSession.close)

        def opening(session, *args, **kwargs):
            create(session, *args, **kwargs)
            if uses_graph_engine(session._config):
                self._open.add(id(session))

        def closing(session):
            close(session)
            if id(session) in self._open:
                self._open.remove(id(session))
                if not self._open and not self.resource:
                    self.initialized = False
        BaseSession.__init__, BaseSession.close = opening, closing

    def _unwatch_sessions(self):
        if self._watched:
            BaseSession.__init__, BaseSession.close = self._watched
            self._watched = None

    def patch_sessions(self):
        """Make every new session an NPU session, as importing npu_init does from r1.9 on."""
        if self._originals:
            return
        for session in (tf.Session, tf.InteractiveSession):
            original = self._originals[session] = session.__init__

            def constructor(self_, target='', graph=None, config=None, original=original):
                config = npu_config(tf.ConfigProto() if config is None else config)
                config.log_device_placement = False
                self.sessions.append(tf.ConfigProto.FromString(config.SerializeToString()))
                original(self_, target, graph, config)
            session.__init__ = constructor


def uses_graph_engine(config):
    """Whether a session of this ConfigProto, or None, runs its graphs on the device."""
    if config is None:
        return False
    entries = [entry for entry in config.graph_options.rewrite_options.custom_optimizers
               if entry.name == 'NpuOptimizer']
    return bool(entries) and ('use_off_line' not in entries[0].parameter_map
                              or entries[0].parameter_map['use_off_line'].b)


def npu_config(config, memory_optimization_always=False):
    """Change `config` itself into that of an NPU session, with an NpuOptimizer entry."""
    rewriting = config.graph_options.rewrite_options
    off = type(rewriting).OFF
    if 'NpuOptimizer' not in [entry.name for entry in rewriting.custom_optimizers]:
        rewriting.custom_optimizers.add().name = 'NpuOptimizer'
        memory_optimization_always = True
    if memory_optimization_always:
        rewriting.memory_optimization = off
    rewriting.remapping = off
    config.allow_soft_placement = True
    config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.OFF
    return config
