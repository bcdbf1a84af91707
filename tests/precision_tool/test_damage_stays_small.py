"""Damage inside a file costs that row, operator, pass or unit only; what it hides is named."""

import os
import shutil
import struct
import sys

import device_dump
import numpy as np
import pytest
import workspaces

from precision_tool.overflow import read_record
from pylib import UserError

CLI = 'precision_tool/cli.py'
TIME = 1704067200000000
VALUES = np.arange(1, 11, dtype=np.float32)
HASH = '12345678901234567890'
ROWS = b'Output,0,40,DT_FLOAT,ND,%s,9,0,4.5\n'


@pytest.fixture
def answer(run):
    return workspaces.json_answers(run)


def npu(workspace, name, number, values=VALUES):
    path = os.path.join(workspace.npu_dump(), f'Add.{name}.{number}.2.{TIME + number}')
    device_dump.write(path, [(values.tobytes(), {'data_type': 1, 'shape': [len(values)]})],
                      op_name=name.encode())
    return path


def golden(workspace, name, values=VALUES):
    np.save(os.path.join(workspace.tf_dump, f'{name}.0.{TIME}.npy'), values)


@pytest.fixture
def workspace(tmp_path):
    """Operators one and two, and their golden tensors."""
    workspace = workspaces.new_workspace(tmp_path)
    for number, name in enumerate(('one', 'two'), 1):
        npu(workspace, name, number)
        golden(workspace, name)
    return workspace


def table(data, title):
    return next((each['rows'] for each in data['tables'] if title in each['title']), [])


# A row for the hashed file, of which nothing can be made.
@pytest.mark.parametrize('row', [
    None, b'', HASH.encode(), HASH.encode() + b',Add.bro', HASH.encode() + b',Add.\xff.3.2.1',
    b'\0' + HASH.encode() + b',Add.broken.3.2.1', b'"' + HASH.encode() + b',Add.broken.3.2.1',
    HASH.encode() + b',"' + b'x' * 200000], ids=lambda row: repr(row)[:30])
@pytest.mark.parametrize('command', ['ac', 'vc', 'data'])
def test_a_file_without_its_name_does_not_vanish(answer, workspace, row, command):
    os.rename(npu(workspace, 'broken', 3, -VALUES), os.path.join(workspace.npu_dump(), HASH))
    golden(workspace, 'broken')
    os.rename(npu(workspace, 'three', 4), os.path.join(workspace.npu_dump(), '777'))
    golden(workspace, 'three')
    if row is None:
        os.unlink(os.path.join(workspace.npu_dump(), '777'))
    else:
        with open(os.path.join(workspace.npu_dump(), 'mapping.csv'), 'wb') as stream:
            stream.write(row + b'\n777,Add.three.4.2.%d\r\n' % (TIME + 4))
    status, data = answer(command)
    assert any(HASH in fault for fault in data['faults'])
    assert command == 'data' or status == 1
    if row is not None and command == 'data':
        assert table(data, '')[1]['count'] == 3    # the row behind it is read
    if command == 'ac':
        assert 'nothing wrong' not in data['lines'][-1]


@pytest.mark.parametrize('content, complaint', [
    (b'', 'no statistics in it'), (b'Input/Output,Index,Data Size,Data Type\n', 'no statistics'),
    (ROWS % b'10' + b'\xff' + ROWS % b'10' + ROWS % b'10', 'csv:2: not of a statistics dump'),
    (ROWS % b'10' + b'"' + ROWS % b'10' + ROWS % b'10', 'csv:2: not of a statistics dump')])
def test_statistics_are_read_row_by_row(answer, workspace, content, complaint):
    path = os.path.join(workspace.npu_dump(), f'Add.stats.9.2.{TIME}.csv')
    with open(path, 'wb') as stream:
        stream.write(content)
    _, data = answer('ni', 'stats')
    fault, = data['faults']
    assert complaint in fault and os.path.basename(path) in fault
    assert len(table(data, 'NPU dump')) == content.count(ROWS % b'10') - (complaint[:3] == 'csv')


