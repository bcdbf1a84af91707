"""Damaged, odd and stale files among good ones: each is named, and the rest goes on."""

import csv
import json
import os
import shutil
import struct
import sys

import device_dump
import numpy as np
import pytest
import workspaces

CLI = 'precision_tool/cli.py'
TIME = 1704067200000000
VALUES = np.arange(1, 11, dtype=np.float32)
FLOATS = {'data_type': 1, 'shape': [10]}
GRAPH = """graph { name: "ge_default" op { name: "one" type: "Add" output_desc { dtype: DT_FLOAT } }
op { name: "two" type: "Add" input: "one:0" output_desc { dtype: DT_FLOAT
attr { key: "x" value { i: 1 } } } attr { key: "pass_name" value { s: "MyPass" } } } }"""


GOOD = ((VALUES.tobytes(), FLOATS),)


def npu(folder, name, number, outputs=GOOD, inputs=(), op_type='Add'):
    path = os.path.join(str(folder), f'{op_type}.{name}.{number}.2.{TIME + number}')
    device_dump.write(path, outputs, inputs, name.encode())
    return path


@pytest.fixture
def answer(run):
    return workspaces.json_answers(run)


@pytest.fixture
def workspace(tmp_path):
    """Operators one and two, their golden tensors, and a graph; all is well."""
    workspace = workspaces.new_workspace(tmp_path)
    for number, name in enumerate(('one', 'two'), 1):
        npu(workspace.npu_dump(), name, number)
        np.save(os.path.join(workspace.tf_dump, f'{name}.0.{TIME}.npy'), VALUES)
    with open(os.path.join(workspace.npu_graph(), 'ge_proto_00001_Build.txt'), 'w') as stream:
        stream.write(GRAPH)
    return workspace


def text_of(data):
    return '\n'.join(data['lines'])


def test_a_good_run_is_healthy(answer, workspace):
    status, data = answer('ac')
    assert (status, data['faults'], data['skipped']) == (0, [], [])
    assert '2 pairs of tensors compared, 0 not comparable, 0 outputs without' in text_of(data)
    assert 'npu/debug_0/dump with tf/dump, as of 20' in text_of(data)
    assert data['lines'][-1] == 'verdict: nothing wrong was found'


@pytest.mark.parametrize('command', ['ac', 'vc'])
def test_other_names_are_not_called_healthy(answer, workspace, command):
    for name in os.listdir(workspace.tf_dump):
        os.rename(os.path.join(workspace.tf_dump, name),
                  os.path.join(workspace.tf_dump, f'other_{name}'))
    status, data = answer(command)
    assert status == 1 and 'nothing wrong' not in text_of(data)
    assert '0 pairs of tensors compared, 0 not comparable, 4 outputs without' in text_of(data)
    assert 'nothing was compared' in text_of(data)


def break_operator(workspace, name='two'):
    path = next(os.path.join(workspace.npu_dump(), each)
                for each in os.listdir(workspace.npu_dump()) if f'.{name}.' in each)
    device_dump.write(path, [((-VALUES).tobytes(), FLOATS)], op_name=name.encode())


def test_a_changed_dump_is_compared_anew(answer, workspace):
    assert answer('ac')[0] == 0
    break_operator(workspace)
    status, data = answer('ac')
    assert status == 1 and 'two breaks' in text_of(data)
    assert len(os.listdir(workspace.vector_compare)) == 2
    answer('ac')
    assert len(os.listdir(workspace.vector_compare)) == 2    # nothing has changed


@pytest.mark.parametrize('gone', ['npu_dump', 'tf_dump'])
@pytest.mark.parametrize('remove', [shutil.rmtree, lambda folder: [
    os.unlink(os.path.join(folder, name)) for name in os.listdir(folder)]])
def test_a_comparison_of_what_is_gone_is_not_called_healthy(answer, workspace, gone, remove):
    assert answer('ac')[0] == 0
    folder = workspace.npu_dump() if gone == 'npu_dump' else workspace.tf_dump
    remove(folder)
    folder = os.path.relpath(folder, os.path.dirname(workspace.root))
    for words in ['ac'], ['ac', '-c']:
        status, data = answer(*words)
        assert status == 1 and 'nothing wrong' not in text_of(data)
        assert f'1. what was compared has changed or is gone, so this comparison tells little: ' \
            f'{folder}' in text_of(data)
        assert (f'could not compare anew: {folder} missing or empty' in data['faults']) == (
            '-c' in words)


