"""All checks, one after the other, and a verdict: what to look at first, and how.

Order: vector compare, operators below the threshold, fusions, overflows, casts, graph similarity.
"""

import glob
import math
import os
import shlex
from typing import NamedTuple

from precision_tool import compare, comparisons, ge_graph, results, sources
from precision_tool.dump_tree import has_files
from precision_tool.fusion import read_fusion
from precision_tool.overflow import UNDOCUMENTED, find_overflows
from precision_tool.workspace import DATA_ROOT
from pylib import UserError


class Finding(NamedTuple):
    """Something wrong."""

    weight: int     # 0 to 100; the heavier, the more likely the cause
    summary: str    # one line
    command: str    # what to type next, after `python -m precision_tool`; '': nothing


class Limits(NamedTuple):
    """What counts as wrong, and how much of it is listed."""

    threshold: float    # cosine similarity below which a tensor is wrong
    rows: int           # of each table


# An overflow corrupts what comes after it, an operator that breaks is a fact, without a comparison
# nothing is known; the rest are hints.
OVERFLOW, BREAKS, NOTHING, UNKNOWN, INHERITS, SIZE, CAST, GRAPH, FUSION, UNREAD = (
    100, 90, 80, 70, 60, 50, 40, 30, 20, 10)


def check_comparison(workspace, limits, output):
    """Judge the comparison of the workspace's own dumps; yields a Finding.

    It is one that a comparison was not possible, or compared nothing.
    """
    path, comparison = comparisons.own(workspace)
    if not path:
        missing = without_files(workspace)
        yield Finding(weight=NOTHING if not missing else UNREAD, command='data', summary=(
            'nothing was compared: '
            + (f'{" and ".join(missing)} missing or empty' if missing else 'see below')))
        return
    try:
        rows = comparisons.rows(path, comparison)
    except UserError as error:
        yield Finding(weight=NOTHING, command='ac -c',
                      summary=f'the comparison is not readable: {error}')
        return
    yield from judge(rows, workspace, limits, output)
    for fault in comparison.faults if comparison else ():
        output.fault(fault)
    origin = comparison or 'of unknown origin'
    output.line(f'{path}: {origin}')
    changed = comparisons.changed(workspace, comparison) if comparison else []
    if changed:
        yield Finding(weight=NOTHING, command='data', summary='what was compared has changed or '
                      f'is gone, so this comparison tells little: {" and ".join(changed)}')


def without_files(workspace):
    """The folders of what should be compared, dumps and golden tensors, that hold nothing."""
    return [folder for folder in (workspace.npu_dump(), workspace.tf_dump)
            if not has_files(folder)]


def judge(rows, workspace, limits, output):
    """List the tensors that are below the threshold in a comparison's rows; yields a Finding."""
    counts = results.count(rows)
    bad = [row for row in rows if results.is_bad(row, limits.threshold)]
    output.table(f'cosine below {limits.threshold}: {len(bad)} of {counts.compared} tensors '
                 f'compared, first {limits.rows}',
                 ('index', 'type', 'tensor', 'golden', 'cosine', 'max error', 'reason'),
                 [(row.index, row.op_type, row.tensor_index, row.ground_truth, row.cosine,
                   row.metrics.max_absolute_error, row.reason) for row in bad[:limits.rows]])
    if not bad and counts.compared:
        output.line(f'vector compare: all {counts.compared} tensors compared reach a cosine of '
                    f'{limits.threshold}')
    output.line(f'{counts_text(counts)}')
    tell_reservations(rows, limits.threshold, output)
    for row in rows:
        if not row.is_compared and not row.is_unmatched:
            add = output.skip if results.is_harmless(row) else output.fault
            add(f'{row.tensor_index}: {row.reason or "not compared"}')
    yield from findings_of_rows(rows, sources.edges(workspace, output.faults), limits.threshold)


def counts_text(counts):
    """The `results.Counts` of a comparison in words."""
    return (f'{counts.compared} pairs of tensors compared, {counts.failed} not comparable, '
            f'{counts.unmatched} outputs without a partner')


def tell_reservations(rows, threshold, output):
    """Add a line about the good pairs that were compared in part, or otherwise than one thinks."""
    found = [row for row in rows if row.is_compared and row.reason
             and not results.is_bad(row, threshold)]
    if found:
        output.line(f'{len(found)} of them with reservations, such as {found[0].tensor_index}: '
                    f'{found[0].reason}')


