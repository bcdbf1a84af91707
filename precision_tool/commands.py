"""The commands of the tool: each reads its arguments and the workspace, and fills an Output."""

import datetime
import glob
import os
import shutil
import subprocess

import numpy as np

from precision_tool import auto_check, compare, metrics, report, results, sources
from precision_tool.dump_file import open_dump
from precision_tool.file_names import decoded_name, plain
from precision_tool.ge_graph import draw
from precision_tool.overflow import find_overflows
from precision_tool.workspace import VARIABLE_ON, VARIABLES
from pylib import RunFailed, UserError, atomic_path, progress

# A golden run must have the operations that an NPU has: TensorFlow 2.x fuses some on CPUs, and
# STGAN's training computes deep convolutions there as matrix products.
GOLDEN_ENVIRONMENT = {'TF_ENABLE_ONEDNN_OPTS': '0', 'STGAN_PLAIN': '1'}


def ls(args, workspace, output):
    """List operators of the compiled graphs, or (`ls dump`) dumped ones."""
    if args.what == 'dump':
        rows = [(debug_id, op.op_type, op.name, op.task_id, op.stream_id, os.path.basename(op.path))
                for debug_id in workspace.debug_ids()
                for op in sources.dumped_operators(workspace, debug_id)
                if args.type in op.op_type and args.name in op.name]
        if not rows:
            raise UserError(f'{workspace.npu_dump()}: no dumped operators like that')
        output.table(f'{len(rows)} dumped operators in order of execution',
                     ('run', 'type', 'name', 'task', 'stream', 'file'), rows)
        return
    found = [(debug_id, op) for debug_id, graph, op in sources.operators(workspace)
             if args.type in op.type and args.name in op.name and args.fused_by in op.pass_name
             and args.kernel in op.kernel_name]
    if any((args.type, args.name, args.fused_by, args.kernel)):
        if not found:
            raise UserError('no operator is like that; `ls` alone shows the types')
        output.table(f'{len(found)} operators', ('run', 'type', 'name', 'fused by'),
                     [(debug_id, op.type, op.name, op.pass_name) for debug_id, op in found])
        return
    counts = {}
    for debug_id, op in found:
        counts[debug_id, op.type] = counts.get((debug_id, op.type), 0) + 1
    output.table('operators by type', ('run', 'type', 'count'),
                 [(*key, count) for key, count in sorted(counts.items())])


def ni(args, workspace, output):
    """Show all about an operator: its graph node, and statistics of its dumped tensors."""
    everything = list(sources.operators(workspace))
    named = [each for each in everything if each[2].name == args.name
             and args.graph in each[1].name]
    if not named:
        similar = sorted({op.name for _, _, op in everything if args.name in op.name})[:20]
        raise UserError(f'{args.name}: no such operator' + (
            f'; did you mean {", ".join(similar)}' if similar else '; `ls` lists them'))
    golden = sources.golden_tensors(workspace)
    for debug_id, graph, op in named:
        _describe(debug_id, graph, op, args.attributes, output)
        if args.depth:
            path = os.path.join(workspace.op_graph,
                                f'{debug_id}.{plain(graph.name)}.{op.type}.{plain(op.name)}.'
                                f'{args.depth}.gv')
            output.line(f'wrote {", ".join(draw(path, graph, op, args.depth))}')
        for each in sources.dumped_operators(workspace, debug_id):
            if each.plain_name == plain(op.name):
                output.table(f'NPU dump {os.path.basename(each.path)}',
                             ('tensor', 'type', 'shape', 'max', 'min', 'mean'),
                             sources.dump_statistics(each.path))
        originals = {desc.original_op[0] for desc in op.output_descs if desc.original_op}
        for name in sorted(originals | set(op.original_op_names)) or [op.name]:
            output.table(f'TensorFlow {name}', ('tensor', 'type', 'shape', 'max', 'min', 'mean'),
                         sources.golden_statistics(golden, name))