def test_ac_c_without_any_comparison_says_why(answer, workspace):
    shutil.rmtree(workspace.tf_dump)
    status, data = answer('ac', '-c')
    assert status == 1 and 'could not compare anew' in data['faults'][0]


@pytest.mark.parametrize('lines', [None, 1, 2])
def test_a_damaged_table_hides_no_operator(answer, workspace, lines):
    """None: it is something else; else what is left of it."""
    break_operator(workspace)
    answer('ac')
    folder, = os.listdir(workspace.vector_compare)
    path = os.path.join(workspace.vector_compare, folder, f'result_{folder}.csv')
    with open(path) as stream:
        text = ''.join(stream.readlines()[:lines]) if lines else 'foo\nbar'

    def damage():
        with open(path, 'w') as stream:
            stream.write(text)
    damage()
    status, data = answer('ac')
    assert status == 1 and 'two breaks' in text_of(data)
    for name in os.listdir(workspace.vector_compare):
        if name != folder:
            shutil.rmtree(os.path.join(workspace.vector_compare, name))
    shutil.rmtree(workspace.tf_dump)
    status, data = answer('ac')
    assert status == 1 and '1. the comparison is not readable: ' in text_of(data)
    assert 'next: python -m precision_tool ac -c' in text_of(data)


def without(name):
    return lambda record: record.pop(name)


def but(name, value):
    return lambda record: record.update({name: value})


@pytest.mark.parametrize('change', [
    None, without('tool'), but('tool', 'older'), without('graphs'), but('extra', 1),
    but('faults', 5), but('faults', [5]), but('left', 'npu/debug_0/dump'), but('compared', None),
    but('threshold', '0.98'), lambda record: record['left'].update(folder=['npu/debug_0/dump']),
    lambda record: record['right'].update(digest='other'),
    lambda record: record['right'].update(folder='elsewhere'), but('graph', 'ge')])
def test_a_table_of_another_version_or_of_other_sources_is_made_anew(answer, workspace, change):
    """The table says what is not true, so that one can see whether it was read."""
    assert answer('ac')[0] == 0
    old, = os.listdir(workspace.vector_compare)
    # Of a clock that was ahead.
    name = os.path.join(workspace.vector_compare, '29990101000000')
    os.rename(os.path.join(workspace.vector_compare, old), name)
    for end in '.csv', '.json':
        os.rename(os.path.join(name, f'result_{old}{end}'),
                  os.path.join(name, f'result_29990101000000{end}'))
    with open(os.path.join(name, 'result_29990101000000.csv'), 'r+') as stream:
        text = stream.read()
        stream.seek(0)
        stream.write(text.replace(',1.000000,', ',0.100000,', 1))
    record = os.path.join(name, 'result_29990101000000.json')
    if change is None:
        os.unlink(record)
    else:
        assert answer('ac')[0] == 1    # it counts as long as the record is of what is there
        with open(record) as stream:
            value = json.load(stream)
        change(value)
        with open(record, 'w') as stream:
            json.dump(value, stream)
    for _ in range(2):
        status, data = answer('ac')
        assert status == 0, text_of(data)
        assert len(os.listdir(workspace.vector_compare)) == 2    # anew once


def test_what_another_version_compared_is_called_so_where_dumps_are_gone(answer, workspace):
    answer('ac')
    time, = os.listdir(workspace.vector_compare)
    record = os.path.join(workspace.vector_compare, time, f'result_{time}.json')
    with open(record) as stream:
        value = json.load(stream)
    with open(record, 'w') as stream:
        json.dump(dict(value, tool='older'), stream)
    shutil.rmtree(workspace.npu_dump())
    status, data = answer('ac')
    assert status == 1 and ('so this comparison tells little: precision_data/npu/debug_0/dump and '
                            'precision_tool itself') in text_of(data)