def findings_of_rows(rows, graphs, threshold):
    """Yield the Findings of a comparison."""
    counts = results.count(rows)
    failed = [row for row in rows if not row.is_compared and not row.is_unmatched]
    if not counts.compared and failed:
        lone = f'; {counts.unmatched} outputs have no partner' if counts.unmatched else ''
        yield Finding(weight=NOTHING, command='ls dump', summary='nothing was compared: '
                      f'{len(failed)} tensors cannot be, such as {failed[0].tensor_index}: '
                      f'{failed[0].reason or "not compared"}{lone}')
        return
    if not counts.compared:
        left = next((row.npu_dump for row in rows if row.npu_dump != results.ABSENT), '')
        right = next((row.ground_truth for row in rows if row.ground_truth != results.ABSENT), '')
        examples = ' and '.join(repr(name) for name in (left, right) if name)
        yield Finding(weight=NOTHING, command='ls dump', summary='nothing was compared: no tensor '
                      'of the one side has a partner on the other that can be compared'
                      + (f'; names are such as {examples}' if examples else ''))
        return
    suspect = compare.first_bad(rows, graphs, threshold)
    if suspect:
        yield finding_of(suspect)
        return    # what comes after it may well be of another size
    others = [row for row in rows if results.is_other_size(row, threshold)]
    if others and threshold > 0:    # below, all directions are welcome
        first = others[0]
        yield Finding(weight=SIZE, command=_ni(first.npu_dump), summary=f'{len(others)} tensors '
                      'have the direction of the golden ones but not their size, which no cosine '
                      f'tells, such as {first.tensor_index}: relative Euclidean distance '
                      f'{first.metrics.relative_euclidean_distance:.4g}')


def finding_of(suspect):
    """The Finding of a compare.Suspect."""
    row = suspect.row
    name = f'{row.op_type} {row.npu_dump}'
    cosine = (f'cosine {row.cosine:.4f} of {row.tensor_index}' if not math.isnan(row.cosine)
              else f'{row.tensor_index}: {row.reason}')
    inputs = ', '.join(f'{each.tensor_index} {each.cosine:.4f}' for each in suspect.inputs[:3])
    if suspect.verdict == compare.BREAKS:
        return Finding(weight=BREAKS, command=_ni(row.npu_dump), summary=f'{name} breaks: '
                       f'{cosine}, though its inputs are right ({inputs})')
    if suspect.verdict == compare.INHERITS:
        worst = min(suspect.inputs, key=_closeness)
        return Finding(weight=INHERITS, command=_ni(worst.npu_dump), summary=f'{name} is the '
                       f'first bad one, but inherits: {cosine}, inputs {inputs}')
    return Finding(weight=UNKNOWN, command=_ni(row.npu_dump), summary=f'{name} is the first bad '
                   f'one: {cosine}; what feeds it was not compared')


def _closeness(row):
    """The cosine of a row to sort by; where it has none, what is wrong goes first."""
    if not math.isnan(row.cosine):
        return row.cosine
    return -2. if results.is_bad(row, 0.) else 2.


def _ni(name):
    return f'ni {shlex.quote(name)}'


def check_fusion(workspace, _, output):
    """List the fusion passes that did something; yields a Finding if there are any."""
    paths = [path for debug_id in workspace.debug_ids() for path in sorted(glob.glob(os.path.join(
        glob.escape(workspace.npu_debug(debug_id)), '**', 'fusion_result*.json'), recursive=True))]
    paths += sorted(glob.glob(os.path.join(glob.escape(workspace.fusion), 'fusion_result*.json')))
    effective = []
    for path in paths:
        try:
            effective += [fusion for fusion in read_fusion(path, output.faults)
                          if fusion.effect_times]
        except UserError as error:
            output.fault(error)
    output.table('fusion passes with effect', ('graph', 'kind', 'pass', 'times'),
                 [(each.graph_id, each.kind, each.name, each.effect_times) for each in effective])
    if effective:
        names = sorted({each.name for each in effective})
        made = {op.pass_name for debug_id in workspace.debug_ids()
                for graph in sources.graphs(workspace, output.faults, debug_id)
                for op in graph.operators.values()}
        listed = next((name for name in names if any(name in each for each in made)), None)
        command = f'ls -f {shlex.quote(listed)}' if listed else ''
        yield Finding(weight=FUSION, command=command, summary=f'{len(names)} fusion passes '
                      f'changed the graph ({", ".join(names[:3])}'
                      f'{", ..." if len(names) > 3 else ""}); if nothing else explains it, run '
                      'again with the action fusion_off')


def overflows(workspace, output):
    """The overflows of the workspace, a list of `overflow.Overflow`."""
    folders = [workspace.overflow_dump] + [workspace.npu_dump(i) for i in workspace.debug_ids()]
    found = []
    for folder in folders:
        try:
            found += find_overflows(folder, faults=output.faults)
        except UserError as error:
            output.fault(error)
    return found


