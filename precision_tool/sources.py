"""Finding operators and tensors in a workspace: in its graphs, dumps and golden tensors."""

import contextlib
import os
import re
from typing import NamedTuple, Union

import numpy as np

from precision_tool import ge_graph
from precision_tool.dump_file import Tensor, open_dump, read_stats
from precision_tool.dump_tree import GoldenDump, NpuDump, has_files
from precision_tool.file_names import OVERFLOW_TYPE, TF_GRAPH, parse_dump_name, plain
from precision_tool.reading import add_fault, load_npy
from pylib import UserError

NO_TENSORS = 'a dump without tensors'
STATISTICS = 'statistics, no tensors; see the command ni'


def graphs(workspace, faults, debug_id=0):
    """The compiled graphs of an NPU run, sub-graphs too; [] if it left none.

    Args:
        faults: list that gets a line for each file that is no graph.
    """
    folder = workspace.npu_graph(debug_id)
    if not os.path.isdir(folder):
        return []
    found = []
    for path in ge_graph.find_graph_files(folder):
        try:
            found += ge_graph.read_graphs(path, faults)
        except UserError as error:
            add_fault(faults, error)
    return found


def edges(workspace, faults):
    """What feeds what, as `compare` takes it: the compiled graphs, or else TensorFlow's graph."""
    compiled = graphs(workspace, faults)
    if compiled or not os.path.exists(os.path.join(workspace.tf_dump, TF_GRAPH)):
        return compiled
    # Laptops may lack TensorFlow; the comparison does without.
    with contextlib.suppress(ImportError):
        from precision_tool.tf_dump import graph_edges  # noqa: PLC0415  (it takes seconds)
        try:
            return graph_edges(workspace.tf_dump)
        except UserError as error:
            add_fault(faults, error)
    return []


def operators(workspace, faults):
    """Yield (debug id, graph, operator) of all runs.

    Raises:
        UserError: there is no graph at all.
    """
    found = False
    for debug_id in workspace.debug_ids():
        for graph in graphs(workspace, faults, debug_id):
            found = True
            for op in graph.operators.values():
                yield debug_id, graph, op
    if not found:
        raise UserError(f'{workspace.npu_graph()}: no graph (ge_proto_*_Build.txt)'
                        + (' that is readable' if faults else '')
                        + '; run with tf_config\'s action dump, or copy the files there')


def dumped_operators(workspace, faults, debug_id):
    """What an NPU run dumped, a list of `dump_tree.Operator`; [] if nothing."""
    folder = workspace.npu_dump(debug_id)
    if not has_files(folder):
        return []
    try:
        dump = NpuDump(folder)
    except UserError as error:
        add_fault(faults, error)
        return []
    for fault in dump.faults:
        add_fault(faults, fault)
    return dump.operators


def golden_tensors(workspace):
    """The tensors of TensorFlow as in `GoldenDump`; none if it dumped none."""
    return GoldenDump(workspace.tf_dump).tensors if has_files(workspace.tf_dump) else {}


class NamedArray(NamedTuple):
    """A tensor of a file."""

    title: str                  # what it is called
    values: Union[Tensor, str]  # a str is the path of a .npy file
    note: str = ''              # what is unusual about it

    def read(self):
        """Return it in plain layout; raises UserError if it is not readable."""
        return load_npy(self.values) if isinstance(self.values, str) else self.values.to_numpy()


def named_arrays(path):
    """Return the `NamedArray`s of a .npy or NPU dump file.

    Raises:
        UserError: neither of the two, or damaged.
    """
    if path.endswith('.npy'):
        return [NamedArray(os.path.basename(path), path)]
    if path.endswith('.csv'):
        raise UserError(f'{path}: {STATISTICS}')
    tensors = open_tensors(path)
    if not tensors:
        raise UserError(f'{path}: {NO_TENSORS}')
    return [NamedArray(str(tensor), tensor, tensor.note) for tensor in tensors]


def is_record(path):
    """Whether a file is called as overflow records are."""
    name = parse_dump_name(os.path.basename(path))
    return name is not None and name.op_type == OVERFLOW_TYPE


def open_tensors(path):
    """The tensors of a dump file.

    Raises:
        UserError: not one, or damaged; says so if it is an overflow record outside of one.
    """
    try:
        return open_dump(path).tensors
    except UserError:
        if not is_record(path):
            raise
        raise UserError(f'{path}: no tensors in it, as in an overflow record that is not in a dump '
                        'file; the command npu_overflow lists those in the workspace') from None


