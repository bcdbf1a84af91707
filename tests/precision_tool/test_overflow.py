"""Overflow records: their bits in words, each form of file, and the operators they belong to."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_tool.overflow import (
    NO_ERROR,
    UNDOCUMENTED,
    Record,
    explain_ai_core,
    explain_dha,
    explain_l2,
    find_overflows,
    read_record,
)
from pylib import UserError
from scripts.ascend.dump_writer import dump_name, write_dump

TIME = 1619492699305998
FILES = Path(__file__).parent / 'files'
UNKNOWN = (1 << 64) - 1
INFO = ('model_id', 'stream_id', 'task_id', 'task_type', 'pc_start', 'para_base')
CORE = ('model_id', 'stream_id', 'task_id', 'task_type', 'context_id', 'thread_id', 'pc_start',
        'para_base', 'core_id', 'block_id')
NEW = {'AIC': (0, CORE), 'AIV': (1, CORE),
       'AICPU': (2, ('model_id', 'stream_id', 'task_id', 'task_type', 'context_id', 'cpu_id',
                     'thread_id')),
       'SDMA': (3, ('model_id', 'stream_id', 'task_id', 'task_type', 'context_id', 'thread_id',
                    'src_addr', 'dst_addr', 'channel_id'))}


def old_bytes(ai_core=0, dha=0, l2=0, task=12, stream=3):
    """2048 bytes as older chips write them; ids of the three blocks differ."""
    data = bytearray(2048)
    for start, model in ((0, 1), (128, 2), (256, 3)):
        struct.pack_into('<6Q', data, start, model, stream, task, 5, 0x1000, 0x2000)
    struct.pack_into('<Q', data, 512, dha)
    struct.pack_into('<Q', data, 768, l2)
    struct.pack_into('<3Q', data, 1024, 0xabc, 7, ai_core)
    return bytes(data)


def old_json(ai_core=0, dha=0, l2=0):
    """What the official converter makes of `old_bytes`."""
    def block(model, **fields):
        return dict(zip(INFO, (model, 3, 12, 5, '0x1000', '0x2000')), **fields)
    return json.dumps({'DHA Atomic Add': block(1, status=dha),
                       'L2 Atomic Add': block(2, status=l2),
                       'AI Core': block(3, kernel_code='0xabc', block_idx=7, status=ai_core)})


def new_bytes(block, status, version=0, valid=1, task=12, stream=3):
    number, names = NEW[block]
    values = [9, stream, task] + list(range(len(names) - 3)) + list(status)
    return struct.pack(f'<6I{len(values)}Q', 0x5a5a5a5a, version, valid, number, 0,
                       8 * len(values), *values)


def new_json(block, status, version=0, valid=1):
    names = NEW[block][1]
    data = dict(zip(names, [9, 3, 12] + list(range(len(names) - 3))))
    for name in ('pc_start', 'para_base', 'src_addr', 'dst_addr'):
        if name in data:
            data[name] = hex(data[name])
    data['status'] = list(status) if len(status) > 1 else status[0]
    return json.dumps({'magic': '0x5a5a5a5a', 'version': version, 'acc_list': {
        'valid': valid, 'acc_type': block, 'rsv': 0, 'data_len': 88, 'data': data}})


def written(folder, content, name='record'):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize('status, words', [
    (0, [NO_ERROR]),
    (0x8, ['the smallest integer was negated']),
    (0x10, ['integer addition, subtraction or multiplication overflowed']),
    (0x20, ['floating-point operation overflowed']),
    (0x80, ['a negative float was converted to an unsigned integer']),
    (0x100, ['conversion of float32 or int32 to float16 overflowed']),
    (0x400, ['accumulation of a matrix product (cube unit) overflowed']),
    (0x120, ['floating-point operation overflowed',
             'conversion of float32 or int32 to float16 overflowed']),
    (0x22, ['floating-point operation overflowed', 'unknown bits 0x2']),
    (1 << 63, ['unknown bits 0x8000000000000000'])])
def test_words_of_the_ai_core(status, words):
    assert explain_ai_core(status) == words


@pytest.mark.parametrize('code, word', [
    (0x9, 'overflowed'), (0xa, 'underflowed'), (0xb, 'the source is NaN'),
    (0xc, 'the destination is NaN'), (0xd, 'source and destination are NaN'),
    (0x0, NO_ERROR), (0xe, 'unknown code 0xe'), (0x99, 'unknown code 0x99')])
def test_words_of_the_dha_unit(code, word):
    for noise in (0, 0xff, 0xff << 16, 1 << 63):
        meaning, = explain_dha(code << 8 | noise)
        assert meaning.endswith(word)


@pytest.mark.parametrize('code, word', [
    (0, NO_ERROR), (1, 'overflowed'), (2, 'underflowed'), (3, 'the source is NaN'),
    (4, 'the destination is NaN'), (5, 'source and destination are NaN'),
    (6, 'unknown code 0x6'), (7, 'unknown code 0x7')])
def test_words_of_the_l2_cache(code, word):
    for noise in (0, 0xffff, 1 << 19):
        meaning, = explain_l2(code << 16 | noise)
        assert meaning.endswith(word)


def test_old_records_from_all_kinds_of_file(tmp_path):
    statuses = {'ai_core': 0x20, 'dha': 0xa00, 'l2': 0x30000}
    data = old_bytes(**statuses)
    records = read_record(written(tmp_path, data))
    assert [(each.block, each.details['model_id'], each.status) for each in records] == [
        ('AI Core', 3, 0x20), ('DHA Atomic Add', 1, 0xa00), ('L2 Atomic Add', 2, 0x30000)]
    core = records[0]
    assert (core.stream_id, core.task_id) == (3, 12)
    assert list(core.details.items()) == [
        ('model_id', 3), ('task_type', 5), ('pc_start', 0x1000), ('para_base', 0x2000),
        ('kernel_code', 0xabc), ('block_idx', 7)]
    assert [each.words for each in records] == [
        ['floating-point operation overflowed'], ['addition in memory underflowed'],
        ['addition in memory: the source is NaN']]
    dump = str(tmp_path / 'dump')
    for bare in (False, True):
        write_dump(dump, 'Node_OpDebug', outputs=[np.frombuffer(data, np.uint8)], bare=bare)
        assert read_record(dump) == records
    assert read_record(written(tmp_path, old_json(**statuses))) == records


@pytest.mark.parametrize('block', list(NEW))
def test_new_records_from_all_kinds_of_file(tmp_path, block):
    data = new_bytes(block, [0x100])
    record, = read_record(written(tmp_path, data))
    assert (record.block, record.stream_id, record.task_id, record.status) == (block, 3, 12, 0x100)
    assert list(record.details.items()) == [('model_id', 9)] + [
        (name, number) for number, name in enumerate(NEW[block][1][3:])]
    assert record.words == ([UNDOCUMENTED] if block in ('AICPU', 'SDMA') else
                            ['conversion of float32 or int32 to float16 overflowed'])
    padded = data + bytes(2048 - len(data))
    dump = str(tmp_path / 'dump')
    write_dump(dump, 'Node_OpDebug', outputs=[np.frombuffer(padded, np.uint8)])
    for path in (dump, written(tmp_path, padded, 'padded'),
                 written(tmp_path, new_json(block, [0x100]), 'json')):
        assert read_record(path) == [record]


def test_version_1_has_four_statuses(tmp_path):
    for block in ('AIC', 'AIV'):
        record, = read_record(written(tmp_path, new_bytes(block, [1, 2, 3, 4], version=1)))
        assert record.status == (1, 2, 3, 4) and record.words == [UNDOCUMENTED]
        assert read_record(written(tmp_path, new_json(block, [1, 2, 3, 4], 1))) == [record]
    record, = read_record(written(tmp_path, new_bytes('SDMA', [5], version=1)))
    assert record.status == 5


def test_only_what_is_reported_counts(tmp_path):
    for nothing in (old_bytes(), old_json(), new_bytes('AIC', [1], valid=0),
                    new_json('AIC', [1], valid=0)):
        assert read_record(written(tmp_path, nothing)) == []
    record, = read_record(written(tmp_path, old_bytes(l2=1 << 16)))
    assert record.block == 'L2 Atomic Add'


def test_unknown_ids_are_minus_one(tmp_path):
    for unknown in (UNKNOWN, (1 << 32) - 1):
        record, = read_record(written(
            tmp_path, new_bytes('AIC', [8], task=unknown, stream=unknown)))
        assert (record.stream_id, record.task_id) == (-1, -1)
    text = old_json(ai_core=8).replace('"task_id": 12', '"task_id": -1')
    assert read_record(written(tmp_path, text))[0].task_id == -1


@pytest.mark.parametrize('content, complaint', [
    (b'', ': not an NPU dump file'), (bytes(2047), ': '), (b'\x5a' * 4, ': '),
    (new_bytes('AIC', [1])[:-1], ': 111 bytes, an overflow record of AIC takes 112'),
    (new_bytes('AIC', [1], version=1), ': 112 bytes, an overflow record of AIC takes 136'),
    (new_bytes('AIC', [1], version=2), ': overflow record of version 2'),
    (b'\x5a' * 4 + struct.pack('<5I', 0, 1, 4, 0, 0) + bytes(88), ': overflow record of the '),
    ('{', ':1: not JSON'), ('{}', ': no overflow record (expected AI Core'),
    ('{"AI Core": {}}', ": no overflow record (without 'stream_id')"),
    ('{"AI Core": 3}', ': no overflow record ('),
    ('{"magic": 1, "acc_list": []}', ': no overflow record ('),
    (new_json('AIC', [1]).replace('"AIC"', '"XYZ"'), ": no overflow record (without 'XYZ')"),
    (old_json(ai_core=8).replace('"0x1000"', '"0xg\\n"'), ': no overflow record ('),
    (old_json(ai_core=8).replace('"0x1000"', '"%s"' % ('9' * 300000)), ': no overflow record ('),
    (old_json(ai_core=1 << 64), ': no overflow record (status: expected a number of 64 bits'),
    (old_json(ai_core=[1, 2]), ': no overflow record ('),
    (b'{"\xff": 1}', ': not JSON'), (b' ' * (2 << 20), ': larger than 1048576 bytes')],
    ids=lambda value: str(value)[:20])
def test_damage_is_located(tmp_path, content, complaint):
    path = written(tmp_path, content)
    with pytest.raises(UserError) as error:
        read_record(path)
    assert str(error.value).startswith(path + complaint) and '\n' not in str(error.value)


def test_dumps_of_no_record(tmp_path):
    write_dump(str(tmp_path / 'dump'), 'x', outputs=[np.zeros(5, np.uint8)])
    with pytest.raises(UserError, match='dump: 5 bytes, which is no overflow record'):
        read_record(str(tmp_path / 'dump'))
    write_dump(str(tmp_path / 'dump'), 'x', inputs=[np.zeros(3, np.float32)])
    with pytest.raises(UserError, match='without outputs'):
        read_record(str(tmp_path / 'dump'))


def add_debug(folder, data, task=9, stream=1, time=TIME):
    path = str(folder / dump_name('Opdebug', 'Node_OpDebug', task, stream, time))
    write_dump(path, 'Node_OpDebug', outputs=[np.frombuffer(data, np.uint8)])
    return path


def add_dump(folder, name, task=12, stream=3, time=TIME, op_type='Mul'):
    path = str(folder / dump_name(op_type, name, task, stream, time))
    write_dump(path, name, outputs=[np.zeros(2, np.float32)])
    return path


def test_overflows_find_their_operators(tmp_path):
    add_debug(tmp_path, old_bytes(0x20, task=13), time=TIME + 50)
    debug = add_debug(tmp_path, new_bytes('AIV', [0x20]), time=TIME + 10)
    later = add_dump(tmp_path, 'net/later', time=TIME + 30)
    first = add_dump(tmp_path, 'net/first', time=TIME + 20)
    add_dump(tmp_path, 'other/stream', stream=4)
    add_dump(tmp_path, 'other/task', task=11)
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    add_dump(elsewhere, 'net/elsewhere', time=TIME - 5)
    one, two = find_overflows(str(tmp_path))
    assert (one.path, one.operator.path) == (debug, first)
    assert (one.op_type, one.op_name) == ('Mul', 'net/first')
    assert (two.operator, two.op_type, two.op_name) == (None, '', '')
    os.unlink(first)
    assert find_overflows(str(tmp_path))[0].operator.path == later


def test_unknown_ids_come_from_the_file_name(tmp_path):
    data = old_bytes(0x20, task=UNKNOWN, stream=UNKNOWN)
    add_debug(tmp_path, data, task=12, stream=3)
    path = add_dump(tmp_path, 'net/x')
    assert [each.operator.path for each in find_overflows(str(tmp_path))] == [path]


def test_names_without_stream_ids(tmp_path):
    add_debug(tmp_path, old_bytes(0x20, stream=UNKNOWN), stream=None)
    path = add_dump(tmp_path, 'net/x', stream=3)
    assert find_overflows(str(tmp_path))[0].operator.path == path
    add_debug(tmp_path, old_bytes(0x20), stream=None)
    os.unlink(path)
    path = add_dump(tmp_path, 'net/y', stream=None)
    assert find_overflows(str(tmp_path))[0].operator.path == path


def test_steps_of_a_run_keep_their_own_operators(tmp_path):
    paths = []
    for step in (0, 1):
        folder = tmp_path / '20210427000000' / '0' / 'graph' / '1' / str(step)
        folder.mkdir(parents=True)
        add_debug(folder, old_bytes(0x20), time=TIME + step)
        paths.append(add_dump(folder, 'net/x', time=TIME + step))
    (tmp_path / '20200101000000').mkdir()
    add_debug(tmp_path / '20200101000000', old_bytes(0x20))
    assert [each.operator.path for each in find_overflows(str(tmp_path))] == paths


def test_hashed_names_are_looked_up(tmp_path):
    add_debug(tmp_path, old_bytes(0x20))
    path = add_dump(tmp_path, 'net/x')
    (tmp_path / 'mapping.csv').write_text(f'123456,{os.path.basename(path)}\n')
    os.rename(path, str(tmp_path / '123456'))
    overflow, = find_overflows(str(tmp_path))
    assert overflow.operator.path == str(tmp_path / '123456') and overflow.op_name == 'net/x'


def test_officially_decoded_records_count_where_the_raw_one_is_not_there(tmp_path):
    debug = add_debug(tmp_path, old_bytes(0x20))
    path = add_dump(tmp_path, 'net/x')
    decoded = written(tmp_path, old_json(0x20), os.path.basename(debug) + '.output.0.json')
    overflow, = find_overflows(str(tmp_path))
    assert (overflow.path, overflow.operator.path) == (debug, path)
    os.unlink(debug)
    again, = find_overflows(str(tmp_path))
    assert (again.path, again.operator.path) == (decoded, path)
    assert again.record == overflow.record


def test_statistics_and_unreadable_dumps_still_name_the_operator(tmp_path):
    add_debug(tmp_path, old_bytes(0x20))
    name = dump_name('Mul', 'net/x', 12, 3, TIME)
    (tmp_path / name).write_bytes(b'cut')
    assert find_overflows(str(tmp_path))[0].op_name == 'net_x'
    (tmp_path / name).rename(tmp_path / (name + '.csv'))
    assert find_overflows(str(tmp_path))[0].operator.path.endswith('.csv')


def test_no_more_than_the_limit_are_returned(tmp_path):
    for number in range(5):
        add_debug(tmp_path, old_bytes(0x20, dha=0x900), time=TIME + number)
    for limit, count in ((0, 0), (1, 1), (3, 3), (10, 10), (11, 10), (None, 10)):
        found = find_overflows(str(tmp_path), limit)
        assert len(found) == count
        assert found == find_overflows(str(tmp_path))[:count]


def test_folders_without_overflows(tmp_path):
    assert find_overflows(str(tmp_path)) == []
    add_dump(tmp_path, 'net/x')
    assert find_overflows(str(tmp_path)) == []
    add_debug(tmp_path, old_bytes())
    assert find_overflows(str(tmp_path)) == []
    assert find_overflows(str(tmp_path / 'none')) == []
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'notes.txt').write_text('')
    with pytest.raises(UserError, match='other: no NPU dump files'):
        find_overflows(str(tmp_path / 'other'))


def test_a_broken_record_behind_the_limit_is_not_read(tmp_path):
    add_debug(tmp_path, old_bytes(0x20))
    broken = add_debug(tmp_path, b'abc', time=TIME + 1)
    assert len(find_overflows(str(tmp_path), 1)) == 1
    with pytest.raises(UserError) as error:
        find_overflows(str(tmp_path))
    assert str(error.value).startswith(broken)


def assert_read_or_refused(path):
    try:
        records = read_record(path)
    except UserError as error:
        assert str(error).startswith(path) and '\n' not in str(error)
    else:
        assert all(isinstance(each, Record) and each.words for each in records)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200) | st.binary(min_size=2048, max_size=2048)
       | st.binary(max_size=150).map(lambda data: b'\x5a' * 4 + data)
       | st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 5), st.binary(
           min_size=90, max_size=120)).map(lambda parts: struct.pack(
               '<6I', 0x5a5a5a5a, parts[0], parts[1], parts[2], 0, 0) + parts[3]))
def test_fuzz_of_bytes(tmp_path_factory, data):
    assert_read_or_refused(written(tmp_path_factory.mktemp('fuzz'), data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just('0x5a5a5a5a'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(('AI Core', 'magic', 'acc_list', 'acc_type', 'valid', 'data', 'status')
                        + CORE), inner, max_size=5), max_leaves=12)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(['AI Core', 'DHA Atomic Add', 'magic', 'acc_list']), JSON)
       .map(json.dumps) | st.sampled_from([old_json(8, 1, 1), new_json('AIC', [1])]).flatmap(
           lambda text: st.integers(0, len(text)).map(lambda end: text[:end])))
def test_fuzz_of_json(tmp_path_factory, text):
    assert_read_or_refused(written(tmp_path_factory.mktemp('fuzz'), text))


def test_a_decoded_record_as_in_the_document():
    record, = read_record(str(FILES / 'Opdebug.Node_OpDebug.1.5.1732082705016774.output.0.json'))
    assert (record.block, record.stream_id, record.task_id, record.status) == ('AI Core', 5, 9, 32)
    assert record.details['block_idx'] == 1 and record.details['para_base'] == 16
    assert record.details['pc_start'] == 0x1008005b0000


def test_a_decoded_record_of_version_1():
    record, = read_record(str(FILES / 'version_1_record.json'))
    assert (record.block, record.status, record.status_text) == (
        'AIV', (0x20, 0, 0, 1), '0x20 0x0 0x0 0x1')
    assert record.words == [UNDOCUMENTED]