def test_unknown_dimensions_of_statistics_are_shown(answer, workspace):
    with open(os.path.join(workspace.npu_dump(), f'Add.stats.9.2.{TIME}.csv'), 'wb') as stream:
        stream.write(ROWS % b'-1x5' + ROWS % b'-')
    rows = table(answer('ni', 'stats')[1], 'NPU dump')
    assert [row['shape'] for row in rows] == ['-1x5', 'scalar']


GRAPH = '''{"name": "m", "graph": [{"name": "g", "op": [
 {"name": "one", "type": "Add", "attr": [{"key": "odd", "value": {"i": "0x10"}},
                                         {"key": "pass_name", "value": {"s": "MyPass"}},
                                         {"key": "low", "value": {"f": "-nan"}}]},
 {"name": "cut", "type": "Add", "input": ["one"]},
 7,
 {"name": "two", "type": "Add", "id": "5", "input": ["one:0"], "output_desc": [
  {"dtype": "DT_FLOAT", "attr": [{"key": "odd", "value": {"list": []}}]}]}]},
 null, 3, {"name": "h", "op": [{"name": "last", "type": "Mul"}]}]}'''


def test_an_odd_operator_costs_no_other_one(answer, workspace):
    with open(os.path.join(workspace.npu_graph(), 'ge_proto_00001_Build.txt.json'), 'w') as stream:
        stream.write(GRAPH)
    _, data = answer('ls', '-n', '')
    assert {row['type']: row['count'] for row in table(data, 'by type')} == {'Add': 2, 'Mul': 1}
    assert len(data['faults']) == 5 and all('ge_proto_00001' in each for each in data['faults'])
    for place in ("operator 0: attribute 'odd': ", "operator 1: input 'one'",
                  "operator 2: expected an object", "operator 3: attribute 'odd': ",
                  "left out a graph: expected an object, found int"):
        assert sum(place in each for each in data['faults']) == 1, place
    assert [row['name'] for row in table(answer('ls', '-f', 'MyPass')[1], '')] == ['one']
    _, data = answer('ni', 'two')
    assert table(data, 'inputs') == [] and '  id         5' in data['lines']
    attributes = {row['name']: row['value'] for row in table(answer('ni', 'one', '-a')[1],
                                                             'attributes')}
    assert attributes == {'pass_name': 'MyPass', 'low': 'nan'}
    status, data = answer('ac')
    assert status == 1 and 'all 2 tensors compared' in '\n'.join(data['lines'])


def fusion(number, more=''):
    return ('{"graph_fusion": {"My Pass": {"effect_times": "3"}' + more
            + f'}}, "graphId": "{number}"}}')


@pytest.mark.parametrize('text, passes, faults', [
    (f'[{fusion(1)}, null, {fusion(2)}]', 2, 1),
    (fusion(1, ', "B": null, "C": {"effect_times": "x"}, "D": {"effect_times": 1}'), 2, 2),
    ('{"graph_fusion": [], "ub_fusion": {"U": {"effect_times": 1}}}', 1, 1),
    ('{"session_and_graph_id_0_0": 3, "session_and_graph_id_0_1": ' + fusion(1) + '}', 1, 1),
    (fusion(1) + fusion(2) + fusion(3)[:40], 2, 1)])
def test_a_broken_pass_hides_no_other(answer, workspace, text, passes, faults):
    os.makedirs(workspace.fusion)
    with open(os.path.join(workspace.fusion, 'fusion_result.json'), 'w') as stream:
        stream.write(text)
    status, data = answer('ac')
    assert status == 1 and len(data['faults']) == faults
    assert len(table(data, 'fusion passes')) == passes


