"""Layouts against their definitions, element by element, and round trips of any shape."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_tool.layouts import to_plain
from pylib import UserError
from scripts.ascend.dump_writer import from_plain

quick = settings(max_examples=40, deadline=None)
TYPES = st.sampled_from([np.float32, np.float16, np.int8, np.uint8, np.int64, np.bool_])
sizes = st.integers(1, 40)
small = st.integers(1, 4)

# Layout of TensorFlow, and the place of an element in the stored tensor.
STORED = {
    'NC1HWC0': ('NHWC', lambda c0, n, h, w, c: (n, c // c0, h, w, c % c0)),
    'NDC1HWC0': ('NDHWC', lambda c0, n, d, h, w, c: (n, d, c // c0, h, w, c % c0)),
    'FRACTAL_Z': ('HWCN', lambda c0, h, w, c, n: (c // c0, h, w, n // 16, n % 16, c % c0)),
    'FRACTAL_Z_3D': ('DHWCN', lambda c0, d, h, w, c, n: (d, c // c0, h, w, n // 16, n % 16,
                                                         c % c0)),
}


def numbers(shape, dtype=np.float32):
    return np.random.RandomState(0).randint(1, 100, shape).astype(dtype)


def shapes(axes):
    return st.tuples(*[sizes if axis in 'CN' else small for axis in axes])


def store(array, format):
    """The definition, in a loop over all elements."""
    place = STORED[format][1]
    c0 = 32 if array.itemsize == 1 else 16
    places = [place(c0, *index) for index in np.ndindex(array.shape)]
    shape = [max(indices) + 1 for indices in zip(*places)]
    shape[-1] = c0
    if format.startswith('FRACTAL'):
        shape[-2] = 16
    stored = np.zeros(shape, array.dtype)
    for index, where in zip(np.ndindex(array.shape), places):
        stored[where] = array[index]
    return stored.reshape((-1,) + stored.shape[-3:]) if format.startswith('FRACTAL') else stored


@pytest.mark.parametrize('format', STORED)
@pytest.mark.parametrize('dtype', [np.float32, np.int8])
def test_definition(format, dtype):
    axes = STORED[format][0]
    shape = [{'N': 18, 'C': 35}.get(axis, 2 + number) for number, axis in enumerate(axes)]
    array = numbers(shape, dtype)
    stored = from_plain(array, format)
    np.testing.assert_array_equal(stored, store(array, format))
    for original_format in (None, 'ND', axes):
        np.testing.assert_array_equal(to_plain(stored, format, original_format, shape), array)


@pytest.mark.parametrize('format', STORED)
@quick
@given(st.data())
def test_round_trip(format, data):
    axes = STORED[format][0]
    original = ''.join(data.draw(st.sampled_from(
        [plain for plain in ('NHWC', 'NCHW', 'HWCN', 'NDHWC', 'NCDHW', 'DHWCN')
         if len(plain) == len(axes)])))
    array = numbers(data.draw(shapes(original)), data.draw(TYPES))
    stored = from_plain(array, format, original)
    result = to_plain(stored, format, original, array.shape)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, array)


@quick
@given(st.lists(small, max_size=3), sizes, sizes, TYPES)
def test_blocks_round_trip(batch, rows, columns, dtype):
    array = numbers(tuple(batch) + (rows, columns), dtype)
    stored = from_plain(array, 'FRACTAL_NZ')
    c0 = 32 if array.itemsize == 1 else 16
    assert stored.shape == tuple(batch) + (-(-columns // c0), -(-rows // 16), 16, c0)
    for r, c in itertools.product({0, rows - 1, rows // 2}, {0, columns - 1, columns // 2}):
        np.testing.assert_array_equal(stored[..., c // c0, r // 16, r % 16, c % c0],
                                      array[..., r, c])
    np.testing.assert_array_equal(to_plain(stored, 'FRACTAL_NZ', 'ND', array.shape), array)


def test_vector_as_blocks():
    array = numbers((20,))
    np.testing.assert_array_equal(
        to_plain(from_plain(array, 'FRACTAL_NZ'), 'FRACTAL_NZ', None, (20,)), array)


@quick
@given(st.sampled_from(['NHWC', 'NCHW', 'HWCN']), st.sampled_from(['NHWC', 'NCHW', 'HWCN']))
def test_plain_layouts(format, original):
    array = numbers([2 + 'NHWC'.index(axis) for axis in original])
    stored = from_plain(array, format, original)
    assert stored.shape == tuple(2 + 'NHWC'.index(axis) for axis in format)
    np.testing.assert_array_equal(to_plain(stored, format, original, array.shape), array)
    # The layout of an operator's input before the NPU's is not told; its shape is.
    np.testing.assert_array_equal(to_plain(stored, format, None, array.shape), array)


def test_equal_sizes_follow_the_names():
    array = numbers((4, 4, 4, 4))
    np.testing.assert_array_equal(to_plain(from_plain(array, 'NCHW'), 'NCHW', 'NHWC', array.shape),
                                  array)


@pytest.mark.parametrize('shape, full', [
    ((35,), (1, 1, 1, 35)), ((3, 35), (3, 1, 1, 35)), ((3, 5, 35), (3, 1, 5, 35)),
    ((3, 5), (3, 5, 1, 1)), ((), (1, 1, 1, 1))])
def test_fewer_dimensions_than_the_layout(shape, full):
    array = numbers(full)
    result = to_plain(from_plain(array, 'NC1HWC0'), 'NC1HWC0', 'ND', shape)
    np.testing.assert_array_equal(result[..., :1] if shape == () else result,
                                  array.reshape(shape or full))


def test_matrix_among_weights():
    array = numbers((1, 1, 20, 40))
    np.testing.assert_array_equal(
        to_plain(from_plain(array, 'FRACTAL_Z'), 'FRACTAL_Z', 'ND', (20, 40)), array[0, 0])


@pytest.mark.parametrize('format, shape', [
    ('NC1HWC0', (0, 2, 2, 5)), ('NC1HWC0', (2, 2, 2, 0)), ('FRACTAL_Z', (3, 3, 0, 5)),
    ('FRACTAL_Z', (3, 3, 5, 0)), ('NHWC', (0, 1, 2, 3)), ('ND', (0,)), ('FRACTAL_NZ', (0, 5))])
def test_empty(format, shape):
    stored = from_plain(np.zeros(shape, np.float32), format)
    assert to_plain(stored, format, None, shape).shape == shape


def test_unknown_original_shape():
    stored = from_plain(numbers((2, 3, 4, 5)), 'NC1HWC0')
    assert to_plain(stored, 'NC1HWC0', None, None).shape == (2, 3, 4, 16)
    assert to_plain(numbers((2, 3)), 'ND', None, ()).shape == (2, 3)
    assert to_plain(numbers((1, 1, 16, 16)), 'FRACTAL_NZ', None, ()).shape == (16, 16)


def test_wider_blocks_of_newer_chips():
    array = numbers((2, 3, 4, 12))
    stored = array.reshape(2, 3, 4, 2, 6).transpose(0, 3, 1, 2, 4)
    np.testing.assert_array_equal(to_plain(stored, 'NC1HWC0', 'NHWC', array.shape), array)


@pytest.mark.parametrize('stored, format, original', [
    ((1, 1, 2, 2, 16), 'NC1HWC0', (1, 2, 2, 17)), ((1, 2, 2, 2, 16), 'NC1HWC0', (1, 2, 2, 16)),
    ((1, 1, 2, 2, 16), 'NC1HWC0', (2 ** 63, 2 ** 63, 1, 1)), ((1, 2, 2, 16), 'NC1HWC0', (1, 2)),
    ((1, 1, 2, 2, 0), 'NC1HWC0', (1, 2, 2, 1)), ((1, 1, 2, 2, 16), 'NC1HWC0', (1,) * 33),
    ((4, 1, 16, 16), 'FRACTAL_Z', (3, 3, 1, 1)), ((4, 1, 16, 16), 'FRACTAL_Z', ()),
    ((4, 1, 0, 16), 'FRACTAL_Z', (2, 2, 1, 0)), ((1, 1, 16, 16), 'FRACTAL_NZ', (17, 1)),
    ((2, 1, 1, 16, 16), 'FRACTAL_NZ', (3, 16, 16)), ((16,), 'FRACTAL_NZ', (15,)),
    ((1, 1, 0, 16), 'FRACTAL_NZ', (0, 16)), ((2, 3), 'ND', (7,)), ((2, 3), 'ND', (2 ** 70,)),
    ((0,), 'ND', (0, 2 ** 62, 2 ** 62)), ((2, 3), 'format 99', (3, 2))])
def test_contradictions(stored, format, original):
    with pytest.raises(UserError, match='layout') as error:
        to_plain(np.zeros(stored), format, 'NHWC', original)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('shape, format, original', [
    ((2, 3), 'NC1HWC0', None), ((2, 3, 4, 5), 'NDC1HWC0', None), ((2, 3, 4, 5), 'NONE', None),
    ((2, 3, 4, 5), 'NC1HWC0', 'NONE'), ((2, 3, 4, 5), 'NDHWC', 'NHWC')])
def test_no_way(shape, format, original):
    with pytest.raises(UserError, match='no way'):
        from_plain(np.zeros(shape), format, original)


def store_groups(array, groups, n0=16, c0=16):
    """Weights [D, H, W, C, N] of groups as the graph compiler stores them, in loops."""
    depth, height, width, channels, total = array.shape
    filters = total // groups
    together = min(int(np.lcm(np.lcm(channels, c0) // channels, np.lcm(filters, n0) // filters)),
                   groups)
    blocks, c1, n1 = (-(-groups // together), -(-together * channels // c0),
                      -(-together * filters // n0))
    stored = np.zeros(blocks * depth * c1 * height * width * n1 * n0 * c0, array.dtype)
    for group, d, h, w, c, n in itertools.product(range(groups), *map(range, (
            depth, height, width, channels, filters))):
        to_c = group % together * channels + c
        to_n = group % together * filters + n
        row = (((group // together * depth + d) * c1 + to_c // c0) * height + h) * width + w
        stored[(row * n1 * n0 + to_n) * c0 + to_c % c0] = array[d, h, w, c, group * filters + n]
    return stored.reshape(-1, n1, n0, c0)


@quick
@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), st.integers(1, 2),
       st.integers(1, 2), st.sampled_from(['FRACTAL_Z', 'FRACTAL_Z_3D']))
def test_weights_of_groups(groups, channels, filters, depth, size, format):
    shape = (depth if format.endswith('3D') else 1, size, 2, channels, groups * filters)
    array = numbers(shape)
    stored = store_groups(array, groups)
    axes = 'DHWCN'
    if format == 'FRACTAL_Z':
        array, axes = array[0], 'HWCN'
    np.testing.assert_array_equal(to_plain(stored, format, axes, array.shape, groups), array)


def test_weights_of_groups_in_several_blocks():
    """Five groups of 8 channels and 8 filters, two of them to a block."""
    array = numbers((1, 2, 2, 8, 40))
    stored = store_groups(array, 5)
    assert stored.shape == (3 * 4, 1, 16, 16)
    np.testing.assert_array_equal(to_plain(stored, 'FRACTAL_Z', 'HWCN', array[0].shape, 5),
                                  array[0])
    # As if of one group, they are scrambled or do not fit: never returned as good ones.
    with pytest.raises(UserError, match='cannot hold'):
        to_plain(stored, 'FRACTAL_Z', 'HWCN', array[0].shape)
    with pytest.raises(UserError, match='in 3 groups'):
        to_plain(stored, 'FRACTAL_Z', 'HWCN', array[0].shape, 3)
