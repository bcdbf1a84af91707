"""File names: both generations, statistics, FFTS chips, any operator name, hashed names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_tool import file_names
from precision_tool.file_names import DumpName, GoldenName, parse_dump_name
from scripts.ascend.dump_writer import dump_name

quick = settings(max_examples=50, deadline=None)
op_names = st.text(min_size=1, max_size=40)
op_types = st.from_regex('[A-Za-z][A-Za-z0-9_]{0,20}', fullmatch=True)
ids = st.integers(0, 2 ** 32 - 1)
times = st.integers(10 ** 15, 10 ** 16 - 1)

TIME = 1619492699305998


@pytest.mark.parametrize('name, expected', [
    (f'Conv2D.G_Conv.12.3.{TIME}', DumpName('Conv2D', 'G_Conv', 12, 3, TIME)),
    (f'Conv2D.G_Conv.12.{TIME}', DumpName('Conv2D', 'G_Conv', 12, None, TIME)),
    (f'Conv2D.G_Conv.12.0.{TIME}', DumpName('Conv2D', 'G_Conv', 12, 0, TIME)),
    (f'Add.add-1.12.3.{TIME}.csv', DumpName('Add', 'add-1', 12, 3, TIME)),
    (f'Add.a.12.3.{TIME}.1.2.3.4', DumpName('Add', 'a', 12, 3, TIME, (1, 2, 3, 4))),
    (f'Add.a.12.{TIME}.1.2.3.4.csv', DumpName('Add', 'a', 12, None, TIME, (1, 2, 3, 4))),
    (f'Add.7.12.{TIME}', DumpName('Add', '7', 12, None, TIME)),
    (f'Add.7.12.3.{TIME}', DumpName('Add', '7', 12, 3, TIME)),
    (f'Add.a.b>é.1.12.3.{TIME}', DumpName('Add', 'a.b>é.1', 12, 3, TIME)),
    ('Opdebug.Node_OpDebug.3.1.12', DumpName('Opdebug', 'Node_OpDebug', 3, 1, 12)),
    (f'Opdebug.Node_OpDebug.3.1.{TIME}.output.0.json',
     DumpName('Opdebug', 'Node_OpDebug', 3, 1, TIME)),
])
def test_dump_names(name, expected):
    assert parse_dump_name(name) == expected


@pytest.mark.parametrize('name', [
    '', '.', 'mapping.csv', 'Add', 'Add.a.12', f'.writing-Add.a.1.2.{TIME}', f'Add.a.{TIME}',
    f'Add.a.1.2.{TIME}.output.0.npy', f'Add.a.1.2.{TIME}.output.0.json', f'a.0.{TIME}.npy',
    f'../Add.a.1.2.{TIME}', f'Add.a/b.1.2.{TIME}', f'Add.a.1.2.{TIME}.txt',
    'Add.a.1.2.' + '9' * 5000, 'Add.a.1.2.' + '١' * 16, f'Add.a.1.2.{TIME}\n',
], ids=lambda name: ascii(name)[:40])
def test_other_names(name):
    assert parse_dump_name(name) is None


@quick
@given(op_types, op_names, ids, st.none() | ids, times, st.sampled_from(['', '.csv']))
def test_dump_name_round_trip(op_type, op_name, task_id, stream_id, timestamp, end):
    name = dump_name(op_type, op_name, task_id, stream_id, timestamp) + end
    assert '/' not in name
    assert parse_dump_name(name) == DumpName(op_type, file_names.plain(op_name), task_id,
                                             stream_id, timestamp)
    other = parse_dump_name(name[:-len(end)] if end else name + '.1.2.3.4')
    assert other._replace(slice=()) == parse_dump_name(name)
    assert other.slice == (() if end else (1, 2, 3, 4))


@quick
@given(op_names, st.integers(0, 99), times)
def test_golden_name_round_trip(op_name, index, timestamp):
    name = file_names.golden_name(op_name, index, timestamp)
    assert file_names.parse_golden_name(name) == GoldenName(file_names.plain(op_name), index,
                                                            timestamp)
    assert parse_dump_name(name) is None


def test_decoded_tensors_are_no_dumps():
    for dump in (f'Add.a_b.12.3.{TIME}', '8712345'):
        for token in (None, 'FRACTAL_Z'):
            name = file_names.decoded_name(dump, 'output', 1, token)
            assert name == f'{dump}.output.1' + ('.FRACTAL_Z' if token else '') + '.npy'
            assert parse_dump_name(name) is None and file_names.parse_golden_name(name) is None


def test_plain_names_match_on_both_sides():
    assert file_names.plain('Genc/Conv.1/Conv2D:0') == 'Genc_Conv_1_Conv2D_0'
    assert file_names.golden_name('Genc/Conv/Conv2D', 0, TIME) == f'Genc_Conv_Conv2D.0.{TIME}.npy'
    assert dump_name('../A', '../../etc/x', 1, 2, 3) == '___A.______etc_x.1.2.3'


def test_mapping(tmp_path):
    assert file_names.read_mapping(str(tmp_path)) == ({}, [])
    original = f'Conv2D.{"x" * 300}.1.2.{TIME}'
    (tmp_path / 'mapping.csv').write_text(f'123,{original}\r\n\r\n456.csv,{original}.csv\n')
    names = {'123': original, '456.csv': original + '.csv'}
    assert file_names.read_mapping(str(tmp_path)) == (names, [])


@pytest.mark.parametrize('content, place', [
    (b'a\n', ':1'), (b'a,b\n1,2,3\n', ':2'), (b'a,../b\n', ':1'), (b'/a,b\n', ':1'),
    (b',b\n', ':1'), (b'\xff\xfe', ''), (b'a,"' + b'x' * 200000 + b'"\n', ''),
], ids=lambda value: repr(value)[:40])
def test_bad_mapping(tmp_path, content, place):
    (tmp_path / 'mapping.csv').write_bytes(content)
    names, (fault,) = file_names.read_mapping(str(tmp_path))
    assert '1' not in names and f'mapping.csv{place}' in fault and '\n' not in fault


def test_a_cut_row_of_a_mapping_costs_no_other_row(tmp_path):
    (tmp_path / 'mapping.csv').write_text('123,a.1\n456\n789,b.2\n')
    names, faults = file_names.read_mapping(str(tmp_path))
    assert names == {'123': 'a.1', '789': 'b.2'}
    assert faults == [f'{tmp_path}/mapping.csv:2: expected two file names without folders']


def test_huge_mapping_is_not_read(tmp_path):
    with open(str(tmp_path / 'mapping.csv'), 'wb') as stream:
        stream.truncate(file_names.MAPPING_BYTES + 1)
    names, (fault,) = file_names.read_mapping(str(tmp_path))
    assert not names and 'larger' in fault