def test_the_pass_to_look_at_is_quoted(run, workspace):
    os.makedirs(workspace.fusion)
    with open(os.path.join(workspace.fusion, 'fusion_result.json'), 'w') as stream:
        stream.write('{"graph_fusion": {"A b; true": {"effect_times": 1}}}')
    with open(os.path.join(workspace.npu_graph(), 'ge_proto_00001_Build.txt'), 'w') as stream:
        stream.write('graph { name: "g" op { name: "one" type: "Add" '
                     'attr { key: "pass_name" value { s: "A b; true" } } } }')
    assert "next: python -m precision_tool ls -f 'A b; true'\n" in run(CLI, 'ac').out


def unit(status):
    return f'{{"model_id": 1, "stream_id": 2, "task_id": 3, "status": {status}}}'


CORE = f'{{"AI Core": {unit(32)}}}'


@pytest.mark.parametrize('other', ['null', '[]', '{}', '"x"', unit('"x"')])
def test_a_broken_unit_hides_no_overflow(answer, workspace, other):
    os.makedirs(workspace.overflow_dump)
    path = os.path.join(workspace.overflow_dump, f'Opdebug.Node_OpDebug.3.2.{TIME}.output.0.json')
    with open(path, 'w') as stream:
        stream.write(f'{{"DHA Atomic Add": {other}, "L2 Atomic Add": {other}, '
                     f'"AI Core": {unit(32)}}}')
    _, data = answer('npu_overflow')
    assert [(row['unit'], row['status']) for row in table(data, 'overflows')] == [
        ('AI Core', '0x20')]
    assert len(data['faults']) == 1 and 'no overflow record' in data['faults'][0]
    with pytest.raises(UserError):
        read_record(path)


def old_record(status):
    """2048 bytes, of which the AI Core reports `status` in task 3 of stream 2."""
    data = bytearray(2048)
    struct.pack_into('<3Q', data, 256, 1, 2, 3)
    struct.pack_into('<3Q', data, 1024, 0, 0, status)
    return bytes(data)


def test_a_broken_tensor_of_a_record_hides_no_other(tmp_path):
    path = str(tmp_path / f'Opdebug.Node_OpDebug.3.2.{TIME}')
    described = {'data_type': 4}
    device_dump.write(path, [(data, dict(described, shape=[len(data)]))
                             for data in (b'cut', old_record(0x20))])
    faults = []
    record, = read_record(path, faults)
    assert record.status == 0x20 and len(faults) == 1 and 'output 0: 3 bytes' in faults[0]


@pytest.mark.parametrize('size', [0x7b, 0x17b, 0x207b, 0x7b20])
def test_a_header_may_be_as_long_as_json_begins(tmp_path, size):
    """In front of a dump is the length of its header; 0x7b is '{', 0x20 a blank."""
    path = str(tmp_path / f'Opdebug.Node_OpDebug.3.2.{TIME}')
    for length in range(size):
        device_dump.write(path, [(old_record(0x20), {'data_type': 4, 'shape': [2048]})],
                          op_name=b'n' * (size - 40 + length % 40))
        with open(path, 'rb') as stream:
            if struct.unpack('<Q', stream.read(8))[0] == size:
                break
    assert length < 40
    record, = read_record(path)
    assert (record.task_id, record.status) == (3, 0x20)


def test_json_of_other_programs(tmp_path):
    path = str(tmp_path / f'Opdebug.Node_OpDebug.3.2.{TIME}.output.0.json')
    for data, complaint in ((b'\xef\xbb\xbf' + CORE.encode(), ''),
                            (CORE.encode('utf-16'), 'not JSON'), (b'', 'not JSON'),
                            (b'[1]', 'no overflow record (expected AI Core'),
                            (b'{"magic": 1, "acc_list": [1]}', 'expected an object')):
        with open(path, 'wb') as stream:
            stream.write(data)
        if not complaint:
            assert read_record(path)[0].status == 32
            continue
        with pytest.raises(UserError) as error:
            read_record(path)
        assert complaint in str(error.value)


@pytest.mark.parametrize('command', [['dc'], ['pt'], ['cp', f'one.0.{TIME}.npy']])
@pytest.mark.parametrize('name, data', [
    (f'Opdebug.Node_OpDebug.3.2.{TIME}.output.0.json', CORE.encode()),
    (f'Opdebug.Node_OpDebug.3.2.{TIME}', old_record(8))])
