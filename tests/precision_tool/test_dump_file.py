"""Dump files: round trips of both generations, damaged and hostile files, statistics."""

import math
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from precision_tool import dump_file, layouts
from precision_tool.dump_file import open_dump
from pylib import UserError
from scripts.ascend.dump_writer import NewTensor, from_plain, write_dump

# The folder of a test is shared by its examples, which write the same file again.
quick = settings(max_examples=40, deadline=None,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])
TYPES = ('float32', 'float16', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'int64', 'uint32',
         'uint64', 'bool', 'float64', 'complex64', 'complex128')


@st.composite
def tensors(draw):
    """A `NewTensor` and the array that `read` should return."""
    data_type = draw(st.sampled_from(TYPES + ('bfloat16',)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    array = draw(hnp.arrays('float32' if data_type == 'bfloat16' else data_type, shape))
    if data_type == 'bfloat16':
        array = (array.reshape(-1).view(np.uint32) & np.uint32(0xffff0000)).view(
            np.float32).reshape(shape)
        array = np.where(np.isnan(array), np.float32(np.nan), array)
    return NewTensor(array, data_type, draw(st.sampled_from(['ND', 'NHWC', 'FRACTAL_NZ'])),
                     draw(st.none() | st.tuples(st.text(min_size=1), st.integers(0, 2 ** 32 - 1))),
                     draw(st.just(()) | st.just(shape)),
                     draw(st.sampled_from(['NHWC', 'NCHW', 'ND'])))


@quick
@given(st.lists(tensors(), max_size=3), st.lists(tensors(), max_size=3),
       st.lists(st.binary(max_size=9), max_size=2), st.text(), st.integers(0, 2 ** 64 - 1),
       st.booleans())
def test_round_trip(tmp_path, inputs, outputs, blocks, op_name, time, bare):
    path = str(tmp_path / 'dump')
    write_dump(path, op_name, inputs, outputs, blocks, blocks[::-1], time, bare)
    dump = open_dump(path)
    assert dump.op_name == dump_file.read_op_name(path) == op_name
    assert dump.tensors == dump.inputs + dump.outputs
    for kind, found, written in (('input', dump.inputs, inputs),
                                 ('output', dump.outputs, outputs)):
        assert len(found) == len(written)
        for index, (tensor, new) in enumerate(zip(found, written)):
            array = tensor.read()
            assert (tensor.kind, tensor.index) == (kind, index)
            assert (tensor.data_type, tensor.format) == (new.data_type, new.format)
            assert tensor.shape == array.shape == new.array.shape
            assert tensor.original_shape == new.original_shape
            assert tensor.original_op == (new.original_op if kind == 'output' else None)
            assert tensor.original_format == (new.original_format if kind == 'output' else None)
            assert array.dtype == new.array.dtype
            np.testing.assert_array_equal(array, new.array)


@quick
@given(st.sampled_from(['NC1HWC0', 'FRACTAL_Z', 'FRACTAL_NZ', 'NCHW', 'NHWC', 'ND', 'NDC1HWC0',
                        'FRACTAL_Z_3D', 'HWCN', 'NDHWC', 'NCDHW', 'DHWCN']),
       st.sampled_from(['float16', 'int8', 'float32', 'bool', 'bfloat16']), st.booleans(),
       st.data())
def test_layouts_round_trip(tmp_path, format, data_type, bare, data):
    axes = layouts.TENSORFLOW.get(format, format if len(format) in (4, 5) else 'NC')
    shape = [data.draw(st.integers(1, 40 if axis in 'CN' else 3)) for axis in axes]
    array = np.random.RandomState(0).randint(0, 2, shape).astype(
        'float32' if data_type == 'bfloat16' else data_type)
    tensor = NewTensor(from_plain(array, format), data_type, format, ('conv', 0), shape,
                       axes if len(axes) > 2 else 'ND')
    path = str(tmp_path / 'dump')
    write_dump(path, 'conv', [tensor], [tensor], bare=bare)
    dump = open_dump(path)
    for found in dump.tensors:
        assert found.original_shape == tuple(shape)
        # Nothing tells inputs of NCHW with equal sizes from those of NHWC.
        if found.kind == 'output' or format.startswith(('NC1', 'NDC1', 'FRACTAL')):
            np.testing.assert_array_equal(found.to_numpy(), array)


def test_bfloat16_rounds_to_even(tmp_path):
    values = np.array([1 + 2 ** -8, 1 + 3 * 2 ** -8, -(1 + 2 ** -8 + 2 ** -20), 3.4e38, math.nan,
                       -math.inf, 0, 1e-40], np.float32)
    write_dump(str(tmp_path / 'dump'), 'a', [NewTensor(values, 'bfloat16')])
    np.testing.assert_array_equal(
        open_dump(str(tmp_path / 'dump')).inputs[0].read(),
        np.array([1, 1 + 2 ** -6, -(1 + 2 ** -7), math.inf, math.nan, -math.inf, 0,
                  np.uint32(1 << 16).view(np.float32)], np.float32))


def test_strings_and_unknown_types(tmp_path):
    path = str(tmp_path / 'dump')
    write_dump(path, 'a', [NewTensor(np.frombuffer(b'hello', np.uint8), 'string')],
               [NewTensor(np.zeros(3, np.int8), 'undefined')])
    dump = open_dump(path)
    assert dump.inputs[0].read().tobytes() == dump.inputs[0].to_numpy().tobytes() == b'hello'
    assert dump.outputs[0].read().dtype == np.int8
    header = dump_file.DumpData()
    header.output.add(data_type=99, size=3).shape.dim.append(5)
    write_raw(path, header.SerializeToString(), b'abc')
    tensor = open_dump(path).outputs[0]
    assert tensor.data_type == 'type 99'
    assert tensor.to_numpy().tobytes() == b'abc'
    with pytest.raises(UserError, match='no float128'):
        write_dump(path, 'a', [NewTensor(np.zeros(1), 'float128')])
    with pytest.raises(UserError, match='no NC1HWC9'):
        write_dump(path, 'a', [NewTensor(np.zeros(1), format='NC1HWC9')])


def write_raw(path, header, values):
    with open(path, 'wb') as stream:
        stream.write(struct.pack('<Q', len(header)) + header + values)


def test_missing_input_and_scalar(tmp_path):
    header = dump_file.DumpData()
    header.input.add(data_type=1)
    header.input.add(data_type=1, size=4)
    write_raw(str(tmp_path / 'dump'), header.SerializeToString(), struct.pack('<f', 2.5))
    missing, scalar = open_dump(str(tmp_path / 'dump')).inputs
    assert missing.read().shape == missing.to_numpy().shape == (0,)
    assert scalar.shape == () and scalar.read() == scalar.to_numpy() == 2.5


def test_upper_bytes_of_a_format_are_no_part_of_it(tmp_path):
    """Newer releases keep the group count in bits 8 to 23, and C0 in bits 24 to 27."""
    path = str(tmp_path / 'dump')
    header = dump_file.DumpData()
    for format in (3 | 2 << 8, 29 | 5 << 24, 0 | 1 << 8 | 4 << 24, 40, 99 | 1 << 8, -1):
        output = header.output.add(data_type=1, format=format)
        output.original_op.format = format
    write_raw(path, header.SerializeToString(), b'')
    expected = ['NC1HWC0', 'FRACTAL_NZ', 'NCHW', 'RESERVED', 'format 99', 'format -1']
    outputs = open_dump(path).outputs
    assert [tensor.format for tensor in outputs] == expected
    assert [tensor.original_format for tensor in outputs] == expected


def test_text_that_is_not_utf8(tmp_path, capfd):
    header = dump_file.DumpData(op_name=b'a\xff/b')
    write_raw(str(tmp_path / 'dump'), header.SerializeToString(), b'')
    assert open_dump(str(tmp_path / 'dump')).op_name == 'a\ufffd/b'
    assert dump_file.read_op_name(str(tmp_path / 'dump')) == 'a\ufffd/b'
    assert capfd.readouterr() == ('', '')


def test_only_the_tensor_asked_for_is_loaded(tmp_path):
    path = str(tmp_path / 'dump')
    size = 64 << 20
    header = dump_file.DumpData(op_name=b'big')
    for _ in range(2):
        header.output.add(data_type=4, format=2, size=size).shape.dim.append(size)
    write_raw(path, header.SerializeToString(), b'')
    with open(path, 'ab') as stream:
        stream.truncate(stream.tell() + 2 * size)
    tracemalloc.start()
    dump = open_dump(path)
    assert dump.outputs[1].read()[-1] == 0 and dump.outputs[1].to_numpy().shape == (size,)
    assert dump_file.read_op_name(path) == 'big'
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_bare_file_is_not_loaded_either(tmp_path):
    path = str(tmp_path / 'dump')
    write_dump(path, 'big', [np.zeros(16 << 20, np.uint8)], bare=True)
    tracemalloc.start()
    assert open_dump(path).inputs[0].read().shape == (16 << 20,)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.fixture(scope='module', params=[False, True])
def valid(request, tmp_path_factory):
    """The bytes of a valid file of either generation."""
    path = str(tmp_path_factory.mktemp('valid') / 'dump')
    image = NewTensor(from_plain(np.ones((1, 2, 3, 5), np.float16), 'NC1HWC0'), 'float16',
                      'NC1HWC0', ('conv', 0), (1, 2, 3, 5), 'NHWC')
    write_dump(path, 'a/conv', [image, np.arange(4)], [image, np.ones((), np.bool_)], [b'12'],
               [b'345'], 7, request.param)
    with open(path, 'rb') as stream:
        return stream.read()


def read_all(path):
    """Read whatever a file holds: what a UserError must end, if anything is wrong."""
    try:
        dump = open_dump(path)
    except UserError as error:
        assert '\n' not in str(error) and path in str(error)
        return None
    assert dump_file.read_op_name(path) == dump.op_name
    for tensor in dump.tensors:
        for read in (tensor.read, tensor.to_numpy):
            try:
                assert isinstance(read(), np.ndarray)
            except UserError as error:
                assert '\n' not in str(error) and path in str(error)
    return dump


@quick
@given(st.data())
def test_truncated(tmp_path, valid, data):
    path = str(tmp_path / 'dump')
    (tmp_path / 'dump').write_bytes(valid[:data.draw(st.integers(0, len(valid) - 1))])
    dump = read_all(path)
    if dump and struct.unpack_from('<Q', valid)[0] < len(valid):
        assert [tensor for tensor in dump.tensors if tensor.fault] or dump.tensors == open_dump(
            path).tensors


@settings(quick, max_examples=50)
@given(st.data())
def test_mutated(tmp_path, valid, data):
    content = bytearray(valid)
    for place in data.draw(st.lists(st.integers(0, len(valid) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255) | st.sampled_from([0, 0x7f, 0x80, 0xff]))
    cut = data.draw(st.integers(0, len(valid)))
    content[cut:cut] = data.draw(st.binary(max_size=8))
    (tmp_path / 'dump').write_bytes(bytes(content))
    tracemalloc.start()
    read_all(str(tmp_path / 'dump'))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@quick
@given(st.binary(max_size=100), st.booleans())
def test_garbage(tmp_path, content, framed):
    (tmp_path / 'dump').write_bytes(
        (struct.pack('<Q', len(content)) if framed else b'') + content)
    read_all(str(tmp_path / 'dump'))


def hostile(**fields):
    header = dump_file.DumpData()
    shape = fields.pop('shape', ())
    output = header.output.add(**fields)
    output.shape.dim.extend(shape)
    return header.SerializeToString()


@pytest.mark.parametrize('content', [
    struct.pack('<Q', 2 ** 63), struct.pack('<Q', 2 ** 64 - 1) + b'x' * 100,
    bytes(8), bytes(64), b'', b'\x70\x00',                            # an unknown field
    struct.pack('<Q', 5) + b'\x1a\xff\xff\xff\x0f', b'\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f',
    struct.pack('<Q', 12) + b'\x0b' * 12, b'\x80' * 40,           # groups, an endless integer
])
def test_hostile_lengths(tmp_path, content):
    (tmp_path / 'dump').write_bytes(content)
    tracemalloc.start()
    assert read_all(str(tmp_path / 'dump')) is None
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize('header', [
    hostile(data_type=1, size=2 ** 63, shape=[2 ** 61]), hostile(data_type=1, size=2 ** 64 - 1),
    hostile(data_type=1, size=4, shape=[2 ** 63, 2 ** 63]), hostile(data_type=1, shape=[1] * 33),
    hostile(data_type=1, size=0, shape=[0, 2 ** 62, 2 ** 62]),
    hostile(data_type=1, size=4, shape=[2]), hostile(data_type=99, size=4, shape=[2 ** 63] * 9),
    hostile(data_type=4, size=4, shape=[4]) * 2, hostile(data_type=1, shape=[2] * 1000000),
], ids=lambda header: repr(header)[:40])
def test_hostile_shapes(tmp_path, header):
    path = str(tmp_path / 'dump')
    write_raw(path, header, b'1234')
    tracemalloc.start()
    dump = read_all(path)
    assert tracemalloc.get_traced_memory()[1] < dump_file.MAX_HEADER
    tracemalloc.stop()
    for tensor in dump.tensors if dump else ():
        # Nothing is made up: a fault, or what is in the file.
        assert tensor.fault or tensor.read().nbytes <= 4
        assert len(f'{tensor.fault}{tensor.note}') < 700


@pytest.mark.parametrize('piece', [b'\x1a\x00', b'\x1a\x02\x52\x00', b'\x3a\x00', b'\x0a\x00'])
def test_hostile_counts(tmp_path, piece):
    """Headers of millions of empty messages, which take far more memory than file."""
    write_raw(str(tmp_path / 'dump'), piece * (dump_file.MAX_FIELDS + 1), b'')
    with pytest.raises(UserError, match='not an NPU dump file'):
        open_dump(str(tmp_path / 'dump'))


def test_huge_header_is_not_read(tmp_path):
    size = dump_file.MAX_HEADER + 1
    with open(str(tmp_path / 'dump'), 'wb') as stream:
        stream.write(struct.pack('<Q', size))
        stream.truncate(8 + size)
    with pytest.raises(UserError):
        open_dump(str(tmp_path / 'dump'))


def test_no_file(tmp_path):
    os.mkfifo(str(tmp_path / 'fifo'))
    for path in tmp_path, tmp_path / 'fifo', tmp_path / 'none':
        with pytest.raises(UserError, match=path.name):
            open_dump(str(path))


def test_file_that_shrinks(tmp_path):
    path = str(tmp_path / 'dump')
    write_dump(path, 'a', [np.zeros(5000)])
    tensor = open_dump(path).inputs[0]
    with open(path, 'r+b') as stream:
        stream.truncate(100)
    with pytest.raises(UserError, match='input 0'):
        tensor.read()


def test_stats(tmp_path):
    path = tmp_path / 'stats.csv'
    header = 'Input/Output,Index,Data Size,Data Type,Format,Shape,Max Value,Min Value,Avg Value\n'
    rows = ('Input,0,48,DT_FLOAT16,NHWC,2x3x4,1.5,-2,nan\r\n'
            'Output,1,4,DT_FLOAT,ND,"[2, 3]",inf,-inf,0\nOutput,2,0,DT_BF16,ND,,,,\n')
    for content in header + rows, rows:
        path.write_text(content)
        first, second, third = dump_file.read_stats(str(path), [])
        assert first[:6] == ('input', 0, 'float16', (2, 3, 4), 1.5, -2) and math.isnan(first.mean)
        assert second == ('output', 1, 'float32', (2, 3), math.inf, -math.inf, 0)
        assert third[:4] == ('output', 2, 'bfloat16', ()) and math.isnan(third.max)


def test_stats_by_header(tmp_path):
    """Newer releases write the columns that were asked for."""
    path = tmp_path / 'stats.csv'
    path.write_text('Input/Output,Index,Data Size,Data Type,Format,Shape,Avg Value,Max Value\n'
                    'Output,0,4,DT_INT32,ND,1,2,3\n')
    stats, = dump_file.read_stats(str(path), [])
    assert stats[:5] == ('output', 0, 'int32', (1,), 3) and stats.mean == 2
    assert math.isnan(stats.min)


def test_a_bad_row_costs_no_other(tmp_path):
    path, faults = tmp_path / 'stats.csv', []
    path.write_text('Output,0,4,DT_INT32,ND,1,3,1,2\nOutput,1,cut\nOutput,2,4,DT_INT32,ND,1,6,4,5\n')
    assert [each.max for each in dump_file.read_stats(str(path), faults)] == [3, 6]
    assert [fault.partition(': ')[0] for fault in faults] == [f'{path}:2']


@pytest.mark.parametrize('content', [
    b'a,b\n', b'Input,0,1\n', b'Input,x,1,a,b,1,1,1,1\n', b'Input,0,1,a,b,1,max,1,1\n', b'\xff\xff',
    b'Side,0,1,a,b,1,1,1,1\n', b'Input/Output,Index\nInput\n', b'Input/Output\nInput\n'])
def test_bad_stats(tmp_path, content):
    (tmp_path / 'stats.csv').write_bytes(content)
    with pytest.raises(UserError, match='stats.csv') as error:
        dump_file.read_stats(str(tmp_path / 'stats.csv'), [])
    assert '\n' not in str(error.value)
