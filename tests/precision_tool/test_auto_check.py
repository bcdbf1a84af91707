"""Which comparison is judged, and what is made of it."""

import os

import numpy as np
import pytest

from precision_tool import auto_check, compare, comparisons, results
from precision_tool.metrics import Metrics
from precision_tool.output import Output
from precision_tool.results import Result, Row
from precision_tool.workspace import Workspace
from pylib import UserError

LIMITS = auto_check.Limits(threshold=.98, rows=3)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(str(tmp_path / 'data'))


def compared(workspace, time, folders=None, **cosines):
    """Write a comparison of that time with the cosines {operator: cosine}; return its path."""
    path = os.path.join(workspace.vector_compare, time, f'result_{time}.csv')
    result = Result([
        Row(index=index, op_type='Add', npu_dump=name, ground_truth=f'{name}:0',
            tensor_index=f'{name}:output:0', metrics=Metrics(cosine_similarity=cosine))
        for index, (name, cosine) in enumerate(cosines.items())], [], [])
    results.write_csv(path, result)
    if folders:
        left, right, graphs = (comparisons.source_of(workspace, str(folder))
                               for folder in (*folders, workspace.npu_graph()))
        comparisons.write(path, comparisons.Comparison(
            left, right, graphs, graph='', threshold=.98, faults=['a link'],
            tool=comparisons.tool_digest(), **results.count(result.rows)._asdict()))
    return path


def own(workspace):
    return workspace.npu_dump(), workspace.tf_dump


def test_the_newest_comparison_counts_whatever_was_written_last(workspace):
    assert comparisons.newest(workspace) is None
    newest = compared(workspace, '20211231235959', good=1., late=.5)
    compared(workspace, '20201231235959', early=.4)
    compared(workspace, '20210101000000')
    os.makedirs(os.path.join(workspace.vector_compare, '29990101000000'))
    assert comparisons.newest(workspace) == newest
    finding, = auto_check.check_comparison(workspace, LIMITS, Output())
    assert 'late is the first bad one: cosine 0.5000' in finding.summary
    finding, = auto_check.check_all(workspace, LIMITS, Output())
    assert finding.command == 'ni late'


def test_comparisons_of_other_folders_are_not_judged(workspace, tmp_path):
    mine = compared(workspace, '20200101000000', own(workspace), broken=.5)
    compared(workspace, '20210101000000', (tmp_path / 'a', tmp_path / 'b'), fine=1.)
    compared(workspace, '20220101000000', (own(workspace)[1], own(workspace)[1]), fine=1.)
    compared(workspace, '20230101000000', fine=1.)    # nothing tells of what
    path, comparison = comparisons.own(workspace)
    assert path == mine and comparison.left.folder == 'npu/debug_0/dump'
    finding, = auto_check.check_comparison(workspace, LIMITS, Output())
    assert 'broken is the first bad one' in finding.summary


def test_a_comparison_is_current_until_a_file_changes(workspace):
    for folder, name in ((workspace.npu_dump(), 'Add.a.1.1.1'), (workspace.tf_dump, 'a.npy'),
                         (workspace.npu_graph(), 'graph.txt')):
        os.makedirs(folder)
        path = os.path.join(folder, name)
        np.save(path, np.zeros(3)) if name.endswith('.npy') else open(path, 'w').close()
        compared(workspace, '20200101000000', own(workspace), a=1.)
        assert comparisons.is_current(workspace, *comparisons.own(workspace))
        status = os.stat(path)
        with open(path, 'r+b') as stream:
            stream.write(b'changed')
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert not comparisons.is_current(workspace, *comparisons.own(workspace))
    compared(workspace, '20200101000000', own(workspace), a=1.)
    os.unlink(path)
    assert not comparisons.is_current(workspace, *comparisons.own(workspace))
    assert not comparisons.is_current(workspace, path, None)


def test_a_moved_workspace_keeps_its_comparisons(workspace, tmp_path):
    os.makedirs(workspace.npu_dump())
    os.makedirs(workspace.tf_dump)
    compared(workspace, '20200101000000', own(workspace), a=1.)
    os.rename(workspace.root, str(tmp_path / 'moved'))
    moved = Workspace(str(tmp_path / 'moved'))
    assert comparisons.is_current(moved, *comparisons.own(moved))


def test_a_damaged_record_is_named_and_not_judged(workspace):
    older = compared(workspace, '20200101000000', own(workspace), a=1.)
    path = compared(workspace, '20210101000000', own(workspace), a=1.)
    with open(path[:-len('.csv')] + '.json', 'w') as stream:
        stream.write('{"left": 3}')
    with pytest.raises(UserError, match='result_20210101000000.json'):
        comparisons.read(path)
    assert comparisons.own(workspace)[0] == older


def test_nothing_compared_is_a_finding(workspace):
    path = compared(workspace, '20200101000000')
    results.write_csv(path, Result([], ['Conv_1:output:0'], ['dense:output:0', 'x:output:0']))
    output = Output()
    finding, = auto_check.check_comparison(workspace, LIMITS, output)
    assert finding.weight == auto_check.NOTHING
    assert "nothing was compared" in finding.summary
    assert "such as 'Conv_1' and 'dense'" in finding.summary
    assert results.count(results.read_csv(path)) == (0, 0, 3)


def test_without_dumps_there_is_no_healthy_verdict(workspace):
    os.makedirs(workspace.overflow_dump)
    finding, = auto_check.check_all(workspace, LIMITS, Output())
    assert 'nothing was compared: ' in finding.summary and 'missing' in finding.summary


def test_what_was_left_out_then_is_told_again(workspace):
    compared(workspace, '20200101000000', own(workspace), a=1.)
    output = Output()
    finding, = auto_check.check_all(workspace, LIMITS, output)
    assert output.faults == ['a link']
    assert finding.weight == auto_check.UNREAD and finding.summary.endswith('such as a link')


def test_a_check_that_fails_leaves_the_others(workspace, monkeypatch):
    def failing(workspace, limits, output):
        yield auto_check.Finding(weight=1, summary='before', command='')
        raise UserError('file: damaged')
    monkeypatch.setattr(auto_check, 'CHECKS', (failing, auto_check.check_comparison))
    compared(workspace, '20200101000000', broken=.5)
    output = Output()
    findings = auto_check.check_all(workspace, LIMITS, output)
    assert [finding.weight for finding in findings] == [auto_check.UNKNOWN, auto_check.UNREAD, 1]
    assert output.faults == ['file: damaged']


def row(name, cosine, reason='', distance=float('nan')):
    return Row(index=0, op_type='Add', npu_dump=name, tensor_index=f'{name}:output:0',
               ground_truth=f'{name}:0', reason=reason, metrics=Metrics(
                   cosine_similarity=cosine, relative_euclidean_distance=distance))


def test_a_tensor_without_a_cosine_is_described_by_its_reason():
    nan = float('nan')
    bad = row('zeros', nan, 'the left tensor is all zeros', distance=1.)
    finding = auto_check.finding_of(compare.Suspect(bad, [], compare.UNKNOWN))
    assert 'nan' not in finding.summary
    assert 'is the first bad one: zeros:output:0: the left tensor is all zeros' in finding.summary
    inputs = [row('good', 1.), row('empty', nan, results.EMPTY), row('low', .5), bad]
    for order in inputs, inputs[::-1]:
        finding = auto_check.finding_of(compare.Suspect(row('c', .1), order, compare.INHERITS))
        assert finding.command == 'ni zeros'
        finding = auto_check.finding_of(compare.Suspect(row('c', .1), [
            each for each in order if each is not bad], compare.INHERITS))
        assert finding.command == 'ni low'