def test_records_without_tensors_lead_to_what_reads_them(run, workspace, tmp_path, command, name,
                                                         data):
    (tmp_path / name).write_bytes(data)
    done = run(CLI, *command, name)
    assert done.status == 2 and done.err.count('\n') == 1
    assert f'error: {name}: ' in done.err and 'the command npu_overflow' in done.err


def test_a_converted_record_leads_to_what_reads_it(run, workspace, tmp_path):
    name = f'Opdebug.Node_OpDebug.3.2.{TIME}'
    device_dump.write(tmp_path / name, [(old_record(8), {'data_type': 4, 'shape': [2048]})])
    done = run(CLI, '--root', 'pre cision', 'dc', name)
    assert done.status == 0 and 'uint8' in done.out
    assert "next: python -m precision_tool --root 'pre cision' npu_overflow\n" in done.out
    assert 'next' not in run(CLI, 'dc', 'one').out


@pytest.mark.parametrize('factor, shape', [(3, (10,)), (.1, (10,)), (-1, ())])
@pytest.mark.parametrize('command', ['ac', 'vc'])
def test_a_missing_factor_is_not_called_healthy(answer, workspace, factor, shape, command):
    """Of it, and of any scalar, the cosine is 1."""
    values = VALUES if shape else VALUES[:1]
    npu(workspace, 'scaled', 3, values * np.float32(factor))
    golden(workspace, 'scaled', values)
    status, data = answer(command)
    assert status == 1 and 'scaled:output:0: relative Euclidean distance' in '\n'.join(
        data['lines'])
    assert '0 below a cosine' in data['lines'][0] or 'all 3 tensors' in data['lines'][0]


@pytest.mark.parametrize('values, right', [
    (VALUES * np.float32(1.2), VALUES), (VALUES * np.float32(1e-6), VALUES * np.float32(3e-6))])
def test_small_differences_of_size_are_healthy(answer, workspace, values, right):
    npu(workspace, 'scaled', 3, values)
    golden(workspace, 'scaled', right)
    status, data = answer('ac')
    assert (status, data['lines'][-1]) == (0, 'verdict: nothing wrong was found')


def test_of_another_size_is_said_only_where_nothing_is_worse(answer, workspace):
    for number, (name, factor) in enumerate((('scaled', 3), ('broken', -1)), 3):
        npu(workspace, name, number, VALUES * np.float32(factor))
        golden(workspace, name)
    for words in ['ac'], ['vc']:
        text = '\n'.join(answer(*words)[1]['lines'])
        assert 'broken is the first bad one' in text and 'Euclidean' not in text
    assert answer('vcs', '--cosine', '-1')[0] == 0


def test_a_cut_table_is_not_listed(run, workspace):
    assert run(CLI, 'vc').status == 0
    folder, = os.listdir(workspace.vector_compare)
    path = os.path.join(workspace.vector_compare, folder, f'result_{folder}.csv')
    with open(path) as stream:
        lines = stream.readlines()
    with open(path, 'w') as stream:
        stream.writelines(lines[:-1])
    for words in ['vcs'], ['vcs', '-f', path]:
        done = run(CLI, *words)
        assert done.status == 2 and 'not the 2 pairs that were compared' in done.err


def test_names_that_a_terminal_lacks_signs_for(run, workspace, monkeypatch):
    npu(workspace, 'ü中', 3, -VALUES)
    golden(workspace, 'ü中')
    real = sys.stdout
    if not hasattr(real, 'reconfigure'):
        pytest.skip('standard output is a stand-in')
    real.reconfigure(encoding='ascii', errors='strict')
    try:
        done = run(CLI, 'ac')
    finally:
        real.reconfigure(encoding='utf-8', errors='strict')
    assert done.status == 1 and '\\xfc\\u4e2d is the first bad one' in done.out


