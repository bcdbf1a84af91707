"""Dump files of NPU operators: read lazily, and written.

A file is an unsigned 64-bit length (little endian), a protobuf header of that length, and the raw
tensors in the order inputs, outputs, buffers, spaces. The previous generation was the bare
protobuf message with the tensors in it. Both are read; a tensor only when it is asked for.

A dump of statistics is a CSV file instead, with a row for each tensor.
"""

import contextlib
import math
import mmap
import os
import re
import stat
import struct
from collections import OrderedDict, namedtuple

import numpy as np
from google.protobuf.message import DecodeError

from precision_tool import dump_proto, layouts
from precision_tool.dump_proto import text
from precision_tool.reading import MAX_DIMENSIONS, read_csv
from pylib import UserError, atomic_path

# Number in the header -> name, and the NumPy type of the stored bytes.
_TYPES = {
    0: ('undefined', 'i1'), 1: ('float32', '<f4'), 2: ('float16', '<f2'), 3: ('int8', 'i1'),
    4: ('uint8', 'u1'), 5: ('int16', '<i2'), 6: ('uint16', '<u2'), 7: ('int32', '<i4'),
    8: ('int64', '<i8'), 9: ('uint32', '<u4'), 10: ('uint64', '<u8'), 11: ('bool', 'u1'),
    12: ('float64', '<f8'), 13: ('string', 'u1'), 16: ('complex64', '<c8'),
    17: ('complex128', '<c16'), 27: ('bfloat16', '<u2'),
}
_STORED = {name: np.dtype(stored) for name, stored in _TYPES.values()}
_TYPE_NUMBERS = {name: number for number, (name, _) in _TYPES.items()}
_FORMATS = {0: 'NCHW', 1: 'NHWC', 2: 'ND', 3: 'NC1HWC0', 4: 'FRACTAL_Z', 16: 'HWCN', 27: 'NDHWC',
            29: 'FRACTAL_NZ', 30: 'NCDHW', 31: 'DHWCN', 32: 'NDC1HWC0', 33: 'FRACTAL_Z_3D',
            40: 'RESERVED'}
_FORMAT_NUMBERS = {name: number for number, name in _FORMATS.items()}
_STATS_TYPES = {'float': 'float32', 'bf16': 'bfloat16', 'double': 'float64'}

_MAX_ELEMENTS = 1 << 58   # x 16 bytes is what NumPy can address
_MAX_STATS = 16 << 20     # bytes of a CSV file; each tensor takes a line
_LENGTH = struct.Struct('<Q')