def check_overflow(workspace, limits, output):
    """List the overflow records; yields a Finding for the first operator."""
    found = overflows(workspace, output)
    output.table(f'overflows: {len(found)}, first {limits.rows}',
                 ('unit', 'type', 'operator', 'task', 'stream', 'status', 'meaning'),
                 [(each.record.block, each.op_type, each.op_name, each.record.task_id,
                   each.record.stream_id, each.record.status_text, '; '.join(each.record.words))
                  for each in found[:limits.rows]])
    if found:
        first = found[0]
        name = first.op_name or f'task {first.record.task_id}'
        words = '; '.join(first.record.words)
        if UNDOCUMENTED in first.record.words:
            words = f'status {first.record.status_text} ({words})'
        yield Finding(weight=OVERFLOW, command='npu_overflow', summary=(
            f'{first.op_type or "an operator"} {name} overflowed first: {words}'))


def check_casts(workspace, _, output):
    """List casts that cut off what is behind the point; yields a Finding."""
    found = [op for debug_id in workspace.debug_ids()
             for graph in sources.graphs(workspace, output.faults, debug_id)
             for op in ge_graph.casts(graph)]
    output.table('casts from float32 to int32', ('operator', 'fused by'),
                 [(op.name, op.pass_name) for op in found])
    if found:
        yield Finding(weight=CAST, command=_ni(found[0].name), summary=f'{len(found)} casts '
                      f'cut float32 to int32, such as {found[0].name}')


def check_similarity(workspace, limits, output):
    """Compare the graphs of the first two runs; yields a Finding if they differ."""
    ids = workspace.debug_ids()[:2]
    if len(ids) < 2:
        return
    left, right = ({graph.session_graph_id or graph.name: graph
                    for graph in sources.graphs(workspace, output.faults, debug_id)}
                   for debug_id in ids)
    rows, total = [], 0
    for key in left:
        if key in right:
            differences = ge_graph.similarity(left[key], right[key])
            total += len(differences)
            rows += [(key, name, '; '.join(each)) for name, each in differences.items() if each]
    output.table(f'debug_{ids[0]} and debug_{ids[1]}: {len(rows)} of {total} operators differ, '
                 f'first {limits.rows}', ('graph', 'operator', 'difference'),
                 rows[:limits.rows])
    if rows:
        yield Finding(weight=GRAPH, command=_ni(rows[0][1]), summary=f'{len(rows)} operators '
                      f'differ in type or layout between debug_{ids[0]} and debug_{ids[1]}, such '
                      f'as {rows[0][1]}')


# Functions of (workspace, Limits, output) that yield Findings, in the order of their tables.
CHECKS = check_comparison, check_fusion, check_overflow, check_casts, check_similarity


def check_all(workspace, limits, output):
    """Run all checks on what the workspace holds and return the Findings, heaviest first.

    A check that fails is a fault, and the others go on.

    Raises:
        UserError: there is nothing to check.
    """
    if not comparisons.newest(workspace) and not any(map(os.path.isdir, (
            workspace.overflow_dump, workspace.fusion, *(
                folder(debug_id) for debug_id in workspace.debug_ids()
                for folder in (workspace.npu_graph, workspace.npu_dump))))):
        raise UserError(f'{workspace.root}: no dumps and no graphs; see `data`')
    findings = []
    for check in CHECKS:
        try:
            findings.extend(check(workspace, limits, output))
        except UserError as error:
            output.fault(error)
    findings += unread(output)
    return sorted(findings, key=lambda finding: -finding.weight)


def unread(output):
    """The Finding for what could not be read; none, as a list, if all was."""
    if not output.faults:
        return []
    return [Finding(weight=UNREAD, command='', summary=f'{len(output.faults)} files or tensors '
                    f'were not read or not compared, such as {output.faults[0]}')]


def verdict(findings, output, workspace):
    """Add the ranked findings with the next command to type."""
    output.found = bool(findings)
    if not findings:
        output.line('verdict: nothing wrong was found')
        return
    output.line('verdict, most likely cause first:')
    for number, finding in enumerate(findings, 1):
        output.line(f'  {number}. {finding.summary}')
        if finding.command:
            output.line(f'     next: {command_line(workspace, finding.command)}')


def command_line(workspace, command):
    """What to type for a command of this tool in a workspace."""
    root = '' if workspace.root == DATA_ROOT else f'--root {shlex.quote(workspace.root)} '
    return f'python -m precision_tool {root}{command}'
