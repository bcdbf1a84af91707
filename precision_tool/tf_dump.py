"""Dumps of TensorFlow's debugger (tfdbg) -> golden tensors: one .npy file each.

The debugger (see `tf_config.sess_dump`) leaves a folder `run_<microseconds>_<number>` for each
session run. `convert` turns one of them into a folder with

    <operation>.<output index>.<microseconds>.npy    each tensor, see `file_names.golden_name`
    graph.pb                                         the graph that ran, a binary GraphDef

What was fed has the name of the tensor it was fed to.
"""

import os
import re
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.python.debug.lib import debug_data

from precision_tool.file_names import (
    NAME_BYTES,
    TF_GRAPH,
    golden_name,
    parse_golden_name,
    plain,
)
from pylib import UserError, atomic_path, warn
from tflib import tf

PROTO_BYTES = (1 << 31) - 1  # what one protocol buffer may have

# What comes of damaged protocol buffers in TensorFlow's hands.
DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, DecodeError,
          tf.errors.OpError)

# What the runtime adds between the nodes of a graph.
_PLUMBING = ('_Arg', '_Retval', '_Send', '_Recv', '_HostSend', '_HostRecv')

_RUN = re.compile(r'run_([0-9]{1,20})_([0-9]{1,10})')
_FED = re.compile(r'_arg_(.+)_([0-9]{1,9})_[0-9]+')


class Count(NamedTuple):
    """Numbers of tensors of a run.

    written: .npy files; skipped: those that have no numbers (not initialized, text, resources),
    are damaged, or have too long a name. Of the last two kinds each got a warning.
    """

    written: int
    skipped: int


def newest_run(tf_debug_folder):
    """Return the folder of the last session run below `tf_debug_folder`.

    Raises:
        UserError: there is none.
    """
    runs = []
    for folder in [tf_debug_folder] + _folders(tf_debug_folder):
        for path in _folders(folder):
            match = _RUN.fullmatch(os.path.basename(path))
            if match:
                runs.append((int(match[1]), int(match[2]), path))
    if not runs:
        raise UserError(f'{tf_debug_folder}: no runs of TensorFlow\'s debugger; wrap the session '
                        'in tf_config.sess_dump() and run it')
    return max(runs)[-1]


def _folders(path):
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir()]
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}; run the session with tf_config.sess_dump() '
                        'first') from None


def convert(run_folder, output_folder):
    """Write the tensors and the graph of one debugged run, one tensor in memory at a time.

    Tensors of an earlier conversion are removed from `output_folder`: those of two runs must not
    be mistaken for one.

    Returns:
        A `Count`.

    Raises:
        UserError: not a run of the debugger, without any tensor, or the output folder has .npy
            files that no conversion left.
    """
    dump = _open(run_folder)
    graph, data = _graph(dump, run_folder), _named(dump, run_folder)
    _empty(output_folder)
    with atomic_path(os.path.join(output_folder, TF_GRAPH)) as path, open(path, 'wb') as stream:
        stream.write(graph.SerializeToString())
    written = {name for name, datum in data if _write(datum, os.path.join(output_folder, name))}
    if not written:
        raise UserError(f'{run_folder}: none of its {len(data)} tensors is readable; run the '
                        'session again')
    return Count(written=len(written), skipped=len(data) - len(written))


def _named(dump, run_folder):
    """The tensors of a run in order of time, as a list of (golden file name, datum)."""
    data = [datum for datum in dump.dumped_tensor_data if datum.debug_op == 'DebugIdentity']
    if not data:
        raise UserError(f'{run_folder}: no tensors; the run failed or fetched nothing, take '
                        'another one')
    sources = [_source(datum.node_name, datum.output_slot) for datum in data]
    # Of an operation with other outputs in use, a fed one is computed all the same.
    fed = {source for source, datum in zip(sources, data) if source[0] != datum.node_name}
    names, owners = [], {}
    for (op_name, index), datum in zip(sources, data):
        if (op_name, index) not in fed or op_name != datum.node_name:
            names.append((golden_name(op_name, index, datum.timestamp), datum))
            owners.setdefault(plain(op_name), set()).add(op_name)
    for name, several in sorted(owners.items()):
        if len(several) > 1:
            warn(f'{run_folder}: {" and ".join(sorted(several))} share the file name {name}')
    return names


def _open(run_folder):
    if not os.path.isdir(run_folder):
        raise UserError(f'{run_folder}: no such folder; expected a run of TensorFlow\'s debugger')
    try:
        # Its validation refuses runs in which the clocks of two devices differ.
        return debug_data.DebugDumpDir(run_folder, validate=False)
    except DAMAGE + (OSError,) as error:
        raise UserError(f'{run_folder}: not a whole run of TensorFlow\'s debugger '
                        f'({reason(error)}); run the session again') from None