def test_other_comparisons_do_not_hide_the_own_one(answer, workspace):
    break_operator(workspace)
    answer('ac')
    status, _ = answer('vc', '-lt', workspace.tf_dump, '-rt', workspace.tf_dump)
    assert status == 0
    status, data = answer('ac')
    assert status == 1 and 'two breaks' in text_of(data)
    # The newest one, of whatever folders, is what `vcs` lists, and it says so.
    status, data = answer('vcs')
    assert status == 0 and 'tf/dump with tf/dump' in data['lines'][0]


def test_a_broken_overflow_record_hides_no_other(answer, workspace):
    os.makedirs(workspace.overflow_dump)
    broken = os.path.join(workspace.overflow_dump, f'Opdebug.Node_OpDebug.1.2.{TIME}')
    with open(broken, 'wb') as stream:
        stream.write(b'garbage')
    states = [0x20, 0, 0, 1 << 40]
    record = struct.pack('<6I', 0x5a5a5a5a, 1, 1, 0, 0, 112) + struct.pack(
        '<14Q', 1, 2, 7, 0, 0, 0, 0x1000, 0x2000, 0, 0, *states)
    npu(workspace.overflow_dump, 'Node_OpDebug', 7, op_type='Opdebug', outputs=[
        (record, {'data_type': 4, 'shape': [len(record)]})])
    npu(workspace.overflow_dump, 'seven', 7)
    status, data = answer('ac')
    table, = data['tables']
    assert status == 1 and table['rows'][0]['operator'] == 'seven'
    assert ('overflowed first: status 0x20 0x0 0x0 0x10000000000 '
            '(the meaning of this status is not public)') in text_of(data)
    assert table['rows'][0]['status'] == '0x20 0x0 0x0 0x10000000000'
    assert 'next: python -m precision_tool npu_overflow' in text_of(data)
    assert [fault.split(': ')[0] for fault in data['faults']] == [
        os.path.relpath(broken, os.path.dirname(workspace.root))]
    status, data = answer('npu_overflow')
    assert status == 1 and data['tables'][1]['rows'][0]['max'] == 10
    assert any('pc_start 0x1000' in line for line in data['lines'])


def test_a_comparison_that_cannot_be_written_hides_no_overflow(answer, workspace):
    os.makedirs(workspace.overflow_dump)
    record = struct.pack('<6I', 0x5a5a5a5a, 0, 1, 0, 0, 88) + struct.pack('<11Q', *[7] * 10, 0x20)
    npu(workspace.overflow_dump, 'Node_OpDebug', 7, op_type='Opdebug', outputs=[
        (record, {'data_type': 4, 'shape': [len(record)]})])
    open(os.path.join(workspace.root, 'temp'), 'w').close()
    status, data = answer('ac')
    assert status == 1 and 'task 7 overflowed first' in text_of(data)
    fault, = data['faults']
    assert 'could not be written' in fault and 'nothing was compared: see below' in text_of(data)


@pytest.mark.parametrize('block, place, status', [
    ('DHA Atomic Add', 512, 0x1), ('L2 Atomic Add', 768, 0x8)])
def test_a_status_of_other_bits_is_shown_as_a_number(answer, workspace, block, place, status):
    """Of an old record that does not tell the task, so that the file's name does."""
    record = bytearray(2048)
    for start in 0, 128, 256:
        struct.pack_into('<6Q', record, start, 1, (1 << 64) - 1, (1 << 64) - 1, 5, 0, 0)
    struct.pack_into('<Q', record, place, status)
    os.makedirs(workspace.overflow_dump)
    npu(workspace.overflow_dump, 'Node_OpDebug', 7, op_type='Opdebug', outputs=[
        (bytes(record), {'data_type': 4, 'shape': [len(record)]})])
    code, data = answer('ac')
    assert code == 1 and (f'an operator task 7 overflowed first: status {status:#x} '
                          '(the meaning of this status is not public)') in text_of(data)
    row = data['tables'][0]['rows'][0]
    assert (row['unit'], row['task'], row['stream']) == (block, 7, 2)
    _, data = answer('npu_overflow')
    assert 'no dump of task 7, stream 2 beside it' in text_of(data)


