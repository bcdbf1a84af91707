"""The folder layout of a diagnosis."""

import os

import pytest

from precision_tool.workspace import DATA_ROOT, Workspace

LAYOUT = {
    'overflow_dump': 'overflow/dump', 'fusion': 'fusion', 'tf_debug': 'tf/tf_debug',
    'tf_dump': 'tf/dump', 'checkpoints': 'tf/checkpoints', 'checkpoint': 'tf/checkpoints/ckpt',
    'checkpoint_input': 'tf/checkpoints/input', 'pt': 'pt', 'op_graph': 'temp/op_graph',
    'dump_convert': 'temp/decode/dump_convert', 'vector_compare': 'temp/vector_compare'}


@pytest.mark.parametrize('name', sorted(LAYOUT))
def test_folders(name):
    assert getattr(Workspace('root'), name) == os.path.join('root', *LAYOUT[name].split('/'))


def test_npu_runs():
    workspace = Workspace('root')
    assert workspace.npu_debug(12) == os.path.join('root', 'npu', 'debug_12')
    assert workspace.npu_dump() == os.path.join('root', 'npu', 'debug_0', 'dump')
    assert workspace.npu_graph(1) == os.path.join('root', 'npu', 'debug_1', 'graph')
    assert workspace.npu_prof() == os.path.join('root', 'npu', 'debug_0', 'prof')


def test_nothing_is_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspace = Workspace()
    assert workspace.root == DATA_ROOT
    for name in LAYOUT:
        getattr(workspace, name)
    assert workspace.npu_dump(5) and workspace.debug_ids() == []
    assert not list(tmp_path.iterdir())


def test_runs_found(tmp_path):
    for name in ('debug_10', 'debug_2', 'debug_', 'debug_x', 'debug_02', 'debug_²', 'other'):
        (tmp_path / 'npu' / name).mkdir(parents=True)
    assert Workspace(tmp_path).debug_ids() == [2, 10]
