"""Folders of dump files: every level of the tree, steps, hashed names, links, golden tensors."""

import os
import pickle
import time

import numpy as np
import pytest

from precision_tool import dump_file
from precision_tool.dump_tree import GoldenDump, NpuDump
from pylib import UserError
from scripts.ascend.dump_writer import write_dump

TIME = 1619492699305998
RUN = '20210427030459'


def dump(folder, name, op_name='', value=0.):
    os.makedirs(str(folder), exist_ok=True)
    path = os.path.join(str(folder), name)
    write_dump(path, op_name, outputs=[np.full(3, value, np.float32)])
    return path


def names(npu):
    return [operator.plain_name for operator in npu.operators]


@pytest.fixture
def tree(tmp_path):
    """Two runs; the newer one has two graphs, two steps, an overflow and foreign files."""
    dump(tmp_path / '20200101000000' / '0' / 'g' / '1' / '0', f'Old.old.1.1.{TIME}')
    graph = tmp_path / RUN / '0' / 'ge_default' / '11'
    for step in (2, 10):
        later = step * 100
        dump(graph / str(step), f'MatMul.dense_MatMul.2.1.{TIME + later + 5}', 'dense/MatMul', step)
        dump(graph / str(step), f'Conv2D.conv_Conv2D.9.1.{TIME + later}', 'conv/Conv2D', step)
    dump(graph / '2', f'Add.only_early.3.1.{TIME + 207}')
    dump(graph / '10', f'Relu.a_tie.7.1.{TIME + 1005}', 'a.tie')
    dump(graph / '10', f'Opdebug.Node_OpDebug.5.1.{TIME + 9}')
    dump(graph / '10', f'Opdebug.Node_OpDebug.5.1.{TIME + 8}')
    dump(tmp_path / RUN / '0' / 'other' / '3' / '0', f'Conv2D.conv_Conv2D.1.1.{TIME + 5000}')
    for foreign in ('notes.txt', '.writing-Add.x.1.1.1619492699305998', f'a.0.{TIME}.npy'):
        (graph / '10' / foreign).write_text('foreign')
    os.mkfifo(str(graph / '10' / f'Add.fifo.1.1.{TIME}'))
    os.makedirs(str(graph / '10' / f'Add.folder.1.1.{TIME}'))
    return tmp_path


EXPECTED = ['only_early', 'conv_Conv2D', 'dense_MatMul', 'a_tie', 'conv_Conv2D']


@pytest.mark.parametrize('level', ['', RUN, f'{RUN}/0'])
def test_levels(tree, level):
    npu = NpuDump(str(tree / level))
    assert names(npu) == EXPECTED
    assert [operator.step for operator in npu.operators] == [2, 10, 10, 10, 0]
    assert [operator.timestamp for operator in npu.records] == [TIME + 8, TIME + 9]


@pytest.mark.parametrize('level, expected', [
    ('0/ge_default', EXPECTED[:-1]), ('0/ge_default/11', EXPECTED[:-1]),
    ('0/ge_default/11/10', EXPECTED[1:-1]), ('0/other/3/0', EXPECTED[-1:])])
def test_lower_levels(tree, level, expected, monkeypatch):
    assert names(NpuDump(str(tree / RUN / level))) == expected
    monkeypatch.chdir(str(tree / RUN / level))
    assert names(NpuDump('.')) == expected


def test_of_several_steps_the_newest_counts(tree):
    npu = NpuDump(str(tree))
    assert dump_file.open_dump(npu.operators[1].path).outputs[0].read()[0] == 10
    assert names(npu)[1:3] == ['conv_Conv2D', 'dense_MatMul'] and len(npu.dumps) == 7
    assert names(NpuDump(str(tree / RUN / '0/ge_default/11/2'))) == [
        'conv_Conv2D', 'dense_MatMul', 'only_early']


def test_operator(tree):
    operator = NpuDump(str(tree)).operators[3]
    assert (operator.op_type, operator.task_id, operator.stream_id) == ('Relu', 7, 1)
    assert (operator.timestamp, operator.is_stats) == (TIME + 1005, False)
    assert pickle.loads(pickle.dumps(operator)).name == operator.name == 'a.tie'


def test_names_come_from_files_opened_once(tree):
    npu = NpuDump(str(tree))
    for operator, name in zip(npu.operators, ['only_early', 'conv/Conv2D', 'dense/MatMul']):
        assert operator.name == name
        with open(operator.path, 'wb') as stream:
            stream.write(b'damaged')
        assert operator.name == name
    assert NpuDump(str(tree)).operators[1].name == 'conv_Conv2D'


