"""Files of unknown origin: lines of CSV, arrays of NumPy, damaged and hostile ones."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from precision_tool.reading import load_npy, read_csv
from pylib import UserError

quick = settings(max_examples=40, deadline=None,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_lines_of_csv_are_numbered_as_in_the_file(tmp_path):
    path = tmp_path / 'x.csv'
    path.write_bytes('\ufeffa,"b\nc"\r\n\r\n\nd\n'.encode())
    assert read_csv(str(path), 100) == [(2, ['a', 'b\nc']), (5, ['d'])]
    with pytest.raises(UserError, match='x.csv: larger than 5 bytes'):
        read_csv(str(path), 5)
    path.write_text('a\n"' + 'b' * 200000)
    with pytest.raises(UserError, match='x.csv:2: not readable as CSV'):
        read_csv(str(path), 1 << 20)


@quick
@given(hnp.arrays(st.sampled_from(['f4', 'f2', 'i8', '?', 'c16', '>f4', 'S3']),
                  hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)), st.booleans())
def test_npy_round_trip(tmp_path, array, fortran):
    path = str(tmp_path / 'a.npy')
    np.save(path, np.asfortranarray(array) if fortran and array.ndim else array)
    loaded = load_npy(path)
    assert loaded.dtype == array.dtype and loaded.shape == array.shape
    np.testing.assert_array_equal(loaded, array)


def load(path):
    """Load an array, or return None after a UserError of one line."""
    tracemalloc.start()
    try:
        return load_npy(path)
    except UserError as error:
        assert '\n' not in str(error) and path in str(error)
        return None
    finally:
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()


@settings(quick, max_examples=50)
@given(st.data())
def test_mutated_npy(tmp_path, data):
    path = str(tmp_path / 'a.npy')
    np.save(path, np.ones((3, 5), np.float32))
    content = bytearray((tmp_path / 'a.npy').read_bytes())
    for place in data.draw(st.lists(st.integers(0, 80), max_size=3)):
        content[place] = data.draw(st.integers(0, 255) | st.sampled_from(b"0'(,OV9"))
    (tmp_path / 'a.npy').write_bytes(bytes(content[:data.draw(st.integers(0, len(content)))]))
    array = load(path)
    assert array is None or isinstance(array, np.ndarray)


def npy(header, version=1):
    length = struct.pack('<H' if version == 1 else '<I', len(header))
    return b'\x93NUMPY' + bytes([version, 0]) + length + header


@pytest.mark.parametrize('content', [
    b'', b'\x93NUMPY', b'\x93NUMPY\x02\x00\xff\xff\xff\xff', npy(b'(' * 9000), npy(b'-' * 9000),
    npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}"),
    npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904, 9)}"),
    npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + b'12345678',
    npy(b"{'descr': '|V99999999999', 'fortran_order': False, 'shape': (1,)}"),
    npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}") + b'1234',
    npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}") + b'1234',
    npy(b"{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,)}") + b'12345678',
    npy(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}") + b'1234',
    npy(b'[]'), npy(b"{'shape': 3}"), npy(b"'text'"), npy(b'{1, 2}', 3), npy(b'\xff\xfe', 3),
    npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b'1,' * 33 + b')}') + b'1234',
], ids=lambda content: repr(content)[:80])
def test_hostile_npy(tmp_path, content):
    (tmp_path / 'a.npy').write_bytes(content)
    assert load(str(tmp_path / 'a.npy')) is None


def test_npy_that_is_no_file(tmp_path):
    os.mkfifo(str(tmp_path / 'fifo'))
    for name in '', 'fifo', 'none':
        with pytest.raises(UserError):
            load_npy(str(tmp_path / name))


def test_objects_are_not_unpickled(tmp_path):
    np.save(str(tmp_path / 'a.npy'), np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match='a.npy'):
        load_npy(str(tmp_path / 'a.npy'))