class Tensor(namedtuple('Tensor', 'path offset kind index data_type format shape original_format '
                                  'original_shape size original_op')):
    """A tensor in a dump file; its values stay there until they are asked for.

    Attributes:
        path, offset: where the values are; size: their bytes.
        kind: 'input', 'output', 'buffer' or 'space'; index: among those of its kind.
        data_type: such as 'float32'; format: layout such as 'NC1HWC0'; shape: tuple, as stored.
        original_format, original_shape: before the NPU's layout; None and () if unknown.
        original_op: (name, output index) of the TensorFlow tensor it is, or None.
    """

    def read(self):
        """Return the values as stored: an array of `shape`.

        They are a read-only map of the file, except that bfloat16 becomes float32, and bool a
        copy. Strings are their raw bytes, uint8 [size].

        Raises:
            UserError: the file has changed, or the data type is not known.
        """
        stored = _STORED.get(self.data_type)
        if stored is None:
            raise UserError(f'{self}: data type {self.data_type} is not known')
        shape = (self.size,) if self.data_type == 'string' else self.shape
        array = self._values(stored).reshape(shape)
        if self.data_type == 'bfloat16':
            # The upper half of a float32. Of a 0-dimensional array, NumPy makes a scalar.
            return np.asarray(array.astype('<u4') << np.uint32(16)).view('<f4')
        if self.data_type == 'bool':
            return np.asarray(array != 0)
        return array

    def _values(self, stored):
        """The values as a map of the file, flat, of the NumPy type `stored`."""
        if not self.size:
            return np.empty(0, stored)
        try:
            return np.asarray(np.memmap(self.path, stored, 'r', self.offset,
                                        (self.size // stored.itemsize,)))
        except (OSError, ValueError) as error:
            raise UserError(f'{self}: not readable any more ({error})') from None

    def to_numpy(self):
        """Return the values in the layout and shape they had in TensorFlow.

        Raises:
            UserError: as `read`, or the layout is not known or cannot hold `original_shape`.
        """
        if self.data_type == 'string':
            return self.read()
        try:
            return layouts.to_plain(self.read(), self.format, self.original_format,
                                    self.original_shape)
        except UserError as error:
            raise UserError(str(error) if str(error).startswith(str(self))
                            else f'{self}: {error}') from None

    def __str__(self):
        return f'{self.path}: {self.kind} {self.index}'


DumpFile = namedtuple('DumpFile', 'path version time op_name inputs outputs buffers spaces '
                                  'attributes')
DumpFile.__doc__ = """A dump file.

time: as the device counts it; inputs, outputs, buffers, spaces: tuples of `Tensor`; attributes:
OrderedDict of name -> text.
"""


def open_dump(path):
    """Return the `DumpFile` at `path`; no tensor is read.

    Raises:
        UserError: not a dump file, cut short, or it contradicts itself.
    """
    with _message(path) as (data, start, end):
        header, holders = dump_proto.parse(data, start, end)
        size = len(data)
    offset = end
    tensors = {}
    for kind in ('input', 'output', 'buffer', 'space'):
        tensors[kind] = []
        for index, (message, first, last) in enumerate(holders[kind]):
            if start:  # tensors follow the header
                span = offset, offset + message.size
                offset += message.size
            elif message.size in (0, last - first):
                span = first, last
            else:
                raise UserError(f'{path}: {kind} {index}: {last - first} bytes, its header tells '
                                f'{message.size}; dump again')
            tensors[kind].append(_tensor(path, kind, index, message, *span))
    if offset != size:
        raise UserError(f'{path}: {size} bytes, its header tells {offset}; it is incomplete or '
                        'damaged, copy it again')
    return DumpFile(path, text(header.version), header.dump_time, text(header.op_name),
                    tuple(tensors['input']), tuple(tensors['output']), tuple(tensors['buffer']),
                    tuple(tensors['space']),
                    OrderedDict((text(attr.name), text(attr.value)) for attr in header.attr))


def read_op_name(path):
    """Return the operator's name in a dump file, reading little else; '' if it has none.

    Raises:
        UserError: not a dump file, or cut short.
    """
    name = b''
    with _message(path) as (data, start, end):
        for number, wire_type, _, value, stop in dump_proto.scan_fields(data, start, end):
            if (number == dump_proto.DumpData.OP_NAME_FIELD_NUMBER
                    and wire_type == dump_proto.LENGTH_DELIMITED):
                if stop - value > dump_proto.MAX_HEADER:
                    raise ValueError('name too long')
                name = data[value:stop]
    return text(name)


@contextlib.contextmanager
def _message(path):
    """Yield a map of a dump file, and start and end of the message in it; start 0: a bare one.

    What goes wrong in the block becomes a UserError.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f'{path}: not a file')
        with open(path, 'rb') as stream, \
                mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            length = _LENGTH.unpack_from(data)[0] if len(data) >= _LENGTH.size else len(data)
            if _LENGTH.size + length <= len(data):
                if not 0 < length <= dump_proto.MAX_HEADER:
                    raise ValueError('header length')
                yield data, _LENGTH.size, _LENGTH.size + length
            else:
                yield data, 0, len(data)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from None
    except (ValueError, DecodeError):
        raise UserError(f'{path}: not an NPU dump file, or incomplete or damaged; copy it again'
                        ) from None


def _tensor(path, kind, index, message, start, end):
    """Return the `Tensor` of a message, its values being bytes start to end of the file."""
    if kind in ('buffer', 'space'):
        return Tensor(path, start, kind, index, 'uint8', 'ND', (end - start,), None, (),
                      end - start, None)
    original_format = original_op = None
    if kind == 'output' and message.HasField('original_op'):
        original = message.original_op
        original_format = _format_name(original.format)
        if original.name:
            original_op = text(original.name), original.output_index
    tensor = Tensor(path, start, kind, index,
                    _TYPES.get(message.data_type, (f'type {message.data_type}', ''))[0],
                    _format_name(message.format), _shape(message.shape), original_format,
                    _shape(message.original_shape), end - start, original_op)
    if not tensor.size and not tensor.shape:
        tensor = tensor._replace(shape=(0,))  # an optional input that was not given
    _check_size(tensor)
    return tensor


def _check_size(tensor):
    """Raise a UserError if shape and size of a tensor contradict each other."""
    count = 1
    for dimension in tensor.shape:
        # Zeros do not count: NumPy refuses huge shapes even of empty arrays.
        count *= max(dimension, 1)
        if count > _MAX_ELEMENTS or len(tensor.shape) > MAX_DIMENSIONS:
            raise UserError(f'{tensor}: impossible shape; dump again')
    if len(tensor.original_shape) > MAX_DIMENSIONS:
        raise UserError(f'{tensor}: impossible original shape; dump again')
    if tensor.data_type in _STORED and tensor.data_type != 'string':
        expected = count * _STORED[tensor.data_type].itemsize if 0 not in tensor.shape else 0
        if tensor.size != expected:
            raise UserError(f'{tensor}: {tensor.size} bytes, its shape {list(tensor.shape)} of '
                            f'{tensor.data_type} takes {expected}; dump again')


def _shape(message):
    """The dimensions in a Shape message; no more than it takes to see that they are too many."""
    return tuple(message.dim[:MAX_DIMENSIONS + 1])


def _format_name(number):
    # Newer releases put group count and C0 into the upper bytes.
    number = number & 0xff if number > 0 else number
    return _FORMATS.get(number, f'format {number}')


NewTensor = namedtuple('NewTensor', 'array data_type format original_op original_shape '
                                    'original_format', defaults=(None, 'ND', None, None, None))
NewTensor.__doc__ = """A tensor to be written.

array: in the layout `format`; data_type: such as 'bfloat16'; default: the array's; original_op,
original_shape, original_format: as in `Tensor`, the first and last for outputs only.
"""


def write_dump(path, op_name, inputs=(), outputs=(), buffers=(), spaces=(), time=0,
               attributes=None, bare=False):
    """Write a dump file.

    Args:
        inputs, outputs: `NewTensor`s or arrays; buffers, spaces: bytes objects.
        attributes: dict of name -> text.
        bare: write the previous generation, tensors within the message.

    Raises:
        UserError: a data type or format that dump files do not have.
    """
    header = dump_proto.DumpData(version=b'2.0', dump_time=time, op_name=op_name.encode())
    arrays = []
    for kind, tensors in (('input', inputs), ('output', outputs)):
        for tensor in tensors:
            new = tensor if isinstance(tensor, NewTensor) else NewTensor(tensor)
            arrays.append(_describe(getattr(header, kind).add(), new, path))
    for kind, blocks in (('buffer', buffers), ('space', spaces)):
        for block in blocks:
            arrays.append(np.frombuffer(block, np.uint8))
            getattr(header, kind).add(size=len(block))
    for name, value in (attributes or {}).items():
        header.attr.add(name=name.encode(), value=value.encode())
    if bare:
        messages = (*header.input, *header.output, *header.buffer, *header.space)
        for message, array in zip(messages, arrays):
            message.data = array.tobytes()
    content = header.SerializeToString()
    with atomic_path(path) as temporary, open(temporary, 'wb') as stream:
        stream.write(content if bare else _LENGTH.pack(len(content)) + content)
        for array in () if bare else arrays:
            stream.write(np.ascontiguousarray(array).data)


def _describe(message, tensor, path):
    """Fill in an OpInput or OpOutput message; return the array of the stored type."""
    array = np.asarray(tensor.array)
    data_type = tensor.data_type or array.dtype.name
    for name, known in ((data_type, _TYPE_NUMBERS), (tensor.format, _FORMAT_NUMBERS),
                        (tensor.original_format or 'ND', _FORMAT_NUMBERS)):
        if name not in known:
            raise UserError(f'{path}: dump files have no {name}; expected one of '
                            f'{" ".join(known)}')
    if data_type == 'bool':
        array = array != 0
    array = np.asarray(_to_bfloat16(array) if data_type == 'bfloat16'
                       else array.astype(_STORED[data_type]))
    message.data_type, message.format = _TYPE_NUMBERS[data_type], _FORMAT_NUMBERS[tensor.format]
    message.shape.dim.extend(array.shape)
    message.original_shape.dim.extend(tensor.original_shape or ())
    message.size = array.nbytes
    if hasattr(message, 'original_op'):
        if tensor.original_op:
            name, message.original_op.output_index = tensor.original_op
            message.original_op.name = name.encode()
        if tensor.original_op or tensor.original_format:
            message.original_op.format = _FORMAT_NUMBERS[tensor.original_format or 'ND']
    return array


def _to_bfloat16(array):
    """Return the upper halves of the float32 values, rounded to even, as uint16."""
    values = np.asarray(array, '<f4')
    bits = values.view('<u4')
    rounded = (bits + np.uint32(0x7fff) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    # Rounding up could turn a NaN into an infinity.
    return np.where(np.isnan(values), bits >> np.uint32(16) | np.uint32(0x40), rounded
                    ).astype('<u2')


Stats = namedtuple('Stats', 'kind index data_type shape max min mean')
Stats.__doc__ = """A row of a statistics dump.

kind: 'input' or 'output'; data_type: such as 'float32'; shape: tuple; max, min, mean: floats, NaN
where the device wrote none.
"""
_COLUMNS = {'kind': ('Input/Output', 0), 'index': ('Index', 1), 'data_type': ('Data Type', 3),
            'shape': ('Shape', 5), 'max': ('Max Value', 6), 'min': ('Min Value', 7),
            'mean': ('Avg Value', 8)}


def read_stats(path):
    """Return the list of `Stats` in a statistics dump, found by the header if it has one.

    Raises:
        UserError: not readable, or not such a file.
    """
    rows = read_csv(path, _MAX_STATS)
    places = {field: place for field, (_, place) in _COLUMNS.items()}
    if rows and rows[0][1][0].strip() == _COLUMNS['kind'][0]:
        titles = [title.strip() for title in rows.pop(0)[1]]
        places = {field: titles.index(title) if title in titles else None
                  for field, (title, _) in _COLUMNS.items()}
    stats = []
    for line, row in rows:
        try:
            stats.append(_stats(row, places))
        except (ValueError, IndexError):
            raise UserError(f'{path}:{line}: not of a statistics dump; expected Input or Output, '
                            'index, size, type, format, shape, maximum, minimum, mean') from None
    return stats


def _stats(row, places):
    """The `Stats` of a row; raises ValueError or IndexError if it is none."""
    cells = {field: '' if place is None else row[place].strip()
             for field, place in places.items()}
    kind = cells['kind'].lower()
    if kind not in ('input', 'output'):
        raise ValueError(kind)
    data_type = re.sub('^dt_', '', cells['data_type'].lower())
    shape = tuple(int(size) for size in re.findall('[0-9]{1,18}', cells['shape']))
    numbers = [float(cells[field]) if cells[field] not in ('', '-') else math.nan
               for field in ('max', 'min', 'mean')]
    return Stats(kind, int(cells['index']), _STATS_TYPES.get(data_type, data_type), shape, *numbers)