@pytest.mark.parametrize('version, states', [(0, [0]), (1, [0, 0, 0, 0])])
def test_a_record_without_a_status_is_no_overflow(answer, workspace, version, states):
    os.makedirs(workspace.overflow_dump)
    record = struct.pack('<6I', 0x5a5a5a5a, version, 1, 0, 0, 88) + struct.pack(
        f'<{10 + len(states)}Q', 1, 2, 7, 0, 0, 0, 0x1000, 0x2000, 0, 0, *states)
    npu(workspace.overflow_dump, 'Node_OpDebug', 7, op_type='Opdebug', outputs=[
        (record, {'data_type': 4, 'shape': [len(record)]})])
    status, data = answer('ac')
    assert status == 0 and data['lines'][-1] == 'verdict: nothing wrong was found'


def test_handles_and_null_inputs_are_no_fault(answer, workspace):
    npu(workspace.npu_dump(), 'two', 2, inputs=[
        (struct.pack('<Q', 77), {'data_type': 23, 'shape': []}),
        (b'', dict(FLOATS, size=40, address=0))])
    for command in ('ac', 'vc'):
        status, data = answer(command)
        assert status == 0, text_of(data)
        assert data['faults'] == []
        assert [line.split(': ')[0] for line in data['skipped']] == ['two:input:0', 'two:input:1']
    status, data = answer('dc', workspace.npu_dump())
    assert status == 0
    assert len(data['tables'][0]['rows']) == 3    # the handle too


def test_an_odd_tensor_costs_no_other(answer, workspace):
    odd = {'data_type': 1, 'shape': [1] * 40}
    npu(workspace.npu_dump(), 'three', 3, [(VALUES.tobytes(), FLOATS), (b'1234', odd)])
    with open(os.path.join(workspace.npu_dump(), f'Add.four.4.2.{TIME + 4}'), 'wb') as stream:
        stream.write(b'\xff' * 50)
    for command in ('ac', 'vc'):
        status, data = answer(command)
        assert status == 1 and '2 pairs of tensors compared, 2 not' in text_of(data)
        assert [fault.split(':')[0] for fault in data['faults']] == ['three', 'four']
    status, data = answer('dc', workspace.npu_dump())
    assert status == 1 and len(data['tables'][0]['rows']) == 3 and len(data['faults']) == 2
    status, data = answer('ni', 'three')
    assert [row['max'] for row in data['tables'][0]['rows']] == [10, 'nan']


def test_slices_of_an_operator_are_named(answer, workspace):
    for number, name, threads in ((1, 'one', 1), (2, 'two', 3)):
        path = npu(workspace.npu_dump(), name, number)
        for thread in range(threads):
            shutil.copy(path, f'{path}.7.5.{thread}.0')
        os.unlink(path)
    for command in ['ac'], ['vc'], ['dc', workspace.npu_dump()]:
        status, data = answer(*command)
        fault, = data['faults']
        assert status == 1 and 'Add.two.2.2.' in fault and 'one of 3 slices' in fault


def test_a_cut_row_of_a_mapping_costs_no_operator(answer, workspace):
    long_name = f'Add.{"x" * 260}.3.2.{TIME + 3}'
    os.rename(npu(workspace.npu_dump(), 'three', 3), os.path.join(workspace.npu_dump(), '123'))
    with open(os.path.join(workspace.npu_dump(), 'mapping.csv'), 'w') as stream:
        stream.write(f'123,{long_name}\n456,Add.y')
        stream.write('\n789\n')
    for command in (['ac'], ['vc'], ['dc', workspace.npu_dump()], ['data'], ['ls', 'dump']):
        status, data = answer(*command)
        assert len(data['faults']) == 1 and 'mapping.csv:3: ' in data['faults'][0], command
    _, data = answer('dc', workspace.npu_dump())
    assert len(data['tables'][0]['rows']) == 3


def test_a_broken_graph_hides_no_other(answer, workspace):
    shutil.copy(os.path.join(workspace.npu_graph(), 'ge_proto_00001_Build.txt'),
                os.path.join(workspace.npu_graph(), 'ge_proto_00003_Build.txt'))
    with open(os.path.join(workspace.npu_graph(), 'ge_proto_00002_Build.txt'), 'w') as stream:
        stream.write('{"graph": 3')
    for command in (['ac'], ['vc'], ['ls'], ['ls', '-n', 'two'], ['ni', 'two'], ['data']):
        _, data = answer(*command)
        assert len(data['faults']) == 1 and 'ge_proto_00002' in data['faults'][0], command
    assert {'folder': 'npu/debug_0', 'what': 'graphs', 'count': 2} in answer(
        'data')[1]['tables'][0]['rows']


