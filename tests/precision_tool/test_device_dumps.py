"""Dump files as devices write them: padded, cut, without shape or data, in all data types."""

import struct

import device_dump
import numpy as np
import pytest

from precision_tool import dump_file
from precision_tool.dump_file import open_dump
from pylib import UserError

TEN = np.arange(10, dtype=np.float32)
FLOATS = {'data_type': 1, 'shape': [10]}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'Add.a_b.1.2.1704067200000001')


def only_output(path):
    dump = open_dump(path)
    (tensor,) = dump.outputs
    return tensor, dump.notes


def test_padding_is_cut_off_and_told(path):
    device_dump.write(path, [(TEN.tobytes() + bytes(24), FLOATS)])
    tensor, notes = only_output(path)
    np.testing.assert_array_equal(tensor.to_numpy(), TEN)
    assert notes == ['output 0: 64 bytes, shape [10] takes 40; the rest is padding']


def test_padding_does_not_move_the_next_tensor(path):
    device_dump.write(path, [(TEN.tobytes(), FLOATS), (TEN.tobytes() * 2, FLOATS)],
                      [(TEN.tobytes() + b'padding', FLOATS)])
    dump = open_dump(path)
    for tensor in dump.tensors:
        np.testing.assert_array_equal(tensor.to_numpy(), TEN)
    assert [note.split(':')[0] for note in dump.notes] == ['input 0', 'output 1']


def test_of_a_slice_the_part_that_is_there_is_read(path):
    device_dump.write(path, [(TEN[:3].tobytes() + b'xy', FLOATS)])
    tensor, notes = only_output(path)
    np.testing.assert_array_equal(tensor.read(), TEN[:3])
    np.testing.assert_array_equal(tensor.to_numpy(), TEN[:3])
    assert notes == ['output 0: 3 of the 10 values of shape [10] are there']


def test_places_of_a_part_are_those_of_the_plain_tensor(path):
    """Two of the three stored rows of an image with 3 channels in blocks of 16."""
    image = np.arange(1, 3 * 2 * 3 + 1, dtype=np.float16).reshape(1, 3, 2, 3)
    stored = np.zeros((1, 1, 3, 2, 16), np.float16)
    stored[0, 0, :, :, :3] = image[0]
    device_dump.write(path, [(stored.tobytes()[:2 * 2 * 16 * 2], {
        'data_type': 2, 'format': 3, 'shape': stored.shape, 'original': image.shape})])
    tensor, _ = only_output(path)
    values, places, total = tensor.part()
    assert total == image.size
    np.testing.assert_array_equal(places, np.arange(12))
    np.testing.assert_array_equal(values, image.reshape(-1)[:12])


def test_a_part_takes_no_memory_for_the_whole(path):
    described = dict(FLOATS, shape=[1 << 40])
    image = dict(FLOATS, shape=[1, 1, 1 << 30, 1, 16], original=[1, 1 << 30, 1, 16], format=3)
    device_dump.write(path, [(TEN.tobytes(), described), (TEN.tobytes(), image)])
    plain, blocked = open_dump(path).outputs
    values, places, total = plain.part()
    assert (total, list(places)) == (1 << 40, list(range(10)))
    np.testing.assert_array_equal(values, TEN)
    with pytest.raises(UserError, match='output 1: 10 of 17179869184 values are there, of too'):
        blocked.part()


@pytest.mark.parametrize('shape, expected', [
    ([-1], [10]), ([-1, 5], [2, 5]), ([2, -1], [2, 5]), ([-2], [10]), ([-1, -1], [10]),
    ([-1, 3], [10])])
def test_unknown_dimensions_come_from_the_size(path, shape, expected):
    device_dump.write(path, [(TEN.tobytes(), {'data_type': 1, 'shape': shape})])
    tensor, notes = only_output(path)
    assert list(tensor.shape) == expected and tensor.original_shape == ()
    np.testing.assert_array_equal(tensor.to_numpy(), TEN.reshape(expected))
    assert notes == [f'output 0: shape {shape}, taken as {expected}']


