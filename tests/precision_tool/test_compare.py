"""Whole comparisons of small dump folders, the suspect they lead to, and their CSV file."""

import csv
import math
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from precision_tool import compare, metrics, results
from precision_tool.ge_graph import read_graphs
from precision_tool.metrics import Metrics
from precision_tool.results import Row, is_bad, printable
from pylib import UserError
from scripts.ascend.dump_writer import NewTensor, from_plain, write_dump

TIME = 1619492699305998
LAYERS = 50
quick = settings(max_examples=40, deadline=None,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])


def npu(folder, number, name, outputs, inputs=(), op_type='Conv2D', path=None):
    """Write the dump of the operator that runs as the `number`th; return its path."""
    path = path or str(folder / f'{op_type}.{name.replace("/", "_")}.{number}.3.{TIME + number}')
    write_dump(path, name, inputs, outputs)
    return path


def golden(folder, number, name, array, index=0):
    folder.mkdir(exist_ok=True)
    path = folder / f'{name.replace("/", "_")}.{index}.{TIME + number}.npy'
    np.save(str(path), array)
    return path


@pytest.fixture
def folders(tmp_path):
    """(NPU folder, golden folder) below tmp_path, the former there already."""
    (tmp_path / 'npu').mkdir()
    return tmp_path / 'npu', tmp_path / 'golden'


@pytest.fixture
def network(folders):
    """A chain of 50 layers of different sizes whose NPU outputs are float16 in NC1HWC0.

    Layer 30 gives wrong values, and all after it too. Returns the two folders and the tensors.
    """
    random = np.random.RandomState(0)
    tensors = OrderedDict()
    for number in range(LAYERS):
        y = random.randn(1, 4, 3 + number % 7, 10 + number).astype(np.float32)
        x = (y + (random.randn(*y.shape) if number >= 30 else 0)).astype(np.float16)
        tensors[number] = x, y
        npu(folders[0], number, f'fused/conv{number}', [NewTensor(
            from_plain(x, 'NC1HWC0'), 'float16', 'NC1HWC0', (f'Genc/Conv_{number}/Relu', 1),
            y.shape, 'NHWC')])
        golden(folders[1], number, f'Genc/Conv_{number}/Relu', y, index=1)
    return folders + (tensors,)


def chain(names):
    """{operator: [(the one before, 0)]}."""
    return {name: [(before, 0)] for before, name in zip(names, names[1:])}


def run(left, right, **arguments):
    return compare.compare_folders(str(left), str(right), **arguments)


def pairs(result):
    return [(row.tensor_index, row.ground_truth, row.metrics.max_absolute_error)
            for row in result.rows]


def tensor_indices(result):
    return [row.tensor_index for row in result.rows]


def test_npu_outputs_are_compared_with_their_tensorflow_tensors(network):
    left, right, tensors = network
    result = run(left, right)
    assert [row.index for row in result.rows] == list(range(LAYERS))
    for (x, y), (number, row) in zip(tensors.values(), enumerate(result.rows)):
        assert row.op_type == 'Conv2D' and row.npu_dump == f'fused/conv{number}'
        assert (row.data_type, row.golden_data_type) == ('float16', 'float32')
        assert row.ground_truth == f'Genc_Conv_{number}_Relu:1'
        assert row.tensor_index == f'fused/conv{number}:output:0'
        assert row.shape == str(list(x.shape)).replace(' ', '') and row.reason == ''
        assert row.metrics == metrics.compare(np.ascontiguousarray(x), y)
    assert result.unmatched_left == result.unmatched_right == []


def test_workers_give_the_same_rows(network):
    calls = []
    expected = run(*network[:2], processes=1)
    result = run(*network[:2], processes=2, progress=lambda *count: calls.append(count))
    assert result == expected
    assert calls == [(done, LAYERS) for done in range(1, LAYERS + 1)]


def test_the_largest_pairs_come_first():
    sources = [compare._Source('op', size=size) for size in (3, 9, 1)]
    tasks = [compare._Task(source, right) for source in sources for right in (None, sources[0])]
    assert compare._largest_first(tasks) == [3, 2, 1, 5, 0, 4]