def _describe(debug_id, graph, op, attributes, output):
    output.line(f'{op.type} {op.name}')
    for title, text in (('run', f'debug_{debug_id}'), ('graph', graph.name), ('id', op.id),
                        ('kernel', op.kernel_name), ('kernel lib', op.kernel_lib),
                        ('fused by', op.pass_name),
                        ('stands for', ', '.join(op.original_op_names))):
        if text != '':
            output.line(f'  {title:11}{text}')
    for title, descs, peers in (('inputs', op.input_descs, op.inputs),
                                ('outputs', op.output_descs, ())):
        output.table(title, ('index', 'type', 'layout', 'shape', 'original shape', 'from'), [
            (index, desc.data_type, desc.layout, list(desc.shape), list(desc.origin_shape),
             '{}:{}'.format(*peers[index]) if index < len(peers) else '')
            for index, desc in enumerate(descs)])
    if attributes:
        output.table('attributes', ('name', 'value'), sorted(op.attributes.items()))


def pt(args, workspace, output):
    """Print the first values of a tensor, and statistics."""
    path = sources.find_file(workspace, args.file)
    if args.save and not path.endswith('.npy'):
        raise UserError(f'{path}: --save is for .npy files; convert dump files with dc first')
    for title, array in sources.named_arrays(path):
        values = array.reshape(-1)
        output.line(title)
        output.table('first values', ('index', *map(str, range(8))), [
            (start, *(list(_numbers(values[start:start + 8])) + [''] * 8)[:8])
            for start in range(0, min(len(values), 128), 8)])
        high, low, mean = sources.statistics(array)
        output.table('', ('shape', 'type', 'max', 'min', 'mean'),
                     [(list(array.shape), array.dtype.name, high, low, mean)])
    if args.save:
        target, columns = f'{path}.txt', (array.shape[-1] if array.size and array.ndim
                                         else 1)
        with atomic_path(target) as temporary:
            np.savetxt(temporary, array.reshape(-1, columns), fmt='%g')
        output.line(f'wrote {target}')
    output.line(os.path.abspath(path))


def _numbers(values):
    return (value.item() if hasattr(value, 'item') else value for value in values)


def cp(args, workspace, output):
    """Compare two tensors value by value."""
    (left_name, left), (right_name, right) = (
        next(iter(sources.named_arrays(sources.find_file(workspace, name))))
        for name in (args.left, args.right))
    found = metrics.errors(left, right, args.absolute, args.relative, args.print)
    rows = [(int(index), float(x), float(y), abs(float(x) - float(y)))
            for index, x, y in zip(found.indices, found.left, found.right)]
    output.table(f'{found.count} of {found.total} values differ by more than {args.absolute} + '
                 f'{args.relative} * |right|, the largest first',
                 ('index', 'left', 'right', 'difference'), rows)
    output.table('', ('', 'shape', 'type', 'max', 'min', 'mean'), [
        (title, list(array.shape), array.dtype.name, *sources.statistics(array))
        for title, array in ((left_name, left), (right_name, right))])
    output.table('', ('all close', 'cosine', 'share of errors'),
                 [(str(found.allclose), found.cosine, found.share)])
    output.found = not found.allclose


def dc(args, workspace, output):
    """Convert dump files to .npy files in TensorFlow's layout."""
    folder = args.output or workspace.dump_convert
    rows = []
    for path in sources.dump_files_of(workspace, args.name):
        dump = open_dump(path)
        for tensor in dump.tensors:
            array = tensor.read() if args.raw else tensor.to_numpy()
            token = tensor.format if args.raw else None
            target = os.path.join(folder, decoded_name(os.path.basename(path), tensor.kind,
                                                       tensor.index, token))
            os.makedirs(folder, exist_ok=True)
            with atomic_path(target) as temporary, open(temporary, 'wb') as stream:
                np.save(stream, array, allow_pickle=False)
            rows.append((os.path.basename(target), list(array.shape), array.dtype.name))
    output.table(f'{len(rows)} tensors written to {folder}', ('file', 'shape', 'type'), rows)