def named_array(workspace, name):
    """The `NamedArray` that a file's name stands for, and how many the file has.

    Of a dump file it is the first output, or the first input if there is none; that with
    `:input:1` or the like behind the name is the one it tells.

    Raises:
        UserError: as `find_file` and `named_arrays`, or no such tensor.
    """
    match = None if os.path.isfile(name) else re.fullmatch('(.+):(input|output):([0-9]{1,9})', name)
    path = find_file(workspace, match[1] if match else name)
    arrays = named_arrays(path)
    wanted = f'{match[2]} {match[3]}' if match else 'output 0'
    found = next((each for each in arrays if each.title.endswith(f': {wanted}')), None)
    if match and not found:
        raise UserError(f'{path}: no {wanted}; has '
                        f'{", ".join(each.title[len(path) + 2:] for each in arrays)}')
    return found or arrays[0], len(arrays)


def find_file(workspace, name):
    """The path that `name` stands for: itself, or a file of that name in the workspace.

    Raises:
        UserError: no such file, or several.
    """
    if os.path.isfile(name):
        return name
    folders = [workspace.dump_convert, workspace.tf_dump, workspace.pt]
    folders += [workspace.npu_dump(debug_id) for debug_id in workspace.debug_ids()]
    found = sorted({os.path.join(parent, each) for folder in folders
                    for parent, _, names in os.walk(folder) for each in names if each == name})
    if not found:
        raise UserError(f'{name}: no such file, here or in {workspace.root}')
    if len(found) > 1:
        raise UserError(f'{name}: {len(found)} files are called so, give the path: '
                        f'{", ".join(found[:5])}')
    return found[0]


def dump_files_of(workspace, name, faults):
    """Paths of the dump files that a file, folder or operator name stands for.

    Raises:
        UserError: there are none.
    """
    if os.path.isfile(name):
        if name.endswith('.csv'):
            raise UserError(f'{name}: {STATISTICS}')
        return [name]
    if os.path.isdir(name):
        dump = NpuDump(name)
        for fault in dump.faults:
            add_fault(faults, fault)
        found = [op.path for op in dump.operators if not op.is_stats]
        if not found:
            raise UserError(f'{name}: has overflow records or statistics only, no tensors; see '
                            'the commands npu_overflow and ni')
        return found
    named = [op for debug_id in workspace.debug_ids()
             for op in dumped_operators(workspace, faults, debug_id)
             if plain(name) == op.plain_name]
    found = [op.path for op in named if not op.is_stats]
    if named and not found:
        raise UserError(f'{named[0].path}: {STATISTICS}')
    if not found:
        raise UserError(f'{name}: no such file, folder, or operator with a dump in '
                        f'{workspace.root}')
    return found


def statistics(array):
    """(maximum, minimum, mean) of an array, as floats; NaN for an empty or text one."""
    if not array.size or array.dtype.kind not in 'biuf':
        return (float('nan'),) * 3
    with np.errstate(all='ignore'):
        return float(array.max()), float(array.min()), float(array.mean(dtype=np.float64))


def dump_statistics(path, faults, notes):
    """Yield ('input:0', type, shape, maximum, minimum, mean) of the tensors in a dump file.

    `faults` gets a line for the file, or each of its tensors, that is not readable, `notes` one
    for each tensor that is unusual. What has no numbers has no statistics.
    """
    try:
        if path.endswith('.csv'):
            for each in read_stats(path, faults):
                yield (f'{each.kind}:{each.index}', each.data_type, _shape(each.shape), each.max,
                       each.min, each.mean)
            return
        tensors = open_dump(path).tensors
    except UserError as error:
        add_fault(faults, error)
        return
    for tensor in tensors:
        try:
            array = tensor.read()
            numbers = statistics(array if tensor.has_numbers else np.empty(0))
        except UserError as error:
            add_fault(faults, error)
            numbers = (float('nan'),) * 3
        if tensor.note:
            notes.append(f'{tensor.kind}:{tensor.index}: {tensor.note}')
        yield (f'{tensor.kind}:{tensor.index}', tensor.data_type, _shape(tensor.shape), *numbers)


def golden_statistics(tensors, name, faults):
    """Yield the same of an operator's golden tensors."""
    for (operator, index), path in tensors.items():
        if operator == plain(name):
            try:
                array = load_npy(path)
            except UserError as error:
                add_fault(faults, error)
                continue
            yield (f'output:{index}', array.dtype.name, _shape(array.shape), *statistics(array))


def _shape(shape):
    return 'x'.join(map(str, shape)) or 'scalar'
