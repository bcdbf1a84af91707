"""Which comparison is judged, and what is made of it."""

import os

from precision_tool import auto_check, results
from precision_tool.metrics import Metrics
from precision_tool.output import Output
from precision_tool.results import Result, Row
from precision_tool.workspace import Workspace

LIMITS = auto_check.Limits(threshold=.98, rows=3)


def compared(workspace, time, **cosines):
    """Write a comparison of that time with the cosines {operator: cosine}; return its path."""
    path = os.path.join(workspace.vector_compare, time, f'result_{time}.csv')
    results.write_csv(path, Result([
        Row(index=index, op_type='Add', npu_dump=name, ground_truth=f'{name}:0',
            tensor_index=f'{name}:output:0', metrics=Metrics(cosine_similarity=cosine))
        for index, (name, cosine) in enumerate(cosines.items())], [], []))
    return path


def test_the_newest_comparison_counts_whatever_was_written_last(tmp_path):
    workspace = Workspace(str(tmp_path))
    assert auto_check.newest_result(workspace) is None
    newest = compared(workspace, '20211231235959', good=1., late=.5)
    compared(workspace, '20201231235959', early=.4)
    compared(workspace, '20210101000000')
    (tmp_path / 'temp' / 'vector_compare' / '29990101000000').mkdir()
    assert auto_check.newest_result(workspace) == newest
    finding, = auto_check.check_comparison(workspace, LIMITS, Output())
    assert 'late is the first bad one: cosine 0.5000' in finding.summary
    finding, = auto_check.check_all(workspace, LIMITS, Output())
    assert finding.command == 'ni late'