def test_a_part_of_a_tensor_is_compared(answer, workspace):
    npu(workspace.npu_dump(), 'two', 2, [(VALUES[:4].tobytes(), FLOATS)])
    status, data = answer('vc')
    assert status == 0, data
    folder, = os.listdir(workspace.vector_compare)
    with open(os.path.join(workspace.vector_compare, folder, f'result_{folder}.csv')) as stream:
        assert 'compared 4 of 10 values: the rest is not in the dump' in stream.read()


def test_values_of_padded_scalars_are_compared(answer, workspace):
    npu(workspace.npu_dump(), 'two', 2, [(VALUES.tobytes(), {'data_type': 1, 'shape': []})])
    np.save(os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy'), VALUES[0])
    status, data = answer('vc')
    assert status == 0 and '2 pairs of tensors compared' in text_of(data)


def test_values_without_a_shape_are_all_compared(answer, workspace):
    shapeless = {'data_type': 1, 'shape': []}
    path = npu(workspace.npu_dump(), 'two', 2, [(VALUES.tobytes(), shapeless)])
    status, data = answer('cp', path, path)
    assert status == 0 and data['tables'][0]['rows'][1]['shape'] == '[10]'


@pytest.mark.parametrize('told', [[-1] * 5, [], [-1, 1, -1, 3, 16]])
def test_the_golden_tensor_tells_how_one_is_stored_that_tells_nothing(answer, workspace, told):
    image = np.arange(1, 25, dtype=np.float16).reshape(1, 2, 3, 4)    # NHWC
    stored = np.zeros((1, 1, 2, 3, 16), np.float16)
    stored[0, 0, :, :, :4] = image[0]
    path = npu(workspace.npu_dump(), 'two', 2, [(stored.tobytes(), {
        'data_type': 2, 'format': 3, 'shape': told, 'original': []})])
    golden = os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy')
    np.save(golden, image)
    status, data = answer('vc')
    assert (status, data['faults']) == (0, []), data
    status, data = answer('cp', path, golden)
    assert status == 0 and data['tables'][0]['rows'][0]['shape'] == '[1, 2, 3, 4]'


def reasons_of(workspace):
    """The last column of the newest comparison's table."""
    folder = max(os.listdir(workspace.vector_compare))
    with open(os.path.join(workspace.vector_compare, folder, f'result_{folder}.csv')) as stream:
        return [row[-1] for row in csv.reader(stream)][1:]


@pytest.mark.parametrize('original', [[], [2, 5]])
def test_other_shapes_are_compared_and_told(answer, workspace, original):
    path = npu(workspace.npu_dump(), 'two', 2, [(VALUES.tobytes(), {
        'data_type': 1, 'shape': [2, 5], 'original': original})])
    golden = os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy')
    np.save(golden, VALUES.reshape(5, 2))
    assert answer('vc')[0] == 0
    wanted = 'shapes differ: [2,5] and [5,2]; compared value by value in the order of storage'
    assert reasons_of(workspace) == ['', wanted]
    assert wanted in text_of(answer('cp', path, golden)[1])
    np.save(golden, VALUES.reshape(2, 1, 5))    # a dimension of 1 is none
    assert answer('ac')[0] == 0 and reasons_of(workspace) == ['', '']


@pytest.mark.parametrize('number, shape, name', [
    (4, [12, 1, 1, 16], 'FRACTAL_Z'), (3, [-1] * 5, 'NC1HWC0'), (9, [192], 'C1HWNC0')])
def test_layouts_that_cannot_be_undone_are_compared_as_stored(answer, workspace, tmp_path, number,
                                                             shape, name):
    values = np.arange(1, 193, dtype=np.float16)
    told = {'data_type': 2, 'format': number, 'shape': shape, 'original': []}
    for side, factor in (('a', 1), ('b', 1), ('c', -1), ('d', 1)):
        os.makedirs(str(tmp_path / side))
        npu(tmp_path / side, 'two', 2, [((values * factor).tobytes()[:380 if side == 'd' else None],
                                         told)])
    status, data = answer('vc', '-lt', 'a', '-rt', 'b')
    assert status == 0 and reasons_of(workspace) == [f'compared as stored, in {name}']
    status, data = answer('vc', '-lt', 'a', '-rt', 'c')
    assert status == 1 and 'cosine -1.0000' in text_of(data)
    status, data = answer('vc', '-lt', 'a', '-rt', 'd')
    assert status == 1 and len(data['faults']) == 1    # another size, or a part


@pytest.mark.parametrize('factor, status', [(1, 0), (3, 1)])
def test_numbers_beyond_float32_are_not_called_the_same(answer, workspace, factor, status):
    values = VALUES.astype(np.float64) * 1e300
    npu(workspace.npu_dump(), 'two', 2, [(values.tobytes(), {'data_type': 12, 'shape': [10]})])
    np.save(os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy'), values * factor)
    assert answer('ac')[0] == status


def test_other_sizes_are_told_with_their_shapes(answer, workspace):
    path = npu(workspace.npu_dump(), 'two', 2, [(VALUES[:7].tobytes(), {
        'data_type': 1, 'shape': [7], 'original': []})])
    golden = os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy')
    np.save(golden, VALUES[:6].reshape(2, 3))
    told = 'sizes differ: 7 and 6 elements, of shapes [7] and [2,3]'
    assert answer('vc')[1]['faults'] == [f'two:output:0: {told}']
    status, data = answer('cp', path, golden)
    assert status == 1 and f'{told}; the shorter one is continued with zeros' in text_of(data)


@pytest.mark.parametrize('output, reason', [
    ((b'', dict(FLOATS, size=40, address=0)), 'the device had no data for it'),
    ((VALUES.tobytes(), dict(FLOATS, data_type=77)), 'such as two:output:0: type 77: holds no')])
def test_why_nothing_could_be_compared_is_told(answer, workspace, output, reason):
    os.unlink(os.path.join(workspace.tf_dump, f'one.0.{TIME}.npy'))
    npu(workspace.npu_dump(), 'two', 2, [output])
    for command in 'ac', 'vc':
        status, data = answer(command)
        found = next(line for line in data['lines'] if 'nothing was compared' in line)
        assert status == 1 and '1 tensors cannot be, such as two:output:0: ' in found
        assert reason in found and found.endswith('; 1 outputs have no partner')


def test_dc_says_what_has_no_tensors(answer, run, workspace):
    path = npu(workspace.npu_dump(), 'two', 2, outputs=())
    done = run(CLI, 'dc', path)
    assert (done.status, done.err) == (2, f'error: {path}: a dump without tensors\n')
    status, data = answer('dc', workspace.npu_dump())
    assert status == 0 and data['skipped'] == [f'{path}: a dump without tensors']
    null = npu(workspace.npu_dump(), 'two', 2, [(b'', dict(FLOATS, size=40, address=0))])
    assert run(CLI, 'dc', null).status == 2
    folder = os.path.join(workspace.root, 'records')
    os.makedirs(folder)
    npu(folder, 'Node_OpDebug', 1, op_type='Opdebug')
    path = os.path.join(workspace.npu_dump(), f'Add.x_y.5.2.{TIME}.csv')
    with open(path, 'w') as stream:
        stream.write('Output,0,40,DT_FLOAT,ND,10,10,1,5.5\n')
    for name in 'x/y', path:
        done = run(CLI, 'dc', name)
        assert done.status == 2 and done.err.endswith('no tensors; see the command ni\n')
    done = run(CLI, 'dc', folder)
    assert done.status == 2 and 'overflow records or statistics only' in done.err


def test_what_is_unusual_about_a_tensor_is_told(answer, workspace):
    path = npu(workspace.npu_dump(), 'two', 2, [(VALUES.tobytes() + bytes(24), FLOATS),
                                                (b'abc', {'data_type': 13, 'shape': [1]})])
    note = '64 bytes, shape [10] takes 40; the rest is padding'
    _, data = answer('ni', 'two')
    assert f'output:0: {note}' in data['lines']
    table, = (each['rows'] for each in data['tables'] if 'NPU dump' in each['title'])
    assert (table[0]['max'], table[1]['max']) == (10, 'nan')    # text has no maximum
    _, data = answer('dc', path)
    assert data['tables'][0]['rows'][0]['note'] == note
    assert f'output 0 ({note})' in text_of(answer('pt', path)[1])


def test_names_too_long_for_files_are_shortened(answer, workspace, tmp_path):
    names = ['x' * 222, 'x' * 221 + 'y', 'ü' * 110]
    for number, name in enumerate(names, 3):
        npu(workspace.npu_dump(), name, number)
    status, data = answer('dc', workspace.npu_dump())
    files = [row['file'] for row in data['tables'][0]['rows']]
    assert status == 0 and len(set(files)) == 5 and all(each.endswith('.output.0.npy')
                                                        for each in files)
    for each in files:
        assert np.load(os.path.join(workspace.dump_convert, each)).tolist() == VALUES.tolist()
        assert answer('pt', each)[0] == 0
    name = 'y' * 300
    with open(os.path.join(workspace.npu_graph(), 'ge_proto_00001_Build.txt'), 'w') as stream:
        stream.write(f'graph {{ name: "g\\000" op {{ name: "{name}" type: "../../Add\\000" }} }}')
    status, data = answer('ni', name, '-s', '1')
    assert status == 0 and len(os.listdir(workspace.op_graph)) >= 1
    assert [each.name for each in tmp_path.iterdir()] == ['precision_data']


def test_cp_says_which_tensor_it_took(run, workspace):
    path = npu(workspace.npu_dump(), 'two', 2, [(VALUES.tobytes(), FLOATS)],
               [((-VALUES).tobytes(), FLOATS)])
    golden = os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy')
    done = run(CLI, 'cp', path, golden)
    assert done.status == 0 and f'left: {path}: output 0, of 2; ' in done.out, done.err
    done = run(CLI, 'cp', f'{path}:input:0', golden)
    assert done.status == 1 and f'left: {path}: input 0' in done.out
    done = run(CLI, 'cp', golden, f'{path}:output:3')
    assert done.status == 2 and 'no output 3; has input 0, output 0' in done.err
    device_dump.write(path)
    for words in (['cp', path, golden], ['pt', path]):
        done = run(CLI, *words)
        assert done.status == 2 and done.err.endswith('a dump without tensors\n')


def test_cp_compares_the_part_that_is_there(answer, run, workspace):
    path = npu(workspace.npu_dump(), 'two', 2, [(VALUES[:4].tobytes(), FLOATS)])
    golden = os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy')
    for words in ['cp', path, golden], ['cp', golden, path], ['cp', path, path]:
        status, data = answer(*words)
        assert status == 0 and 'compared 4 of 10 values: the rest is not in the dump' in text_of(
            data)
    np.save(golden, VALUES[:4])
    done = run(CLI, 'cp', path, golden)
    assert done.status == 2 and done.err.endswith('sizes differ: 10 and 4 elements\n')


def test_cp_tells_places_in_the_whole_of_a_part(answer, workspace):
    """Two channels of four in blocks of 16, of two pixels; the second one of them is cut off."""
    image = np.arange(8, dtype=np.float32).reshape(1, 4, 1, 2)    # NCHW
    stored = np.zeros((1, 1, 1, 2, 16), np.float32)
    stored[0, 0, 0, :, :4] = image[0, :, 0].T
    path = npu(workspace.npu_dump(), 'two', 2, [(stored.tobytes()[:16 * 4], {
        'data_type': 1, 'format': 3, 'shape': stored.shape, 'original': image.shape,
        'original_op': device_dump.field(1, b'two') + device_dump.field(4, 0)})])
    golden = os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy')
    image[0, 3, 0] = 50, 60
    np.save(golden, image)
    status, data = answer('cp', path, golden)
    assert status == 1 and 'compared 4 of 8 values' in text_of(data)
    assert data['tables'][0]['rows'] == [{'index': 6, 'left': 6, 'right': 50, 'difference': 44}]


@pytest.mark.parametrize('number, name', [(23, 'resource'), (13, 'string')])
def test_cp_refuses_what_holds_no_numbers(run, workspace, number, name):
    path = npu(workspace.npu_dump(), 'two', 2, [
        (struct.pack('<Q', 77), {'data_type': number, 'shape': []})])
    for words in (path, path), (path, os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy')):
        done = run(CLI, 'cp', *words)
        assert done.status == 2 and done.err.count('\n') == 1
        assert done.err.endswith(f'output 0: type {name}: holds no numbers to compare\n')


def test_an_output_that_came_out_empty_is_a_finding(answer, run, workspace):
    """Also one that is shorter than a value; it is none only if the golden tensor is empty too."""
    golden = os.path.join(workspace.tf_dump, f'two.0.{TIME}.npy')
    np.save(golden, np.ones((2, 3), np.float32))
    for data in b'', b'ab':
        path = npu(workspace.npu_dump(), 'two', 2, [(data, {'data_type': 1, 'shape': [2, 3]})])
        for command in 'ac', 'vc':
            status, found = answer(command)
            assert status == 1 and found['skipped'] == []
            assert found['faults'] == [
                'two:output:0: compared none of 6 values: they are not in the dump']
        assert run(CLI, 'cp', path, golden).status == 2
    np.save(golden, np.ones((0, 3), np.float32))
    npu(workspace.npu_dump(), 'two', 2, [(b'', {'data_type': 1, 'shape': [0, 3]})])
    status, found = answer('ac')
    assert status == 0 and found['skipped'] == ['two:output:0: both tensors are empty']


def test_ni_blames_what_was_wrong(run, workspace):
    done = run(CLI, 'ni', 'two', '-g', 'foo')
    assert done.status == 2 and '--graph foo: not in the name of a graph' in done.err
    assert 'ge_default' in done.err and 'no such operator' not in done.err
    done = run(CLI, 'vc', '-g', 'foo')
    assert done.status == 2 and '--graph foo: ' in done.err
    npu(workspace.npu_dump(), 'three', 3)
    done = run(CLI, 'ni', 'three', '-g', 'ge')
    assert done.status == 2 and '--graph ge: no graph has three' in done.err
    # Without a graph, what was dumped is shown.
    shutil.rmtree(workspace.npu_graph())
    done = run(CLI, 'ni', 'two')
    assert done.status == 0 and 'NPU dump Add.two' in done.out and 'TensorFlow two' in done.out
    for name in 'two', 'nobody':
        done = run(CLI, 'ni', name, '-g', 'foo')
        assert done.status == 2 and 'error: --graph foo: ' in done.err and 'no graph' in done.err
    assert run(CLI, 'ni', 'nobody').status == 2


def test_the_next_command_keeps_the_root_and_works(run, workspace, tmp_path):
    break_operator(workspace)
    os.rename(workspace.root, str(tmp_path / 'other place'))
    done = run(CLI, '--root', 'other place', 'ac')
    line = next(line for line in done.out.splitlines() if 'next: ' in line)
    assert line == "     next: python -m precision_tool --root 'other place' ni two"
    assert run(CLI, '--root', 'other place', 'ni', 'two').status == 0


@pytest.mark.parametrize('passes, command', [
    (['Other', 'MyPass'], 'ls -f MyPass'), (['Other'], None)])
def test_operators_of_a_fusion_are_suggested_if_there_are_any(run, workspace, passes, command):
    os.makedirs(workspace.fusion)
    with open(os.path.join(workspace.fusion, 'fusion_result.json'), 'w') as stream:
        stream.write('{"graphId": "0_1", "graph_fusion": {')
        stream.write(', '.join(f'"{name}": {{"effect_times": "1"}}' for name in passes) + '}}')
    done = run(CLI, 'ac')
    assert f'{len(passes)} fusion passes changed the graph' in done.out
    if command:
        assert f'next: python -m precision_tool {command}' in done.out
        assert run(CLI, *command.split()).status == 0
    else:
        assert 'next: ' not in done.out


def test_tf_dump_runs_its_command_always(run, workspace):
    os.makedirs(workspace.tf_debug)
    done = run(CLI, 'tf_dump', sys.executable, '-c', 'print("ran", flush=True)')
    assert done.out.startswith('ran') and done.status == 2    # it left no run
