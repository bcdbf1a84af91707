"""Finding operators and tensors in a workspace: in its graphs, dumps and golden tensors."""

import contextlib
import os

import numpy as np

from precision_tool import ge_graph
from precision_tool.dump_file import open_dump, read_stats
from precision_tool.dump_tree import GoldenDump, NpuDump, has_files
from precision_tool.file_names import TF_GRAPH, plain
from precision_tool.reading import load_npy
from pylib import UserError


def graphs(workspace, debug_id=0):
    """The compiled graphs of an NPU run, sub-graphs too; [] if it left none.

    Raises:
        UserError: a file that is no graph.
    """
    folder = workspace.npu_graph(debug_id)
    if not os.path.isdir(folder):
        return []
    return [graph for path in ge_graph.find_graph_files(folder)
            for graph in ge_graph.read_graphs(path)]


def edges(workspace):
    """What feeds what, as `compare` takes it: the compiled graphs, or else TensorFlow's graph."""
    compiled = graphs(workspace)
    if compiled or not os.path.exists(os.path.join(workspace.tf_dump, TF_GRAPH)):
        return compiled
    # Laptops may lack TensorFlow; the comparison does without.
    with contextlib.suppress(ImportError):
        from precision_tool.tf_dump import graph_edges  # noqa: PLC0415  (it takes seconds)
        return graph_edges(workspace.tf_dump)
    return []


def operators(workspace):
    """Yield (debug id, graph, operator) of all runs.

    Raises:
        UserError: there is no graph at all.
    """
    found = False
    for debug_id in workspace.debug_ids():
        for graph in graphs(workspace, debug_id):
            found = True
            for op in graph.operators.values():
                yield debug_id, graph, op
    if not found:
        raise UserError(f'{workspace.npu_graph()}: no graph (ge_proto_*_Build.txt); run with '
                        'tf_config\'s action dump, or copy the files there')


def dumped_operators(workspace, debug_id):
    """What an NPU run dumped, a list of `dump_tree.Operator`; [] if nothing."""
    folder = workspace.npu_dump(debug_id)
    return NpuDump(folder).operators if has_files(folder) else []


def golden_tensors(workspace):
    """The tensors of TensorFlow as in `GoldenDump`; none if it dumped none."""
    return GoldenDump(workspace.tf_dump).tensors if has_files(workspace.tf_dump) else {}


def named_arrays(path):
    """Yield (title, array) of the tensors in a .npy or NPU dump file, in plain layout.

    Raises:
        UserError: neither of the two, or damaged.
    """
    if path.endswith('.npy'):
        yield os.path.basename(path), load_npy(path)
        return
    if path.endswith('.csv'):
        raise UserError(f'{path}: statistics, no tensors; see the command ni')
    dump = open_dump(path)
    for tensor in dump.tensors:
        yield str(tensor), tensor.to_numpy()


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


def dump_files_of(workspace, name):
    """Paths of the dump files that a file, folder or operator name stands for.

    Raises:
        UserError: there are none.
    """
    if os.path.isfile(name):
        return [name]
    if os.path.isdir(name):
        return [op.path for op in NpuDump(name).operators if not op.is_stats]
    found = [op.path for debug_id in workspace.debug_ids()
             for op in dumped_operators(workspace, debug_id)
             if not op.is_stats and plain(name) == op.plain_name]
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


def dump_statistics(path):
    """Yield ('input:0', type, shape, maximum, minimum, mean) of the tensors in a dump file."""
    if path.endswith('.csv'):
        for each in read_stats(path):
            yield (f'{each.kind}:{each.index}', each.data_type, _shape(each.shape), each.max,
                   each.min, each.mean)
        return
    dump = open_dump(path)
    for tensor in dump.tensors:
        yield (f'{tensor.kind}:{tensor.index}', tensor.data_type, _shape(tensor.shape),
               *statistics(tensor.read()))


def golden_statistics(tensors, name):
    """Yield the same of an operator's golden tensors."""
    for (operator, index), path in tensors.items():
        if operator == plain(name):
            array = load_npy(path)
            yield (f'output:{index}', array.dtype.name, _shape(array.shape), *statistics(array))


def _shape(shape):
    return 'x'.join(map(str, shape)) or 'scalar'