def as_image(array, c0):
    """[N, H, W, C] as it is stored in NC1HWC0."""
    count, height, width, channels = array.shape
    stored = np.zeros((count, -(-channels // c0), height, width, c0), array.dtype)
    for channel in range(channels):
        stored[:, channel // c0, :, :, channel % c0] = array[..., channel]
    return stored


def as_weights(array, c0):
    """[H, W, C, N] as they are stored in FRACTAL_Z."""
    height, width, channels, filters = array.shape
    stored = np.zeros((-(-channels // c0), height, width, -(-filters // 16), 16, c0), array.dtype)
    for channel in range(channels):
        for each in range(filters):
            stored[channel // c0, :, :, each // 16, each % 16, channel % c0] = (
                array[:, :, channel, each])
    return stored.reshape((-1,) + stored.shape[3:])


def as_matrices(array, c0):
    """[B, R, C] as they are stored in FRACTAL_NZ."""
    batch, rows, columns = array.shape
    stored = np.zeros((batch, -(-columns // c0), -(-rows // 16), 16, c0), array.dtype)
    for row in range(rows):
        for column in range(columns):
            stored[:, column // c0, row // 16, row % 16, column % c0] = array[:, row, column]
    return stored


# How it is stored, number of the format, number of the type, C0, shape in TensorFlow.
BLOCKED = [(as_image, 3, 2, 16, (2, 3, 4, 20)), (as_image, 3, 3, 32, (2, 3, 4, 40)),
           (as_image, 3 | 4 << 24, 1, 8, (1, 3, 4, 24)), (as_image, 3, 1, 8, (1, 3, 4, 20)),
           (as_weights, 4, 2, 16, (3, 3, 20, 35)), (as_weights, 4, 4, 32, (1, 2, 40, 17)),
           (lambda array, c0: np.stack([as_image(each, c0) for each in np.moveaxis(array, 1, 0)],
                                       1), 32, 2, 16, (2, 3, 2, 4, 20)),
           (lambda array, c0: as_image(array.reshape(1, 1, 1, -1), c0), 3, 2, 16, (20,)),
           (lambda array, c0: as_matrices(array.reshape(1, 1, -1), c0)[0], 29, 2, 16, (30,)),
           (as_matrices, 29, 2, 16, (2, 17, 35)), (as_matrices, 29, 3, 32, (2, 17, 35)),
           (lambda array, _: np.moveaxis(array, 3, 1), 0, 1, 0, (2, 3, 4, 5)),
           (lambda array, _: array, 2, 1, 0, (2, 3, 4))]


def hide(shape, how):
    """The shape as a device tells it that does not know (all of) it."""
    known = {'all': (), 'none': (), 'rank': (), 'first': (0,), 'last': (len(shape) - 1,)}[how]
    if how in ('none', 'rank'):
        return [] if how == 'none' else [-2]
    return [size if place in known else -1 for place, size in enumerate(shape)]


@pytest.mark.parametrize('how', ['all', 'none', 'rank', 'first', 'last'])
@pytest.mark.parametrize('store, number, data_type, c0, shape', BLOCKED)
def test_how_a_tensor_is_stored_follows_from_its_original_shape(path, store, number, data_type, c0,
                                                                shape, how):
    dtype = {1: '<f4', 2: '<f2', 3: 'i1', 4: 'u1'}[data_type]
    plain = (np.arange(np.prod(shape)) % 99 + 1).astype(dtype).reshape(shape)
    stored = store(plain, c0)
    original_op = device_dump.field(1, b'x') + device_dump.field(4, 16 if number == 4 else 1)
    told = {'data_type': data_type, 'format': number, 'shape': hide(stored.shape, how),
            'original': shape, 'original_op': original_op}
    device_dump.write(path, [(stored.tobytes(), told), (stored.tobytes() + bytes(64), told),
                             (stored.tobytes()[:-32], dict(told, shape=[-1, *stored.shape[1:]]))])
    whole, padded, part = open_dump(path).outputs
    np.testing.assert_array_equal(whole.to_numpy(), plain)
    assert whole.shape == stored.shape and f'taken as {list(stored.shape)}' in whole.note
    if c0 != 8 or number != 3:    # else another C0 fits better
        np.testing.assert_array_equal(padded.to_numpy(), plain)
        assert padded.note.endswith('the rest is padding')
        values, places, total = part.part()
        assert total == plain.size
        np.testing.assert_array_equal(values, plain.reshape(-1)[places])


def test_a_shape_that_the_original_one_contradicts_comes_from_the_size(path):
    device_dump.write(path, [(TEN.tobytes(), {'data_type': 1, 'shape': [-1], 'original': [2, 5]})])
    tensor, notes = only_output(path)
    assert tensor.shape == (10,) and tensor.to_numpy().shape == (2, 5)
    assert notes == ['output 0: shape [-1], taken as [10]']


def test_an_original_shape_with_unknown_dimensions_is_none(path):
    device_dump.write(path, [(TEN.tobytes(), dict(FLOATS, original=[-1, 5]))])
    np.testing.assert_array_equal(only_output(path)[0].to_numpy(), TEN)


def test_without_a_shape_all_values_are_read(path):
    device_dump.write(path, [(TEN.tobytes(), {'data_type': 1, 'shape': []}),
                             (TEN[7:8].tobytes(), {'data_type': 1, 'shape': []})])
    dump = open_dump(path)
    np.testing.assert_array_equal(dump.outputs[0].to_numpy(), TEN)
    assert dump.outputs[1].to_numpy() == 7 and dump.outputs[1].shape == ()
    assert dump.notes == ['output 0: no shape, 10 values']


def test_an_undefined_type_is_bytes(path):
    device_dump.write(path, [(b'\x01\xff', {'data_type': 0, 'shape': [1, 1]})])
    tensor, _ = only_output(path)
    assert tensor.data_type == 'undefined' and not tensor.has_numbers
    np.testing.assert_array_equal(tensor.to_numpy(), np.array([1, -1], np.int8))


# Number, name, what is stored, and its values; independent of the reader's tables.
@pytest.mark.parametrize('number, name, data, values', [
    (1, 'float32', struct.pack('<2f', 1.5, -2), [1.5, -2]),
    (2, 'float16', struct.pack('<2e', 1.5, -2), [1.5, -2]),
    (3, 'int8', b'\x01\xff', [1, -1]), (4, 'uint8', b'\x01\xff', [1, 255]),
    (5, 'int16', struct.pack('<h', -300), [-300]), (6, 'uint16', struct.pack('<H',
     60000), [60000]),
    (7, 'int32', struct.pack('<i', -70000), [-70000]),
    (8, 'int64', struct.pack('<q', -1 << 40), [-1 << 40]),
    (9, 'uint32', struct.pack('<I', 1 << 31), [1 << 31]),
    (10, 'uint64', struct.pack('<Q', 1 << 63), [1 << 63]),
    (11, 'bool', b'\x00\x02', [False, True]), (12, 'float64', struct.pack('<d', .1), [.1]),
    (14, 'dual_sub_int8', b'\xff', [-1]), (15, 'dual_sub_uint8', b'\xff', [255]),
    (16, 'complex64', struct.pack('<2f', 1, -2), [1 - 2j]),
    (17, 'complex128', struct.pack('<2d', 1, -2), [1 - 2j]),
    (18, 'qint8', b'\xff', [-1]), (19, 'qint16', b'\xfe\xff', [-2]),
    (20, 'qint32', b'\xfd\xff\xff\xff', [-3]), (21, 'quint8', b'\xff', [255]),
    (22, 'quint16', b'\xff\xff', [65535]),
    (27, 'bfloat16', b'\xc0\x3f\x00\xc0', [1.5, -2]),
    (32, 'complex32', struct.pack('<2e', 1, -2), [1 - 2j]),
    (33, 'hifloat8', b'\x00\x08\x18\x20\x6f\xef\x01', [0, 1, .5, 4, np.inf, -np.inf, 2 ** -22]),
    (34, 'float8_e5m2', b'\x3c\xbc\x7c\x01', [1, -1, np.inf, 2 ** -16]),
    (35, 'float8_e4m3fn', b'\x38\xb8\x7e\x01', [1, -1, 448, 2 ** -9]),
    (36, 'float8_e8m0', b'\x7f\x80\x00', [1, 2, 2 ** -127]),
])
def test_types_of_numbers(path, number, name, data, values):
    device_dump.write(path, [(data, {'data_type': number, 'shape': [len(values)]})])
    tensor, notes = only_output(path)
    assert (tensor.data_type, tensor.has_numbers, notes) == (name, True, [])
    np.testing.assert_array_equal(tensor.to_numpy(), values)


# Several numbers in a byte, the lowest bits first, but for single bits.
@pytest.mark.parametrize('number, name, values', [
    (28, 'int4', [1, -8, 2, -1]),
    (29, 'uint1', [1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0]),
    (30, 'int2', [1, 0, 0, -2, -2, 0, -1, -1]), (31, 'uint2', [1, 0, 0, 2, 2, 0, 3, 3]),
    (39, 'float4_e2m1', [.5, -0., 1, -6]), (40, 'float4_e1m2', [.25, -0., .5, -1.75])])
def test_packed_types(path, number, name, values):
    data = b'\x81\xf2'
    count = len(values)
    for described in ({'shape': [count]}, {'shape': [2], 'original': [count]},
                      {'shape': [2, count // 2], 'original': [2, count // 2]}):
        device_dump.write(path, [(data, dict(described, data_type=number))])
        tensor, notes = only_output(path)
        assert (tensor.data_type, notes) == (name, [])
        array = tensor.to_numpy()
        assert list(array.shape) == described.get('original', described['shape'])
        np.testing.assert_array_equal(array.reshape(-1), values)
    # An odd number of them: the rest of the byte is none.
    device_dump.write(path, [(data, {'data_type': number, 'shape': [count - 1]})])
    np.testing.assert_array_equal(only_output(path)[0].to_numpy(), values[:-1])


@pytest.mark.parametrize('number, per_byte', [(28, 2), (29, 8), (30, 4)])
def test_packed_types_padded_or_cut_without_an_original_shape(path, number, per_byte):
    """Only bytes of exactly the shape's size are numbers of a shape in bytes."""
    described = {'data_type': number, 'shape': [4, 8], 'original': []}
    whole = 32 // per_byte
    for size, shape, present in ((whole, [4, 8], 32), (whole + 20, [4, 8], 32),
                                 (64, [4, 8], 32), (whole - 1, [4, 8], 32 - per_byte),
                                 (32, [4, 8 * per_byte], 32 * per_byte)):
        device_dump.write(path, [(bytes(size), described)])
        tensor, notes = only_output(path)
        assert (list(tensor.shape), tensor.present) == (shape, present)
        assert bool(notes) == (size not in (whole, 32))
    device_dump.write(path, [(b'\x81', dict(described, shape=[1]))])
    assert only_output(path)[0].shape == (1,)


@pytest.mark.parametrize('number, name', [
    (13, 'string'), (23, 'resource'), (24, 'string_ref'), (25, 'dual'), (26, 'variant'),
    (37, 'float6_e3m2'), (38, 'float6_e2m3'), (41, 'type 41'), (99, 'type 99'), (-5, 'type -5')])
def test_types_without_numbers_are_bytes(path, number, name):
    device_dump.write(path, [(TEN.tobytes(), FLOATS)],
                      [(struct.pack('<Q', 77), {'data_type': number, 'shape': []})])
    handle, = open_dump(path).inputs
    assert (handle.data_type, handle.has_numbers, handle.fault) == (name, False, '')
    assert handle.to_numpy().tobytes() == struct.pack('<Q', 77)
    np.testing.assert_array_equal(only_output(path)[0].to_numpy(), TEN)


def test_bytes_behind_the_tensors_are_passed_over(path):
    device_dump.write(path, [(TEN.tobytes(), FLOATS)], tail=b'tail')
    np.testing.assert_array_equal(only_output(path)[0].to_numpy(), TEN)


@pytest.mark.parametrize('tail', [b'', bytes(7)])
def test_what_has_a_null_address_has_no_bytes(path, tail):
    device_dump.write(path, [(TEN.tobytes(), FLOATS)],
                      [(b'', dict(FLOATS, size=40, address=0)), (TEN.tobytes(), FLOATS)], tail=tail)
    dump = open_dump(path)
    with pytest.raises(UserError, match='input 0: null address .40 bytes told.: the device had no'):
        dump.inputs[0].read()
    for tensor in dump.tensors[1:]:
        np.testing.assert_array_equal(tensor.to_numpy(), TEN)


def test_where_all_bytes_are_there_a_null_address_means_nothing(path):
    device_dump.write(path, [(TEN.tobytes(), FLOATS)], [((-TEN).tobytes(),
                                                         dict(FLOATS, address=0))])
    dump = open_dump(path)
    np.testing.assert_array_equal(dump.inputs[0].to_numpy(), -TEN)
    np.testing.assert_array_equal(dump.outputs[0].to_numpy(), TEN)


def test_older_devices_tell_no_addresses(path):
    device_dump.write(path, [(TEN.tobytes(), dict(FLOATS, address=0))],
                      [(TEN.tobytes(), dict(FLOATS, address=0))])
    for tensor in open_dump(path).tensors:
        np.testing.assert_array_equal(tensor.to_numpy(), TEN)


def test_what_a_short_file_lacks_is_a_fault_of_its_tensor(path):
    device_dump.write(path, [(TEN.tobytes(), FLOATS)], [(TEN.tobytes(), FLOATS)])
    with open(path, 'r+b') as stream:
        stream.truncate(stream.seek(0, 2) - 3)
    dump = open_dump(path)
    np.testing.assert_array_equal(dump.inputs[0].to_numpy(), TEN)
    with pytest.raises(UserError, match='the header tells 40 bytes, the file ends after 37'):
        dump.outputs[0].to_numpy()


@pytest.mark.parametrize('told', [[2, 1, 16, 16], [-1] * 4, []])
@pytest.mark.parametrize('where', ['field', 'format'])
def test_weights_of_groups(path, where, told):
    """4 groups of 3 channels and 2 filters: all of them fit into one block of 16 x 16."""
    groups, channels, filters = 4, 3, 2
    weights = np.arange(1, 2 * channels * groups * filters + 1, dtype=np.float16).reshape(
        1, 2, channels, groups * filters)
    stored = np.zeros((1, 1, 2, 1, 16, 16), np.float16)    # G1 C1 H*W N1 N0 C0
    for group in range(groups):
        for place in range(2):
            for channel in range(channels):
                for each in range(filters):
                    stored[0, 0, place, 0, group * filters + each, group * channels + channel] = (
                        weights[0, place, channel, group * filters + each])
    of = {'sub_format': groups} if where == 'field' else {'format': 4 | groups << 8}
    device_dump.write(path, [(stored.tobytes(), dict(
        {'format': 4}, data_type=2, shape=told, original=weights.shape,
        original_op=device_dump.field(1, b'conv') + device_dump.field(4, 16), **of))])
    np.testing.assert_array_equal(only_output(path)[0].to_numpy(), weights)


def test_a_dump_of_a_nano_chip_is_called_so(path):
    with open(path, 'wb') as stream:
        stream.write(struct.pack('<QIQ', 100, 0x5a5a5a5a, 1) + bytes(200))
    for read in open_dump, dump_file.read_op_name:
        with pytest.raises(UserError, match='a dump of an Ascend Nano') as error:
            read(path)
        assert '\n' not in str(error.value)


def test_statistics_with_a_header_before_each_row(tmp_path):
    (tmp_path / 'stats.csv').write_text(
        'Input/Output,Index,Data Size,Data Type,Format,Shape,Count,Max Value,l2norm\n'
        'Input,0,40,DT_FLOAT,ND,10,10,9,3.5\n'
        'Input/Output,Index,Data Size,Data Type,Format,Shape,Min Value\n'
        'Output,0,40,DT_FLOAT,ND,10,-8\n')
    first, second = dump_file.read_stats(str(tmp_path / 'stats.csv'), [])
    assert (first.kind, first.max) == ('input', 9) and np.isnan(first.min)
    assert (second.kind, second.min) == ('output', -8) and np.isnan(second.max)