def vc(args, workspace, output):
    """Compare all tensors of two dumps; write a CSV file and a page."""
    graphs = sources.edges(workspace)
    if args.graph:
        graphs = [each for each in sources.graphs(workspace) if args.graph in each.name]
    result, suspect, paths = _comparison(
        workspace, args.cosine, graphs, args.left, args.right, args.output, args.processes)
    bad = sum(results.is_bad(row, args.cosine) for row in result.rows)
    output.line(f'{len(result.rows)} pairs of tensors compared, {bad} below a cosine of '
                f'{args.cosine}; without a partner: {len(result.unmatched_left)} on the left, '
                f'{len(result.unmatched_right)} on the right')
    for path in paths:
        output.line(f'wrote {path}')
    auto_check.verdict([auto_check.finding_of(suspect)] if suspect else [], output)


def _comparison(workspace, threshold, graphs, left=None, right=None, folder=None, processes=None):
    """Compare two dumps, by default those of the workspace, and write a table and a page.

    Returns:
        (`results.Result`, `compare.Suspect` or None, paths written).
    """
    with progress(unit='tensor', leave=False) as bar:
        def show(done, total):
            bar.total = total
            bar.update(done - bar.n)
        result = compare.compare_folders(left or workspace.npu_dump(), right or workspace.tf_dump,
                                         graphs, processes, show)
    now = datetime.datetime.now().strftime('%Y%m%d%H%M%S')
    path = os.path.join(folder or os.path.join(workspace.vector_compare, now),
                        results.RESULT.format(now))
    page = path[:-len('.csv')] + '.html'
    suspect = compare.first_bad(result.rows, graphs, threshold)
    results.write_csv(path, result)
    report.write_html(page, result, suspect, threshold)
    return result, suspect, [path, page]


def vcs(args, workspace, output):
    """List the tensors of a comparison whose cosine similarity is low."""
    path = args.file or auto_check.newest_result(workspace)
    if path and os.path.isdir(path):
        path = max(glob.glob(os.path.join(glob.escape(path), '*.csv')), default=None)
    if not path:
        raise UserError(f'{args.file or workspace.vector_compare}: no comparison; run vc first')
    output.line(path)
    output.found = bool(list(auto_check.check_comparison(workspace, _limits(args), output, path)))


def ac(args, workspace, output):
    """Run all checks and say what to look at first."""
    _check_all(args, workspace, output, anew=args.compare)


def _check_all(args, workspace, output, anew=False):
    both = all(map(os.path.isdir, (workspace.npu_dump(), workspace.tf_dump)))
    if both and (anew or not auto_check.newest_result(workspace)):
        _comparison(workspace, args.cosine, sources.edges(workspace))
    auto_check.verdict(auto_check.check_all(workspace, _limits(args), output), output)


def _limits(args):
    return auto_check.Limits(threshold=args.cosine, rows=args.limit)


def run(args, workspace, output):
    """Run a shell command."""
    if not args.words:
        raise UserError('run: give the command, such as `run "ls precision_data"`')
    _call(args.words, {})


def _call(words, environment):
    """Run a command, given as words or as one line for the shell."""
    status = subprocess.call(words[0] if len(words) == 1 else words, shell=len(words) == 1,
                             env=dict(os.environ, **environment))
    if status:
        raise RunFailed(f'`{" ".join(words)}` ended with status {status}')


def npu_dump(args, workspace, output):
    """Run a training command with PRECISION_TOOL_DUMP set, as tf_config reads it."""
    if not args.words:
        raise UserError('npu_dump: give the command to run, such as `python train.py ...`')
    _call(args.words, {VARIABLES['dump']: VARIABLE_ON})
    data(args, workspace, output)


def npu_overflow(args, workspace, output):
    """Run a command with PRECISION_TOOL_OVERFLOW set; list what overflowed."""
    if args.words:
        _call(args.words, {VARIABLES['overflow']: VARIABLE_ON})
    if not os.path.isdir(workspace.overflow_dump):
        raise UserError(f'{workspace.overflow_dump}: no such folder; give the command to run')
    limits = auto_check.Limits(threshold=results.THRESHOLD, rows=args.limit)
    findings = list(auto_check.check_overflow(workspace, limits, output))
    for each in find_overflows(workspace.overflow_dump, args.limit):
        output.line(f'{os.path.basename(each.path)}: {each.record.block}, ' + ', '.join(
            f'{name} {number:#x}' for name, number in each.record.details.items()))
        if each.operator:
            output.table(f'{each.op_type} {each.op_name}',
                         ('tensor', 'type', 'shape', 'max', 'min', 'mean'),
                         sources.dump_statistics(each.operator.path))
    auto_check.verdict(findings, output)