def test_workers_do_not_load_tensorflow():
    code = ('import sys; from precision_tool import compare, report; '
            'sys.exit("tensorflow" in sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True, cwd=str(Path(__file__).parents[2]))


def test_names_decide_where_the_dump_does_not(folders):
    left, right = folders
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    npu(left, 1, 'a/MatMul', [values, values + 1])
    npu(left, 2, 'b', [NewTensor(values, original_op=('gone', 0))])
    npu(left, 3, 'trans_TransData_1', [values], [values])
    golden(right, 1, 'a/MatMul', values)
    golden(right, 1, 'a/MatMul', values + 1, index=1)
    golden(right, 2, 'b', values)
    golden(right, 3, 'only/tf', values)
    result = run(left, right)
    assert tensor_indices(result) == ['a/MatMul:output:0', 'a/MatMul:output:1', 'b:output:0']
    assert [row.cosine for row in result.rows] == [pytest.approx(1)] * 3
    assert result.unmatched_left == ['trans_TransData_1:output:0']
    assert result.unmatched_right == ['only_tf:output:0']


def test_padding_is_cut_off_by_the_golden_shape_if_the_dump_tells_none(folders):
    y = np.random.RandomState(0).randn(2, 3, 3, 5).astype(np.float32)
    npu(folders[0], 1, 'conv', [NewTensor(from_plain(y, 'NC1HWC0'), format='NC1HWC0')])
    golden(folders[1], 1, 'conv', y)
    row, = run(*folders).rows
    assert (row.shape, row.metrics.max_absolute_error, row.reason) == ('[2,3,3,5]', 0, '')


def test_a_graph_tells_what_outputs_are_and_what_feeds_inputs(folders, tmp_path):
    left, right = folders
    y = np.arange(1, 7, dtype=np.float32)
    npu(left, 1, 'conv_fused', [y], [y + 9])
    npu(left, 2, 'relu', [y * 3], [y, y * 2])
    golden(right, 1, 'Genc/Conv/BiasAdd', y, index=2)
    golden(right, 2, 'relu', y * 3)
    golden(right, 3, 'other', y * 2)
    (tmp_path / 'graph.txt').write_text('''
        graph { name: "g"
          op { name: "conv_fused" type: "Conv2D" output_desc { dtype: DT_FLOAT
            attr { key: "_datadump_origin_name" value { s: "Genc/Conv/BiasAdd" } }
            attr { key: "_datadump_origin_output_index" value { i: 2 } } } }
          op { name: "other" type: "Const" output_desc { dtype: DT_FLOAT } }
          op { name: "relu" type: "Relu" input: "conv_fused:0" input: "other:0"
            output_desc { dtype: DT_FLOAT } } }''')
    graphs = read_graphs(str(tmp_path / 'graph.txt'))
    result = run(left, right, graphs=graphs)
    assert pairs(result) == [
        ('conv_fused:output:0', 'Genc_Conv_BiasAdd:2', 0),
        ('relu:input:0', 'Genc_Conv_BiasAdd:2', 0),
        ('relu:input:1', 'other:0', 0), ('relu:output:0', 'relu:0', 0)]
    assert tensor_indices(run(left, right)) == ['relu:output:0']
    edges = {'relu': [('conv_fused', 0), ('other', 0)]}
    assert tensor_indices(run(left, right, graphs=edges)) == ['relu:input:1', 'relu:output:0']


def test_two_npu_dumps_are_compared_by_name(tmp_path):
    y = np.arange(1, 7, dtype=np.float32)
    for side, factor in (('a', 1), ('b', 2)):
        folder = tmp_path / side
        folder.mkdir()
        npu(folder, 1, 'net/conv', [y], [y, np.zeros(0, np.float32)])
        npu(folder, 2, 'net/relu', [y * factor, y], [y])
        npu(folder, 3, f'net/only_{side}', [y], [y])
    result = run(tmp_path / 'a', tmp_path / 'b')
    assert pairs(result) == [
        ('net/conv:input:0', 'net/conv', 0), ('net/conv:output:0', 'net/conv', 0),
        ('net/relu:input:0', 'net/relu', 0), ('net/relu:output:0', 'net/relu', 6),
        ('net/relu:output:1', 'net/relu', 0)]
    assert result.unmatched_left == ['net/only_a:output:0']
    assert result.unmatched_right == ['net/only_b:output:0']


def test_two_golden_dumps_are_compared_by_tensor(tmp_path):
    y = np.arange(1, 7, dtype=np.float32)
    for side, count in (('a', 3), ('b', 2)):
        for number in range(count):
            golden(tmp_path / side, 10 - number, f'net/op{number}', y + number)
    result = run(tmp_path / 'a', tmp_path / 'b')
    assert tensor_indices(result) == ['net_op1:output:0', 'net_op0:output:0']
    assert result.rows[0].data_type == 'float32'
    assert result.rows[0].metrics.max_absolute_error == 0
    assert result.unmatched_left == ['net_op2:output:0'] and not result.unmatched_right


def test_operators_of_one_name_are_told_apart(tmp_path):
    y = np.arange(1, 7, dtype=np.float32)
    for side in 'ab':
        for graph, factor in (('g1', 1), ('g2', 2)):
            folder = tmp_path / side / graph / '1' / '0'
            folder.mkdir(parents=True)
            npu(folder, factor, 'conv', [y * factor])
    result = run(tmp_path / 'a', tmp_path / 'b')
    assert [row.metrics.max_absolute_error for row in result.rows] == [0, 0]


def test_pairs_that_cannot_be_compared_do_not_stop_the_run(folders):
    left, right = folders
    y = np.arange(6, dtype=np.float32)
    for number, name in enumerate(('cut', 'stats', 'sizes', 'text', 'bad_npy', 'zeros', 'nan',
                                   'both_nan', 'empty', 'good')):
        golden(right, number, name, y)
    cut = npu(left, 0, 'cut', [y])
    os.truncate(cut, os.path.getsize(cut) - 1)
    (left / f'Add.stats.1.3.{TIME + 1}.csv').write_text('Output,0,24,float32,ND,6,5,0,2.5\n')
    npu(left, 2, 'sizes', [y[:5]])
    npu(left, 3, 'text', [y])
    golden(right, 3, 'text', np.array(list('abcdef')))
    npu(left, 4, 'bad_npy', [y])
    (right / f'bad_npy.0.{TIME + 4}.npy').write_bytes(b'garbage')
    npu(left, 5, 'zeros', [np.zeros(6, np.float32)])
    npu(left, 6, 'nan', [np.full(6, np.inf, np.float32)])
    npu(left, 7, 'both_nan', [np.full(6, np.nan, np.float32)])
    golden(right, 7, 'both_nan', np.full(6, np.inf, np.float32))
    npu(left, 8, 'empty', [np.zeros((0, 3), np.float32)])
    golden(right, 8, 'empty', np.zeros((0, 3), np.float32))
    npu(left, 9, 'good', [y])
    result = run(left, right)
    reasons = [row.reason for row in result.rows]
    assert reasons[0].startswith(f'{cut}: output 0: ') and 'it is incomplete' in reasons[0]
    assert reasons[1].endswith('.csv: has statistics only; dump tensors to compare')
    assert reasons[2] == 'sizes differ: 5 and 6 elements, of shapes [5] and [6]'
    assert reasons[3] == 'elements of type <U1 cannot be compared'
    assert 'not a .npy file' in reasons[4]
    assert reasons[5:] == [
        'the left tensor is all zeros, the right one is not', 'NaN or infinity in the left tensor',
        'NaN or infinity in the left and the right tensor, but not at the same places',
        'both tensors are empty', '']
    for row in result.rows[:5]:
        assert '\n' not in row.reason
        assert str(row.metrics) == str(Metrics())
    assert [row.op_type for row in result.rows[:2]] == ['Conv2D', 'Add']
    assert [is_bad(row, 0.98) for row in result.rows] == [False] * 5 + [True] * 3 + [False] * 2
    assert result.rows[-1].cosine == pytest.approx(1)


def test_a_damaged_dump_on_the_right_is_a_reason_too(tmp_path):
    for side in 'ab':
        (tmp_path / side).mkdir()
        path = npu(tmp_path / side, 1, 'conv', [np.ones(3)])
    os.truncate(path, 20)
    result = run(tmp_path / 'a', tmp_path / 'b')
    assert [row.reason.startswith(path) for row in result.rows] == [True]
    assert result.unmatched_left == result.unmatched_right == []


def test_an_unreadable_dump_is_paired_with_nothing(folders):
    """Not even with what a graph says feeds its operator."""
    y = np.arange(6, dtype=np.float32)
    npu(folders[0], 1, 'before', [y])
    os.truncate(npu(folders[0], 2, 'cut', [y]), 20)
    golden(folders[1], 1, 'before', y)
    golden(folders[1], 2, 'cut', y)
    golden(folders[1], 3, 'fed', y)
    result = run(*folders, graphs={'cut': [('fed', 0)]})
    assert [(row.npu_dump, row.ground_truth) for row in result.rows] == [
        ('before', 'before:0'), ('cut', '*')]
    assert 'incomplete or damaged' in result.rows[1].reason
    assert result.unmatched_right == ['cut:output:0', 'fed:output:0']


def test_names_from_files_cannot_break_lines(folders):
    name = 'a\n"b"<c>\x1b[2J\u202e'
    npu(folders[0], 1, name, [np.ones(3)], path=str(folders[0] / f'Add.x.1.3.{TIME}'))
    result = run(folders[0], folders[0])
    assert result.rows[0].tensor_index == 'a\\n"b"<c>\\x1b[2J\\u202e:output:0'
    assert printable('\udcff') == '\\udcff'


def test_kinds_are_recognised_or_told(folders, tmp_path):
    left, right = folders
    npu(left, 1, 'conv', [np.ones(3)])
    golden(right, 1, 'conv', np.ones(3))
    assert len(run(left, right).rows) == 1
    for arguments, complaint in [
            ((right, left), 'swap them'), ((tmp_path / 'none', right), 'none: No such file'),
            ((left, tmp_path / 'empty'), 'neither NPU dump files .* nor golden tensors')]:
        (tmp_path / 'empty').mkdir(exist_ok=True)
        with pytest.raises(UserError, match=complaint):
            run(*arguments)
    os.rename(str(left / f'Conv2D.conv.1.3.{TIME + 1}'),
              str(left / f'Opdebug.Node_OpDebug.1.3.{TIME + 1}'))
    with pytest.raises(UserError, match='has overflow records only'):
        run(left, right)


def test_two_folders_of_any_name_are_enough(network, tmp_path):
    os.rename(str(network[0]), str(tmp_path / 'copied from device'))
    assert len(run(tmp_path / 'copied from device', network[1]).rows) == LAYERS


def test_the_first_bad_layer_is_found_and_blamed(network):
    left, right, _ = network
    result = run(left, right)
    names = [f'fused/conv{number}' for number in range(LAYERS)]
    suspect = compare.first_bad(result.rows, chain(names), 0.98)
    assert suspect.row is result.rows[30] and suspect.inputs == [result.rows[29]]
    assert suspect.verdict == 'breaks here'
    assert compare.first_bad(result.rows).verdict == 'unknown'
    assert compare.first_bad(result.rows[:30]) is None
    by_golden = chain([f'Genc/Conv_{number}/Relu' for number in range(LAYERS)])
    by_golden['Genc/Conv_30/Relu'] = [('Genc/Conv_29/Relu', 1)]
    assert compare.first_bad(result.rows, by_golden) == suspect


def rows_of(*cosines):
    """Rows of operators op0, op1, ... with these cosines."""
    return [Row(index=number, op_type='Add', npu_dump=f'op{number}', data_type='float32',
                ground_truth=f'op{number}:0', golden_data_type='float32',
                tensor_index=f'op{number}:output:0', shape='[2]',
                metrics=Metrics(cosine_similarity=cosine))
            for number, cosine in enumerate(cosines)]


def test_a_suspect_inherits_what_comes_out_of_order():
    # op1 ran first by the clock, op2 feeds it.
    suspect = compare.first_bad(rows_of(1, .5, .4), {'op1': [('op0', 0), ('op2', 0)]})
    assert suspect.row.npu_dump == 'op1' and suspect.verdict == 'inherits'
    assert [row.npu_dump for row in suspect.inputs] == ['op0', 'op2']


def test_what_was_not_compared_is_looked_through():
    edges = {'op1': [('TransData', 0), ('Const', 0)], 'TransData': [('Cast', 0)],
             'Cast': [('op0', 0), ('TransData', 0), ('op1', 0)]}
    suspect = compare.first_bad(rows_of(1, .5), edges)
    assert suspect.inputs == rows_of(1) and suspect.verdict == 'breaks here'
    assert compare.first_bad(rows_of(math.nan, .5), edges).verdict == 'unknown'
    assert compare.first_bad(rows_of(1, .5), {'op1': [('Const', 0)]}).verdict == 'unknown'


def test_compared_inputs_of_the_operator_tell_without_a_graph():
    for cosine, verdict in ((1, 'breaks here'), (.9, 'inherits'), (math.nan, 'unknown')):
        rows = rows_of(1, 1, .5)
        rows[1] = rows[1]._replace(metrics=Metrics(cosine_similarity=cosine), npu_dump='op2',
                                   tensor_index='op2:input:0')
        suspect = compare.first_bad(rows)
        assert (suspect.row, suspect.inputs, suspect.verdict) == (rows[2], [rows[1]], verdict)
        assert compare.first_bad(rows, {'else': []}) == suspect
    # Nothing but an input is bad.
    rows = [rows[1]._replace(metrics=Metrics(cosine_similarity=.9))]
    assert compare.first_bad(rows).row is rows[0] and compare.first_bad(rows).verdict == 'inherits'


def test_an_overflow_is_a_suspect_though_it_has_no_cosine():
    rows = rows_of(1, math.nan, .5)
    rows[1] = rows[1]._replace(metrics=Metrics(standard_deviation='(NaN;NaN),(0.000;1.000)'))
    assert compare.first_bad(rows).row is rows[1]
    rows[1] = rows[1]._replace(metrics=Metrics(standard_deviation='(NaN;NaN),(inf;NaN)'))
    assert compare.first_bad(rows).row is rows[1]


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize('x, y, bad, reason', [
    ([-65504.] * 6, [INF, 2, 3, 4, 5, 6], True, 'NaN or infinity in the right tensor'),
    ([NAN] * 6, [INF, 2, 3, 4, 5, 6], True, 'but not at the same places'),
    ([-INF, 2, 3], [INF, 2, 3], True, 'but not at the same places'),
    ([2, INF, 3], [INF, 2, 3], True, 'but not at the same places'),
    ([INF, NAN, 3, 4], [INF, NAN, 3, 4], False, 'compared what is finite'),
    ([INF, NAN, 3, 4], [INF, NAN, 3, -4], True, 'compared what is finite'),
    ([INF, NAN, -3], [INF, NAN, 3], True, 'compared what is finite'),    # one value is left
    ([INF, 0, 0], [INF, 1, 2], True, 'the left tensor is all zeros'),
    ([INF + 1j, 2], [INF + 1j, 2], False, 'compared what is finite')])
def test_golden_infinities_must_be_there_and_the_rest_right(folders, x, y, bad, reason):
    npu(folders[0], 1, 'a', [np.array(x, np.complex64 if 'j' in str(x) else np.float32)])
    golden(folders[1], 1, 'a', np.array(y))
    row, = run(*folders).rows
    assert (is_bad(row, .98), row.is_compared) == (bad, True) and reason in row.reason


def test_where_nothing_is_finite_and_all_the_same_nothing_is_compared(folders):
    npu(folders[0], 1, 'a', [np.array([INF, NAN, -INF], np.float32)])
    golden(folders[1], 1, 'a', np.array([INF, NAN, -INF]))
    result = run(*folders)
    assert not is_bad(result.rows[0], .98) and results.is_harmless(result.rows[0])
    assert results.count(result.all_rows) == (0, 1, 0)


def test_csv_keeps_the_rows(network, tmp_path):
    result = run(*network[:2])
    result = result._replace(unmatched_left=['a:output:0'], unmatched_right=['b:output:1', 'c:*'])
    path = str(tmp_path / 'result.csv')
    results.write_csv(path, result)
    with open(path) as stream:
        lines = list(csv.reader(stream))
    assert lines[0] == [
        'Index', 'OpType', 'NPUDump', 'DataType', 'GroundTruth', 'DataType', 'TensorIndex', 'Shape',
        'CosineSimilarity', 'MaxAbsoluteError', 'AccumulatedRelativeError',
        'RelativeEuclideanDistance', 'KullbackLeiblerDivergence', 'StandardDeviation',
        'MeanAbsoluteError', 'RootMeanSquareError', 'MaxRelativeError', 'MeanRelativeError',
        'CompareFailReason']
    assert lines[1][8] == f'{result.rows[0].cosine:.6f}'
    rows = results.read_csv(path)
    for row, expected in zip(rows, result.rows):
        assert row._replace(metrics=None) == expected._replace(metrics=None)
        for value, written in zip(row.metrics, expected.metrics):
            assert value == (pytest.approx(written, abs=6e-7) if isinstance(written, float)
                             else written)
    assert [(row.index, row.npu_dump, row.ground_truth, row.tensor_index)
            for row in rows[LAYERS:]] == [
                (50, 'a', '*', 'a:output:0'), (51, '*', 'b', 'b:output:1'), (52, '*', 'c', 'c:*')]
    assert compare.first_bad(rows).row is rows[30]


def test_csv_of_what_cannot_be_compared(tmp_path):
    rows = rows_of(math.nan, -math.inf)
    results.write_csv(str(tmp_path / 'x.csv'), results.Result(rows, [], []))
    assert 'NaN,NaN' in (tmp_path / 'x.csv').read_text()
    assert str(results.read_csv(str(tmp_path / 'x.csv'))) == str(rows)


def test_columns_are_found_by_their_names(tmp_path):
    path = tmp_path / 'official.csv'
    path.write_text(
        'Index,OpSequence,OpType,NPUDump,DataType,Address,GroundTruth,DataType,TensorIndex,Shape,'
        'OverFlow,CosineSimilarity,MaxAbsoluteError,RootMeanSquareError,CompareFailReason\n'
        '7,12,Conv2D,conv1,float16,0x12,Genc/Conv,float32,conv1:output:0,"[1,2]",NO,0.970000,'
        '0.5,NaN,\n\n8,*,*,*,NaN,NaN,b,float32,*,NaN,NaN,NaN,NaN,,No NPU dump\n')
    row, unmatched = results.read_csv(str(path))
    assert (row.op_type, row.npu_dump, row.ground_truth) == ('Conv2D', 'conv1', 'Genc/Conv')
    assert (row.index, row.data_type, row.golden_data_type) == (7, 'float16', 'float32')
    assert (row.shape, row.cosine, row.metrics.max_absolute_error) == ('[1,2]', .97, .5)
    assert math.isnan(row.metrics.root_mean_square_error)
    assert math.isnan(row.metrics.mean_absolute_error)
    assert row.metrics.standard_deviation == 'NaN' and row.reason == ''
    assert unmatched.ground_truth == 'b' and unmatched.reason == 'No NPU dump'
    assert compare.first_bad([row, unmatched]).row is row


def test_old_columns_and_a_byte_order_mark(tmp_path):
    path = tmp_path / 'old.csv'
    path.write_text('\ufeffIndex,LeftOp,RightOp,TensorIndex,CosineSimilarity,StandardDeviation\r\n'
                    '0,conv1,Genc/Conv,conv1:output:0,1.000000,"(0;1),(0;1)"\r\n', encoding='utf-8')
    row, = results.read_csv(str(path))
    assert (row.npu_dump, row.ground_truth, row.op_type) == ('conv1', 'Genc/Conv', '')
    assert (row.cosine, row.metrics.standard_deviation) == (1, '(0;1),(0;1)')


@pytest.mark.parametrize('content, complaint', [
    (None, ': No such file'), (b'', ': no column TensorIndex'), (b'\xff\xfe', ': not text'),
    (b'a,b\n', ': no column TensorIndex'), (b'TensorIndex\n', ': no column CosineSimilarity'),
    (b'TensorIndex,CosineSimilarity\na\n', ':2: 1 columns, expected 2'),
    (b'TensorIndex,CosineSimilarity\na,1\nb,x\x1by\n',
     r':3: cosine_similarity: not a number: x\x1by'),
    (b'Index,TensorIndex,CosineSimilarity\nx,a,1\n', ':2: index: not a number: x')])
def test_faulty_csv_is_located(tmp_path, content, complaint):
    path = tmp_path / 'x.csv'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        results.read_csv(str(path))
    assert str(error.value).startswith(str(path) + complaint) and '\n' not in str(error.value)


@quick
@given(st.one_of(
    st.binary(max_size=300),
    st.text('0,"\n\0\raNIT.-e', max_size=100).map(
        lambda text: f'Index,TensorIndex,CosineSimilarity\n{text}'.encode())))
def test_any_csv_is_read_or_refused(tmp_path, content):
    path = tmp_path / 'x.csv'
    path.write_bytes(content)
    try:
        rows = results.read_csv(str(path))
    except UserError as error:
        assert '\n' not in str(error)
    else:
        assert all(isinstance(row.cosine, float) for row in rows)
