"""All checks, one after the other, and a verdict: what to look at first, and how.

Order: vector compare, operators below the threshold, fusions, overflows, casts, graph similarity.
"""

import glob
import os
from typing import NamedTuple

from precision_tool import compare, ge_graph, results, sources
from precision_tool.fusion import read_fusion
from precision_tool.overflow import find_overflows
from pylib import UserError


class Finding(NamedTuple):
    """Something wrong."""

    weight: int     # 0 to 100; the heavier, the more likely the cause
    summary: str    # one line
    command: str    # what to type next, after `python -m precision_tool`


class Limits(NamedTuple):
    """What counts as wrong, and how much of it is listed."""

    threshold: float    # cosine similarity below which a tensor is wrong
    rows: int           # of each table


# An overflow corrupts what comes after it, an operator that breaks is a fact, the rest are hints.
OVERFLOW, BREAKS, UNKNOWN, INHERITS, CAST, GRAPH, FUSION = 100, 90, 70, 60, 40, 30, 20


def newest_result(workspace):
    """Path of the newest comparison's CSV file, or None."""
    # Both folder and file are named by the time.
    return max(glob.glob(os.path.join(glob.escape(workspace.vector_compare), '*',
                                      results.RESULT.format('*'))), default=None)


def check_comparison(workspace, limits, output, path=None):
    """List the operators of a comparison that are below the threshold; yields a Finding.

    Args:
        path: its CSV file; default: the newest, if any.
    """
    path = path or newest_result(workspace)
    if not path:
        return
    rows = results.read_csv(path)
    bad = [row for row in rows if results.is_bad(row, limits.threshold)]
    output.table(f'cosine below {limits.threshold}: {len(bad)} of {len(rows)} tensors, first '
                 f'{limits.rows}',
                 ('index', 'type', 'tensor', 'golden', 'cosine', 'max error', 'reason'),
                 [(row.index, row.op_type, row.tensor_index, row.ground_truth, row.cosine,
                   row.metrics.max_absolute_error, row.reason) for row in bad[:limits.rows]])
    uncompared = [row for row in rows if row.reason and row not in bad
                  and results.ABSENT not in (row.npu_dump, row.ground_truth)]
    if uncompared:
        output.line(f'{len(uncompared)} tensors could not be compared, such as '
                    f'{uncompared[0].tensor_index}: {uncompared[0].reason}')
    if not bad:
        output.line(f'vector compare: all {len(rows)} tensors reach a cosine of '
                    f'{limits.threshold}')
        return
    yield finding_of(compare.first_bad(rows, sources.edges(workspace), limits.threshold))


def finding_of(suspect):
    """The Finding of a compare.Suspect."""
    row = suspect.row
    name = f'{row.op_type} {row.npu_dump}'
    cosine = f'cosine {row.cosine:.4f} of {row.tensor_index}'
    inputs = ', '.join(f'{each.tensor_index} {each.cosine:.4f}' for each in suspect.inputs[:3])
    if suspect.verdict == compare.BREAKS:
        return Finding(weight=BREAKS, command=f'ni {row.npu_dump}', summary=f'{name} breaks: '
                       f'{cosine}, though its inputs are right ({inputs})')
    if suspect.verdict == compare.INHERITS:
        worst = min(suspect.inputs, key=lambda each: each.cosine)
        return Finding(weight=INHERITS, command=f'ni {worst.npu_dump}', summary=f'{name} is the '
                       f'first bad one, but inherits: {cosine}, inputs {inputs}')
    return Finding(weight=UNKNOWN, command=f'ni {row.npu_dump}', summary=f'{name} is the first bad '
                   f'one: {cosine}; what feeds it was not compared')