def tf_dump(args, workspace, output):
    """Convert the last debugged run of TensorFlow to golden tensors."""
    if args.words and not os.path.isdir(workspace.tf_debug):
        _call(args.words, GOLDEN_ENVIRONMENT)
    from precision_tool import tf_dump as debugger  # noqa: PLC0415  (TensorFlow takes seconds)
    newest = debugger.newest_run(workspace.tf_debug)
    count = debugger.convert(newest, workspace.tf_dump)
    output.line(f'{newest}: {count.written} tensors written to {workspace.tf_dump}, '
                f'{count.skipped} skipped that hold no numbers')


def infer(args, workspace, output):
    """Take over what msquickcmp left, and check it."""
    _adopt(args.folder, workspace)
    _check_all(args, workspace, output)


def _adopt(folder, workspace):
    """Bring the output of msquickcmp into an empty workspace: graph, dumps, results."""
    if os.path.exists(workspace.root):
        raise UserError(f'{workspace.root}: exists; give another --root')
    models = sorted(glob.glob(os.path.join(glob.escape(folder), '**', 'model', '*.json'),
                              recursive=True))
    golden = [path for kind in ('tf', 'onnx') for path in glob.glob(os.path.join(
        glob.escape(folder), '**', 'dump_data', kind), recursive=True)]
    npu = sorted(glob.glob(os.path.join(glob.escape(folder), '**', 'dump_data', 'npu', '*[0-9]'),
                           recursive=True))
    if not npu or not golden:
        raise UserError(f'{folder}: no output of msquickcmp (dump_data/npu and dump_data/tf)')
    for number, path in enumerate(models):
        os.makedirs(workspace.npu_graph(), exist_ok=True)
        shutil.copyfile(path, os.path.join(workspace.npu_graph(),
                                           f'ge_proto_{number}_Build.txt.json'))
    os.makedirs(workspace.npu_debug(), exist_ok=True)
    os.makedirs(os.path.dirname(workspace.tf_dump), exist_ok=True)
    # The dumps may be large: linked, not copied.
    os.symlink(os.path.abspath(os.path.dirname(npu[0])), workspace.npu_dump())
    os.symlink(os.path.abspath(golden[0]), workspace.tf_dump)


def train(args, workspace, output):
    """Do a saved training step again, on CPU and NPU, and dump both."""
    os.environ.update(GOLDEN_ENVIRONMENT)
    from precision_tool import train_analysis  # noqa: PLC0415  (TensorFlow takes seconds)
    count = train_analysis.train(workspace, args.device, args.action)
    if count:
        output.line(f'{count.written} tensors written to {workspace.tf_dump}')


def data(args, workspace, output):
    """Tell what a workspace holds."""
    rows = []
    for debug_id in workspace.debug_ids():
        rows += [(f'npu/debug_{debug_id}', what, len(found(workspace, debug_id)))
                 for what, found in (('graphs', sources.graphs),
                                     ('dumped operators', sources.dumped_operators))]
    if os.path.isdir(workspace.overflow_dump):
        rows.append(('overflow', 'records', len(find_overflows(workspace.overflow_dump))))
    golden = sources.golden_tensors(workspace)
    if golden:
        rows.append(('tf/dump', 'golden tensors', len(golden)))
    tables = glob.glob(os.path.join(glob.escape(workspace.vector_compare), '*', '*.csv'))
    if tables:
        rows.append(('temp/vector_compare', 'comparisons', len(tables)))
    if not rows:
        raise UserError(f'{workspace.root}: holds no dumps and no graphs')
    output.table(os.path.abspath(workspace.root), ('folder', 'what', 'count'), rows)