def test_flat_folder(tmp_path):
    dump(tmp_path, f'Add.a.1.{TIME + 3}', value=3)
    dump(tmp_path, f'Add.a.1.{TIME + 20}', value=20)
    dump(tmp_path, f'Sub.b.1.{TIME + 4}.1.2.3.4')
    (tmp_path / f'Sub.b.1.{TIME + 90}.csv').write_text('Output,0,4,DT_FLOAT,ND,1,1,1,1\n')
    (tmp_path / f'Mul.c.1.{TIME + 30}.csv').write_text('Output,0,4,DT_FLOAT,ND,1,1,1,1\n')
    npu = NpuDump(str(tmp_path))
    assert names(npu) == ['b', 'a', 'c']  # tensors go before statistics of the same operator
    assert [operator.is_stats for operator in npu.operators] == [False, False, True]
    assert npu.operators[1].timestamp == TIME + 20
    assert npu.operators[2].name == 'c' and npu.operators[2].step is None


def test_hashed_names(tmp_path):
    long_name = 'x' * 300
    dump(tmp_path, '8712345', 'x/' * 150)
    (tmp_path / '99.csv').write_text('Output,0,4,DT_FLOAT,ND,1,1,1,1\n')
    (tmp_path / 'mapping.csv').write_text(f'8712345,Conv2D.{long_name}.3.2.{TIME}\n'
                                          f'99.csv,Add.{long_name}.3.2.{TIME + 1}.csv\n')
    operators = NpuDump(str(tmp_path)).operators
    assert [operator.plain_name for operator in operators] == [long_name] * 2
    assert [operator.is_stats for operator in operators] == [False, True]
    assert operators[0].name == 'x/' * 150
    assert sorted(os.listdir(str(tmp_path))) == ['8712345', '99.csv', 'mapping.csv']


def test_links_within_the_folder_count_once(tmp_path):
    """The official tool renames hashed files and leaves links."""
    dump(tmp_path, f'Conv2D.8712345.3.2.{TIME}', 'conv')
    os.symlink(f'Conv2D.8712345.3.2.{TIME}', str(tmp_path / '8712345'))
    os.symlink('.', str(tmp_path / 'loop'))
    assert [operator.name for operator in NpuDump(str(tmp_path)).operators] == ['conv']


@pytest.mark.parametrize('target', ['../outside', '../outside/file', '/', '../inside-too'])
def test_links_out_of_the_folder_are_passed_over_and_told(tmp_path, target):
    dump(tmp_path / 'outside', 'file')
    dump(tmp_path / 'inside', f'Add.a.1.1.{TIME}')
    np.save(str(tmp_path / 'inside' / f'a.0.{TIME}.npy'), np.ones(3))
    os.symlink(target, str(tmp_path / 'inside' / f'Add.b.1.1.{TIME}'))
    npu, golden = (kind(str(tmp_path / 'inside')) for kind in (NpuDump, GoldenDump))
    assert names(npu) == ['a'] and list(golden.tensors) == [('a', 0)]
    for fault in npu.faults + golden.faults:
        assert f'Add.b.1.1.{TIME}: a link out of' in fault
    assert len(npu.faults) == len(golden.faults) == 1


def test_folder_may_be_a_link(tree, tmp_path_factory):
    link = str(tmp_path_factory.mktemp('links') / 'link')
    os.symlink(str(tree), link)
    assert names(NpuDump(link)) == EXPECTED


def test_no_dumps(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').write_text('')
    for kind in NpuDump, GoldenDump:
        for name, message in (('empty', 'no '), ('none', 'No such file'), ('file', 'Not a dir')):
            with pytest.raises(UserError, match=f'{name}: {message}') as error:
                kind(str(tmp_path / name))
            assert '\n' not in str(error.value)


def test_many_files_are_fast(tmp_path):
    folder = tmp_path / '0'
    first = dump(folder, f'Add.op0.0.1.{TIME}', 'op/0')
    for number in range(1, 5000):
        os.link(first, str(folder / f'Add.op{number}.{number}.1.{TIME + number}'))
    start = time.time()
    npu = NpuDump(str(tmp_path))
    assert names(npu) == [f'op{number}' for number in range(5000)]
    assert {operator.name for operator in npu.operators} == {'op/0'}
    assert time.time() - start < 5


def test_golden(tmp_path):
    (tmp_path / 'sub').mkdir()
    for name, value in ((f'a_conv.0.{TIME + 5}', 1), (f'sub/a_conv.0.{TIME + 9}', 2),
                        (f'b.1.{TIME + 6}', 3), (f'b.0.{TIME + 6}', 4), (f'c.x.0.{TIME}', 5),
                        (f'Add.c.1.1.{TIME}.output.0', 6)):
        np.save(str(tmp_path / f'{name}.npy'), np.float32(value))
    golden = GoldenDump(str(tmp_path))
    assert list(golden.tensors) == [('c_x', 0), ('b', 0), ('b', 1), ('a_conv', 0)]
    assert [np.load(path) for path in golden.tensors.values()] == [5, 4, 3, 2]