def check_fusion(workspace, _, output):
    """List the fusion passes that did something; yields a Finding if there are any."""
    paths = [path for debug_id in workspace.debug_ids() for path in sorted(glob.glob(os.path.join(
        glob.escape(workspace.npu_debug(debug_id)), '**', 'fusion_result*.json'), recursive=True))]
    paths += sorted(glob.glob(os.path.join(glob.escape(workspace.fusion), 'fusion_result*.json')))
    effective = [fusion for path in paths for fusion in read_fusion(path) if fusion.effect_times]
    output.table('fusion passes with effect', ('graph', 'kind', 'pass', 'times'),
                 [(each.graph_id, each.kind, each.name, each.effect_times) for each in effective])
    if effective:
        names = sorted({each.name for each in effective})
        yield Finding(weight=FUSION, command='ls -f Fusion', summary=f'{len(names)} fusion passes '
                      f'changed the graph ({", ".join(names[:3])}'
                      f'{", ..." if len(names) > 3 else ""}); if nothing else explains it, run '
                      'again with the action fusion_off')


def check_overflow(workspace, limits, output):
    """List the overflow records; yields a Finding for the first operator."""
    folders = [workspace.overflow_dump] + [workspace.npu_dump(i) for i in workspace.debug_ids()]
    found = [each for folder in folders for each in find_overflows(folder)]
    output.table(f'overflows: {len(found)}, first {limits.rows}',
                 ('unit', 'type', 'operator', 'task', 'stream', 'status', 'meaning'),
                 [(each.record.block, each.op_type, each.op_name, each.record.task_id,
                   each.record.stream_id, hex(each.record.status or 0),
                   '; '.join(each.record.words)) for each in found[:limits.rows]])
    if found:
        first = found[0]
        name = first.op_name or f'task {first.record.task_id}'
        yield Finding(weight=OVERFLOW, summary=f'{first.op_type or "an operator"} {name} '
                      f'overflowed first: {"; ".join(first.record.words)}',
                      command=f'dc {first.operator.path}' if first.operator else 'npu_overflow')


def check_casts(workspace, _, output):
    """List casts that cut off what is behind the point; yields a Finding."""
    found = [op for debug_id in workspace.debug_ids()
             for graph in sources.graphs(workspace, debug_id) for op in ge_graph.casts(graph)]
    output.table('casts from float32 to int32', ('operator', 'fused by'),
                 [(op.name, op.pass_name) for op in found])
    if found:
        yield Finding(weight=CAST, command=f'ni {found[0].name}', summary=f'{len(found)} casts '
                      f'cut float32 to int32, such as {found[0].name}')


def check_similarity(workspace, limits, output):
    """Compare the graphs of the first two runs; yields a Finding if they differ."""
    ids = workspace.debug_ids()[:2]
    if len(ids) < 2:
        return
    left, right = ({graph.session_graph_id or graph.name: graph
                    for graph in sources.graphs(workspace, debug_id)} for debug_id in ids)
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
        yield Finding(weight=GRAPH, command=f'ni {rows[0][1]}', summary=f'{len(rows)} operators '
                      f'differ in type or layout between debug_{ids[0]} and debug_{ids[1]}, such '
                      f'as {rows[0][1]}')


# Functions of (workspace, Limits, output) that yield Findings, in the order of their tables.
CHECKS = check_comparison, check_fusion, check_overflow, check_casts, check_similarity


def check_all(workspace, limits, output):
    """Run all checks on what the workspace holds and return the Findings, heaviest first.

    Raises:
        UserError: there is nothing to check.
    """
    findings = [finding for check in CHECKS for finding in check(workspace, limits, output)]
    if not findings and not newest_result(workspace) and not any(map(os.path.isdir, (
            workspace.overflow_dump, workspace.npu_graph(), workspace.npu_dump()))):
        raise UserError(f'{workspace.root}: no dumps and no graphs; see `data`')
    return sorted(findings, key=lambda finding: -finding.weight)


def verdict(findings, output):
    """Add the ranked findings with the next command to type."""
    output.found = bool(findings)
    if not findings:
        output.line('verdict: nothing wrong was found')
        return
    output.line('verdict, most likely cause first:')
    for number, finding in enumerate(findings, 1):
        output.line(f'  {number}. {finding.summary}')
        output.line(f'     next: python -m precision_tool {finding.command}')