@pytest.mark.parametrize('words, complaint', [
    (['npu_dump', 'no-such-program', 'x'], 'error: no-such-program: '),
    (['npu_overflow', '--', 'true', 'x'], 'nothing overflowed, or the command did not')])
def test_commands_that_lead_to_nothing(run, tmp_path, words, complaint):
    done = run(CLI, *words)
    assert done.status == 2 and complaint in done.err and done.err.count('\n') == 1


@pytest.mark.parametrize('has_golden, status', [(True, 1), (False, 0)])
def test_statistics_where_tensors_should_be_are_a_finding(answer, workspace, has_golden, status):
    with open(os.path.join(workspace.npu_dump(), f'Add.stats.9.2.{TIME}.csv'), 'wb') as stream:
        stream.write(ROWS % b'10')
    if has_golden:
        golden(workspace, 'stats')
    found, data = answer('ac')
    assert found == status and len(data['faults']) == status and len(data['skipped']) == 1 - status
    line, = data['faults'] + data['skipped']
    assert 'has statistics only' in line and ('with nothing: ' in line) == has_golden


def test_statistics_on_the_right_are_a_finding_too(answer, workspace, tmp_path):
    right = tmp_path / 'right'
    right.mkdir()
    device_dump.write(right / f'Add.one.1.2.{TIME}', [(VALUES.tobytes(), {
        'data_type': 1, 'shape': [10]})], op_name=b'one')
    (right / f'Add.two.2.2.{TIME}.csv').write_bytes(ROWS % b'10')
    status, data = answer('vc', '-rt', str(right))
    assert status == 1 and 'has statistics only' in data['faults'][0]


@pytest.mark.parametrize('command', ['ac', 'vc', 'vcs'])
def test_what_was_compared_in_part_is_told(answer, workspace, command):
    path = npu(workspace, 'two', 2)
    device_dump.write(path, [(VALUES[:4].tobytes(), {'data_type': 1, 'shape': [10]})],
                      op_name=b'two')
    if command == 'vcs':
        answer('vc')
    status, data = answer(command)
    line = '1 of them with reservations, such as two:output:0: compared 4 of 10 values: '
    assert status == 0 and sum(each.startswith(line) for each in data['lines']) == 1


def test_an_empty_run_is_named(answer, workspace):
    """The newest of several runs counts."""
    os.makedirs(os.path.join(workspace.npu_dump(), '20240101000000'))
    status, data = answer('ac')
    assert status == 1
    assert any(fault.startswith('precision_data/npu/debug_0/dump/20240101000000: no NPU dump')
               for fault in data['faults'])


@pytest.mark.parametrize('command', ['ac', 'vc'])
def test_a_stray_dump_among_golden_tensors_hides_no_operator(answer, workspace, command):
    path = npu(workspace, 'one', 1)
    shutil.copy(path, workspace.tf_dump)
    npu(workspace, 'two', 2, -VALUES)
    status, data = answer(command)
    text = '\n'.join(data['lines'])
    assert status == 1 and '2 pairs of tensors compared' in text and 'two:output:0' in text
    assert data['faults'] == ['precision_data/tf/dump: among its golden tensors are 1 NPU dump '
                              'files, which were passed over; keep them in another folder']


def test_golden_tensors_among_dumps_are_named(answer, workspace):
    shutil.copy(os.path.join(workspace.tf_dump, f'one.0.{TIME}.npy'), workspace.npu_dump())
    status, data = answer('ac')
    assert status == 1 and 'all 2 tensors compared' in data['lines'][0]
    assert 'among its NPU dump files are 1 golden tensors' in data['faults'][0]


def test_dumps_beside_a_run_are_named(answer, workspace):
    run = os.path.join(workspace.npu_dump(), '20240101000000')
    os.makedirs(run)
    os.rename(npu(workspace, 'two', 2), os.path.join(run, f'Add.two.2.2.{TIME + 2}'))
    status, data = answer('ac')
    assert status == 1 and 'all 1 tensors compared' in data['lines'][0]
    assert any('1 dump files beside the folders of runs' in fault for fault in data['faults'])
