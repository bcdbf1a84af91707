"""The commands of the tool: each reads its arguments and the workspace, and fills an Output."""

import glob
import os
import shlex
import shutil
import subprocess

import numpy as np

from precision_tool import auto_check, compare, comparisons, metrics, report, results, sources
from precision_tool.dump_tree import has_files
from precision_tool.file_names import decoded_name, plain, shortened
from precision_tool.ge_graph import draw
from precision_tool.workspace import VARIABLE_ON, VARIABLES
from pylib import CommandError, RunFailed, UserError, atomic_path, progress

# A golden run must have the operations that an NPU has: TensorFlow 2.x fuses some on CPUs, and
# STGAN's training computes deep convolutions there as matrix products.
GOLDEN_ENVIRONMENT = {'TF_ENABLE_ONEDNN_OPTS': '0', 'STGAN_PLAIN': '1'}


def ls(args, workspace, output):
    """List operators of the compiled graphs, or (`ls dump`) dumped ones."""
    if args.what == 'dump':
        rows = [(debug_id, op.op_type, op.name, op.task_id, op.stream_id, os.path.basename(op.path))
                for debug_id in workspace.debug_ids()
                for op in sources.dumped_operators(workspace, output.faults, debug_id)
                if args.type in op.op_type and args.name in op.name]
        if not rows:
            raise UserError(f'{workspace.npu_dump()}: no dumped operators like that')
        output.table(f'{len(rows)} dumped operators in order of execution',
                     ('run', 'type', 'name', 'task', 'stream', 'file'), rows)
        return
    found = [(debug_id, op) for debug_id, graph, op in sources.operators(
        workspace, output.faults)
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
    named = _named_operators(args, workspace, output)
    golden = sources.golden_tensors(workspace)
    for debug_id, graph, op in named:
        _describe(debug_id, graph, op, args.attributes, output)
        if args.depth:
            path = os.path.join(workspace.op_graph, shortened(
                '.'.join([str(debug_id), *map(plain, (graph.name, op.type, op.name))]),
                f'.{args.depth}.gv'))
            output.line(f'wrote {", ".join(draw(path, graph, op, args.depth))}')
        _dumped(debug_id, op.name, workspace, output)
        originals = {desc.original_op[0] for desc in op.output_descs if desc.original_op}
        for name in sorted(originals | set(op.original_op_names)) or [op.name]:
            _golden(name, golden, output)
    if not named:    # without a graph, dumps tell what they can
        for debug_id in workspace.debug_ids():
            _dumped(debug_id, args.name, workspace, output)
        _golden(args.name, golden, output)


def _named_operators(args, workspace, output):
    """[(debug id, graph, operator)] of the name, [] if only dumps have it; else a UserError."""
    try:
        everything = list(sources.operators(workspace, output.faults))
    except UserError as error:
        if args.graph:
            raise UserError(f'--graph {args.graph}: {error}') from None
        if not _has_dump(args.name, workspace, output):
            raise
        return []
    named = [each for each in everything if each[2].name == args.name]
    chosen = [each for each in named if args.graph in each[1].name]
    if named and not chosen:
        names = sorted({graph.name for _, graph, _ in named})
        raise UserError(f'--graph {args.graph}: not in the name of a graph that has {args.name}; '
                        f'these are {", ".join(names[:20])}')
    has_dump = not named and _has_dump(args.name, workspace, output)
    if has_dump and args.graph:
        raise UserError(f'--graph {args.graph}: no graph has {args.name}, though it was dumped; '
                        'leave the option out')
    if not named and not has_dump:
        similar = sorted({op.name for _, _, op in everything if args.name in op.name})[:20]
        raise UserError(f'{args.name}: no such operator' + (
            f'; did you mean {", ".join(similar)}' if similar else '; `ls` lists them'))
    return chosen


def _has_dump(name, workspace, output):
    """Whether an operator was dumped, or a golden tensor is called so."""
    return any(each.plain_name == plain(name) for debug_id in workspace.debug_ids()
               for each in sources.dumped_operators(workspace, output.faults, debug_id)
               ) or any(op == plain(name) for op, _ in sources.golden_tensors(workspace))


_STATISTICS = 'tensor', 'type', 'shape', 'max', 'min', 'mean'


def _dumped(debug_id, name, workspace, output):
    """Tables of what an NPU run dumped of an operator."""
    for each in sources.dumped_operators(workspace, output.faults, debug_id):
        if each.plain_name == plain(name):
            _dump_table(f'NPU dump {os.path.basename(each.path)}', each.path, output)


def _dump_table(title, path, output):
    """A table of the tensors in a dump file, and what is unusual about them."""
    notes = []
    output.table(title, _STATISTICS, sources.dump_statistics(path, output.faults, notes))
    for note in notes:
        output.line(note)


def _golden(name, golden, output):
    output.table(f'TensorFlow {name}', _STATISTICS,
                 sources.golden_statistics(golden, name, output.faults))


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
    printed = 0
    for named in sources.named_arrays(path):
        output.line(named.title + (f' ({named.note})' if named.note else ''))
        try:
            array = named.read()
        except UserError as error:
            output.fault(error)
            continue
        values = array.reshape(-1)
        output.table('first values', ('index', *map(str, range(8))), [
            (start, *(list(_numbers(values[start:start + 8])) + [''] * 8)[:8])
            for start in range(0, min(len(values), 128), 8)])
        printed += 1
        high, low, mean = sources.statistics(array)
        output.table('', ('shape', 'type', 'max', 'min', 'mean'),
                     [(list(array.shape), array.dtype.name, high, low, mean)])
    if not printed:
        raise UserError(output.faults[0])
    if args.save:
        array = sources.named_arrays(path)[0].read()
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
    left, right = (_chosen(side, name, workspace, output)
                   for side, name in (('left', args.left), ('right', args.right)))
    pair = compare.load_pair(left.values, right.values)
    if pair.note:
        rest = '; the shorter one is continued with zeros' if pair.x.size != pair.y.size else ''
        output.line(pair.note + rest)
    found = metrics.errors(pair.x, pair.y, args.absolute, args.relative, args.print)
    places = found.indices if pair.places is None else pair.places[found.indices]
    rows = [(int(index), float(x), float(y), abs(float(x) - float(y)))
            for index, x, y in zip(places, found.left, found.right)]
    output.table(f'{found.count} of {found.total} values differ by more than {args.absolute} + '
                 f'{args.relative} * |right|, the largest first',
                 ('index', 'left', 'right', 'difference'), rows)
    output.table('', ('', 'shape', 'type', 'max', 'min', 'mean'), [
        (title, list(array.shape), array.dtype.name, *sources.statistics(array))
        for title, array in ((left.title, pair.x), (right.title, pair.y))])
    output.table('', ('all close', 'cosine', 'share of errors'),
                 [(str(found.allclose), found.cosine, found.share)])
    output.found = not found.allclose


def _chosen(side, name, workspace, output):
    """The `NamedArray` of one side of a comparison; says which tensor of a dump it is."""
    named, count = sources.named_array(workspace, name)
    if not isinstance(named.values, str):
        others = f'of {count}; for another one add :input:N or :output:N' if count > 1 else ''
        output.line(', '.join(filter(None, (f'{side}: {named.title}', others, named.note))))
    return named


def dc(args, workspace, output):
    """Convert dump files to .npy files in TensorFlow's layout."""
    folder = args.output or workspace.dump_convert
    rows, records = [], 0
    for path in sources.dump_files_of(workspace, args.name, output.faults):
        try:
            tensors = sources.open_tensors(path)
        except UserError as error:
            output.fault(error)
            continue
        if not tensors:
            output.skip(f'{path}: {sources.NO_TENSORS}')
        records += sources.is_record(path)
        for tensor in tensors:
            try:
                array = tensor.read() if args.raw else tensor.to_numpy()
            except UserError as error:
                (output.skip if tensor.is_absent else output.fault)(error)
                continue
            token = tensor.format if args.raw else None
            target = os.path.join(folder, decoded_name(os.path.basename(path), tensor.kind,
                                                       tensor.index, token))
            os.makedirs(folder, exist_ok=True)
            with atomic_path(target) as temporary, open(temporary, 'wb') as stream:
                np.save(stream, array, allow_pickle=False)
            rows.append((os.path.basename(target), list(array.shape), array.dtype.name,
                         tensor.note))
    left_out = output.faults + output.skipped
    if not rows and left_out:
        more = f' (and {len(left_out) - 1} more)' if len(left_out) > 1 else ''
        raise UserError(f'{left_out[0]}{more}')
    output.table(f'{len(rows)} tensors written to {folder}', ('file', 'shape', 'type', 'note'),
                 rows)
    if records:
        output.line('overflow records are among them: what they tell is listed by')
        output.line(f'next: {auto_check.command_line(workspace, "npu_overflow")}')
    output.found = bool(output.faults)


def vc(args, workspace, output):
    """Compare all tensors of two dumps; write a CSV file and a page."""
    faults = output.faults
    graphs = sources.edges(workspace, faults)
    if args.graph:
        graphs = [each for each in sources.graphs(workspace, faults) if args.graph in each.name]
        if not graphs:
            raise UserError(f'--graph {args.graph}: not in the name of any graph in '
                            f'{workspace.npu_graph()}')
    result, suspect, paths = _comparison(args, workspace, graphs)
    counts = results.count(result.all_rows)
    bad = sum(results.is_bad(row, args.cosine) for row in result.rows)
    output.line(f'{auto_check.counts_text(counts)} ({len(result.unmatched_left)} left, '
                f'{len(result.unmatched_right)} right); {bad} below a cosine of {args.cosine}')
    auto_check.tell_reservations(result.rows, args.cosine, output)
    for path in paths:
        output.line(f'wrote {path}')
    for row in result.rows:
        if not row.is_compared:
            add = output.skip if results.is_harmless(row) else output.fault
            add(f'{row.tensor_index}: {row.reason}')
    for fault in result.faults:
        output.fault(fault)
    findings = list(auto_check.findings_of_rows(result.all_rows, graphs, args.cosine))
    auto_check.verdict(findings + auto_check.unread(output), output, workspace)


def _comparison(args, workspace, graphs):
    """Compare two dumps, by default those of the workspace, and write a table and a page.

    Args:
        args: of `vc`; those of other commands lack what only that has.

    Returns:
        (`results.Result`, `compare.Suspect` or None, paths written).
    """
    left = getattr(args, 'left', None) or workspace.npu_dump()
    right = getattr(args, 'right', None) or workspace.tf_dump
    # The state before: what changes meanwhile makes the comparison an old one.
    states = [comparisons.source_of(workspace, folder)
              for folder in (left, right, workspace.npu_graph())]
    with progress(unit='tensor', leave=False) as bar:
        def show(done, total):
            bar.total = total
            bar.update(done - bar.n)
        result = compare.compare_folders(left, right, graphs, getattr(args, 'processes', None),
                                         show)
    path = comparisons.new_path(workspace, getattr(args, 'output', None))
    page = path[:-len('.csv')] + '.html'
    suspect = compare.first_bad(result.rows, graphs, args.cosine)
    comparison = comparisons.Comparison(
        *states, graph=getattr(args, 'graph', None) or '', threshold=args.cosine,
        faults=list(result.faults), tool=comparisons.tool_digest(),
        **results.count(result.all_rows)._asdict())
    results.write_csv(path, result)
    report.write_html(page, result, suspect, args.cosine, str(comparison))
    comparisons.write(path, comparison)
    return result, suspect, [path, page]


def vcs(args, workspace, output):
    """List the tensors of a comparison whose cosine similarity is low."""
    path = args.file or comparisons.newest(workspace)
    if path and os.path.isdir(path):
        path = max(glob.glob(os.path.join(glob.escape(path), '*.csv')), default=None)
    if not path:
        raise UserError(f'{args.file or workspace.vector_compare}: no comparison; run vc first')
    comparison = comparisons.read(path)
    output.line(f'{path}: {comparison or "of unknown origin"}')
    rows = comparisons.rows(path, comparison)
    output.found = bool(list(auto_check.judge(rows, workspace, _limits(args), output)))


def ac(args, workspace, output):
    """Run all checks and say what to look at first."""
    _check_all(args, workspace, output, anew=args.compare)


def _check_all(args, workspace, output, anew=False):
    missing = auto_check.without_files(workspace)
    if missing and anew:
        output.fault(f'could not compare anew: {" and ".join(missing)} missing or empty')
    elif not missing and (
            anew or not comparisons.is_current(workspace, *comparisons.own(workspace))):
        try:
            _comparison(args, workspace, sources.edges(workspace, output.faults))
        except CommandError as error:    # a full disk, too, hides no overflow
            output.fault(error)
    findings = auto_check.check_all(workspace, _limits(args), output)
    auto_check.verdict(findings, output, workspace)


def _limits(args):
    return auto_check.Limits(threshold=args.cosine, rows=args.limit)


def run(args, workspace, output):
    """Run a shell command."""
    if not args.words:
        raise UserError('run: give the command, such as `run "ls precision_data"`')
    _call(args.words, {})


def _call(words, environment):
    """Run a command, given as words or as one line for the shell."""
    try:
        status = subprocess.call(words[0] if len(words) == 1 else words, shell=len(words) == 1,
                                 env=dict(os.environ, **environment))
    except OSError as error:
        raise UserError(f'{words[0]}: {error.strerror}; give a command that can be run') from None
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
    if not any(map(has_files, (workspace.overflow_dump,
                               *map(workspace.npu_dump, workspace.debug_ids())))):
        raise UserError(f'{workspace.overflow_dump}: no such folder, or empty; ' + (
            'nothing overflowed, or the command did not take its session from tf_config'
            if args.words else 'give the command to run'))
    limits = auto_check.Limits(threshold=results.THRESHOLD, rows=args.limit)
    findings = list(auto_check.check_overflow(workspace, limits, output))
    found = auto_check.overflows(workspace, output)[:args.limit]
    for each in found:
        output.line(f'{os.path.basename(each.path)}: {each.record.block}, ' + ', '.join(
            f'{name} {number:#x}' for name, number in each.record.details.items()))
        if each.operator:
            _dump_table(f'{each.op_type} {each.op_name}', each.operator.path, output)
        else:
            output.line(f'  no dump of task {each.record.task_id}, stream '
                        f'{each.record.stream_id} beside it')
    # It has led here; the values are what is left to look at.
    next_command = next((f'dc {shlex.quote(each.operator.path)}' for each in found[:1]
                         if each.operator), '')
    findings = [finding._replace(command=next_command) for finding in findings]
    auto_check.verdict(findings + auto_check.unread(output), output, workspace)


def tf_dump(args, workspace, output):
    """Convert the last debugged run of TensorFlow to golden tensors."""
    if args.words:
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
        rows += [(f'npu/debug_{debug_id}', what, len(found(workspace, output.faults, debug_id)))
                 for what, found in (('graphs', sources.graphs),
                                     ('dumped operators', sources.dumped_operators))]
    if os.path.isdir(workspace.overflow_dump):
        rows.append(('overflow', 'records', len(auto_check.overflows(workspace, output))))
    try:
        golden = sources.golden_tensors(workspace)
    except UserError as error:
        output.fault(error)
        golden = {}
    if golden:
        rows.append(('tf/dump', 'golden tensors', len(golden)))
    tables = glob.glob(os.path.join(glob.escape(workspace.vector_compare), '*', '*.csv'))
    if tables:
        rows.append(('temp/vector_compare', 'comparisons', len(tables)))
    if not rows:
        raise UserError(f'{workspace.root}: holds no dumps and no graphs')
    output.table(os.path.abspath(workspace.root), ('folder', 'what', 'count'), rows)
