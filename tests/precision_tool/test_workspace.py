"""The folder layout of a diagnosis."""

import datetime
import os

import pytest

from precision_tool.workspace import DATA_ROOT, Workspace
from pylib import UserError

LAYOUT = {
    'overflow_dump': 'overflow/dump', 'fusion': 'fusion', 'tf_debug': 'tf/tf_debug',
    'tf_dump': 'tf/dump', 'tf_graph': 'tf/graph', 'checkpoints': 'tf/checkpoints',
    'checkpoint': 'tf/checkpoints/ckpt', 'checkpoint_input': 'tf/checkpoints/input',
    'pt_npu': 'pt/npu', 'pt_gpu': 'pt/gpu', 'temp': 'temp', 'op_graph': 'temp/op_graph',
    'overflow_decode': 'temp/decode/overflow_decode', 'dump_convert': 'temp/decode/dump_convert',
    'pt_decode': 'temp/decode/pt', 'vector_compare': 'temp/vector_compare'}


@pytest.mark.parametrize('name', sorted(LAYOUT))
def test_folders(name):
    assert getattr(Workspace('root'), name) == os.path.join('root', *LAYOUT[name].split('/'))


def test_npu_runs():
    workspace = Workspace('root')
    assert workspace.npu_debug(0) == os.path.join('root', 'npu', 'debug_0')
    assert workspace.npu_debug('12') == os.path.join('root', 'npu', 'debug_12')
    assert workspace.npu_dump() == os.path.join('root', 'npu', 'debug_0', 'dump')
    assert workspace.npu_graph(1) == os.path.join('root', 'npu', 'debug_1', 'graph')
    assert workspace.npu_prof() == os.path.join('root', 'npu', 'debug_0', 'prof')
    assert workspace.dump_decode(3) == os.path.join('root', 'temp', 'decode', 'dump_decode', '3')


@pytest.mark.parametrize('debug_id', ['', '../..', '-1', -1, None, 'x'])
def test_debug_ids_that_are_none(debug_id):
    with pytest.raises(UserError, match='debug id'):
        Workspace('root').npu_debug(debug_id)


def test_comparisons_are_named_by_time():
    now = datetime.datetime(2021, 4, 9, 7, 5, 3)
    folder = Workspace('root').vector_compare_folder(now)
    assert folder == os.path.join('root', 'temp', 'vector_compare', '20210409070503')


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
