"""All checks, one after the other, and a verdict: what to look at first, and how.

Order: vector compare, operators below the threshold, fusions, overflows, casts, graph similarity.
"""

import glob
import os
from collections import namedtuple

from precision_tool import compare, ge_graph, results, sources
from precision_tool.fusion import read_fusion
from precision_tool.overflow import find_overflows
from pylib import UserError

Finding = namedtuple('Finding', 'weight summary command')
Finding.__doc__ = """Something wrong: the heavier, the more likely the cause.

weight: 0 to 100; summary: one line; command: what to type next, after `python -m precision_tool`.
"""

# An overflow corrupts what comes after it, an operator that breaks is a fact, the rest are hints.
OVERFLOW, BREAKS, UNKNOWN, INHERITS, CAST, GRAPH, FUSION = 100, 90, 70, 60, 40, 30, 20


def newest_result(workspace):
    """Path of the newest comparison's CSV file, or None."""
    found = glob.glob(os.path.join(glob.escape(workspace.vector_compare), '*', 'result_*.csv'))
    return max(found) if found else None


def check_comparison(workspace, path, threshold, limit, output):
    """List the operators of a comparison that are below the threshold; yields a Finding."""
    rows = results.read_csv(path)
    bad = [row for row in rows if results.is_bad(row, threshold)]
    output.table(f'cosine below {threshold}: {len(bad)} of {len(rows)} tensors, first {limit}',
                 ('index', 'type', 'tensor', 'golden', 'cosine', 'max error', 'reason'),
                 [(row.index, row.op_type, row.tensor_index, row.ground_truth,
                   row.cosine_similarity, row.max_absolute_error, row.reason)
                  for row in bad[:limit]])
    uncompared = [row for row in rows if row.reason and row not in bad
                  and results.ABSENT not in (row.npu_dump, row.ground_truth)]
    if uncompared:
        output.line(f'{len(uncompared)} tensors could not be compared, such as '
                    f'{uncompared[0].tensor_index}: {uncompared[0].reason}')
    if not bad:
        output.line(f'vector compare: all {len(rows)} tensors reach a cosine of {threshold}')
        return
    suspect = compare.first_bad(results.Result(rows, [], []), sources.edges(workspace), threshold)
    yield from findings_of(suspect)


def findings_of(suspect):
    """Yield the Finding of a compare.Suspect."""
    row = suspect.row
    name = row.npu_dump
    cosine = f'cosine {row.cosine_similarity:.4f} of {row.tensor_index}'
    inputs = ', '.join(f'{each.tensor_index} {each.cosine_similarity:.4f}'
                       for each in suspect.inputs[:3])
    if suspect.verdict == 'breaks here':
        yield Finding(BREAKS, f'{row.op_type} {name} breaks: {cosine}, though its inputs are right '
                      f'({inputs})', f'ni {name}')
    elif suspect.verdict == 'inherits':
        worst = min(suspect.inputs, key=lambda each: each.cosine_similarity)
        yield Finding(INHERITS, f'{row.op_type} {name} is the first bad one, but inherits: {cosine}'
                      f', inputs {inputs}', f'ni {worst.npu_dump}')
    else:
        yield Finding(UNKNOWN, f'{row.op_type} {name} is the first bad one: {cosine}; what feeds '
                      'it was not compared', f'ni {name}')


def check_fusion(workspace, output):
    """List the fusion passes that did something; yields a Finding if there are any."""
    paths = [path for debug_id in workspace.debug_ids() for path in sorted(glob.glob(os.path.join(
        glob.escape(workspace.npu_debug(debug_id)), '**', 'fusion_result*.json'), recursive=True))]
    paths += sorted(glob.glob(os.path.join(glob.escape(workspace.fusion), 'fusion_result*.json')))
    effective = [fusion for path in paths for fusion in read_fusion(path) if fusion.effect_times]
    output.table('fusion passes with effect', ('graph', 'kind', 'pass', 'times'),
                 [(each.graph_id, each.kind, each.name, each.effect_times) for each in effective])
    if effective:
        names = sorted({each.name for each in effective})
        yield Finding(FUSION, f'{len(names)} fusion passes changed the graph '
                      f'({", ".join(names[:3])}{", ..." if len(names) > 3 else ""}); if nothing '
                      'else explains it, run again with the action fusion_off', 'ls -f Fusion')


def check_overflow(workspace, limit, output):
    """List the overflow records; yields a Finding for the first operator."""
    folders = [workspace.overflow_dump] + [workspace.npu_dump(i) for i in workspace.debug_ids()]
    found = [each for folder in folders if os.path.isdir(folder) for each in find_overflows(folder)]
    output.table(f'overflows: {len(found)}, first {limit}',
                 ('unit', 'type', 'operator', 'task', 'stream', 'status', 'meaning'),
                 [(each.record.block, each.op_type, each.op_name, each.record.task_id,
                   each.record.stream_id, hex(each.record.status or 0),
                   '; '.join(each.record.words)) for each in found[:limit]])
    if found:
        first = found[0]
        name = first.op_name or f'task {first.record.task_id}'
        yield Finding(OVERFLOW, f'{first.op_type or "an operator"} {name} overflowed first: '
                      f'{"; ".join(first.record.words)}',
                      f'dc {first.dump_path}' if first.dump_path else 'npu_overflow')


def check_casts(workspace, output):
    """List casts that cut off what is behind the point; yields a Finding."""
    found = [op for debug_id in workspace.debug_ids()
             for graph in sources.graphs(workspace, debug_id) for op in ge_graph.casts(graph)]
    output.table('casts from float32 to int32', ('operator', 'fused by'),
                 [(op.name, op.pass_name) for op in found])
    if found:
        yield Finding(CAST, f'{len(found)} casts cut float32 to int32, such as {found[0].name}',
                      f'ni {found[0].name}')


def check_similarity(workspace, limit, output):
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
                 f'first {limit}', ('graph', 'operator', 'difference'), rows[:limit])
    if rows:
        yield Finding(GRAPH, f'{len(rows)} operators differ in type or layout between debug_'
                      f'{ids[0]} and debug_{ids[1]}, such as {rows[0][1]}', f'ni {rows[0][1]}')


def check_all(workspace, threshold, limit, output):
    """Run all checks on what the workspace holds and return the Findings, heaviest first.

    Raises:
        UserError: there is nothing to check.
    """
    path = newest_result(workspace)
    findings = []
    if path:
        findings += check_comparison(workspace, path, threshold, limit, output)
    findings += check_fusion(workspace, output)
    findings += check_overflow(workspace, limit, output)
    findings += check_casts(workspace, output)
    findings += check_similarity(workspace, limit, output)
    if not path and not findings and not any(map(os.path.isdir, (
            workspace.overflow_dump, workspace.npu_graph(0), workspace.npu_dump(0)))):
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