def reason(error):
    """What an exception says, in one line."""
    # TensorFlow 2.x puts the place before the reason.
    text = re.split('\nNode: .*\n', str(error))[-1]
    return (text.splitlines() or [''])[0] or type(error).__name__


def _empty(folder):
    """Remove what an earlier conversion left in `folder`, and nothing else."""
    if not os.path.isdir(folder):
        return
    names = [name for name in os.listdir(folder) if name.endswith('.npy')]
    foreign = [name for name in names if not parse_golden_name(name)]
    if names and (foreign or not os.path.isfile(os.path.join(folder, TF_GRAPH))):
        raise UserError(f'{folder}: has tensors of other origin ({(foreign or names)[0]}); take '
                        'another folder or remove them')
    for name in names:
        os.unlink(os.path.join(folder, name))


def _graph(dump, run_folder):
    """The GraphDef that ran, of all devices, without what the debugger put in."""
    graph = tf.GraphDef()
    try:
        for part in dump.reconstructed_non_debug_partition_graphs().values():
            graph.node.extend(part.node)
            graph.library.MergeFrom(part.library)
    except DAMAGE as error:
        raise UserError(f'{run_folder}: damaged graph ({reason(error)}); run the session '
                        'again') from None
    if not graph.node:
        warn(f'{run_folder}: has no graph, so nothing tells which tensor feeds which')
    return graph


def _source(node_name, slot):
    """The tensor a dump is of, (operation, index): a fed one is dumped from a node of its own."""
    fed = _FED.fullmatch(node_name)
    return (fed[1], int(fed[2])) if fed else (node_name, slot)


def _write(datum, path):
    """Write one tensor, unless it has no numbers; whether it did."""
    if len(os.path.basename(path).encode()) > NAME_BYTES:
        warn(f'{datum.file_path}: left out, its name is too long for one file')
        return False
    try:
        value = _read(datum.file_path)
    except DAMAGE + (OSError, MemoryError) as error:
        warn(f'{datum.file_path}: left out, damaged ({reason(error)})')
        return False
    if value is None:
        return False
    with atomic_path(path) as temporary:
        np.save(temporary, value, allow_pickle=False)
    return True


def _read(path):
    """The array in a dump file, 16-bit brain floats as float32; None if it has no numbers."""
    if os.path.getsize(path) > PROTO_BYTES:
        raise ValueError(f'larger than {PROTO_BYTES} bytes')
    with open(path, 'rb') as stream:
        proto = tf.Event.FromString(stream.read()).summary.value[0].tensor
    dtype = tf.as_dtype(proto.dtype).base_dtype
    if dtype in (tf.string, tf.resource, tf.variant):
        return None
    shape = [dim.size for dim in proto.tensor_shape.dim]
    # The values are in `tensor_content`; what is not initialized has a shape and no values.
    if not proto.tensor_content and 0 not in shape:
        return None
    value = np.frombuffer(proto.tensor_content, dtype.as_numpy_dtype).reshape(shape)
    if value.dtype.kind in 'biufc':
        return value
    return None if value.dtype.names else value.astype(np.float32)


def graph_edges(output_folder):
    """Return {operation: [(producer, output index), ...]} of a converted run, in order of inputs.

    Names are those of TensorFlow, as in 'Genc/Conv/Conv2D'. Control inputs are left out. A feed has
    the name of the tensor it was fed to; the producer of what crosses devices is the operation
    that computed it.

    Raises:
        UserError: no graph.pb in `output_folder`, or a damaged one.
    """
    path = os.path.join(output_folder, TF_GRAPH)
    try:
        with open(path, 'rb') as stream:
            graph = tf.GraphDef.FromString(stream.read(PROTO_BYTES))
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}; convert a debugged run first') from None
    except DecodeError:
        raise UserError(f'{path}: not a GraphDef; convert the debugged run again') from None
    # Between devices a tensor goes through a pair of nodes with a name for it in common.
    sent = {node.attr['tensor_name'].s: node.input[0] for node in graph.node
            if node.op in ('_Send', '_HostSend') and node.input}
    received = {node.name: sent[node.attr['tensor_name'].s] for node in graph.node
                if node.op in ('_Recv', '_HostRecv') and node.attr['tensor_name'].s in sent}

    def producer(text):
        text = received.get(text, text)
        name, colon, slot = text.rpartition(':')
        if not colon or not slot.isdecimal():
            name, slot = text, '0'
        return _source(name, int(slot))
    return OrderedDict((node.name, [producer(text) for text in node.input
                                    if not text.startswith('^')])
                       for node in graph.node if node.op not in _PLUMBING)
