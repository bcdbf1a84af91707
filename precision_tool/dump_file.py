"""Dump files of NPU operators, read lazily.

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
from typing import NamedTuple, Optional, Tuple

import numpy as np
from google.protobuf.message import DecodeError

from precision_tool import layouts
from precision_tool.reading import MAX_DIMENSIONS, message_classes, read_csv
from pylib import UserError

# Number in the header -> name, and the NumPy type of the stored bytes.
TYPES = {
    0: ('undefined', 'i1'), 1: ('float32', '<f4'), 2: ('float16', '<f2'), 3: ('int8', 'i1'),
    4: ('uint8', 'u1'), 5: ('int16', '<i2'), 6: ('uint16', '<u2'), 7: ('int32', '<i4'),
    8: ('int64', '<i8'), 9: ('uint32', '<u4'), 10: ('uint64', '<u8'), 11: ('bool', 'u1'),
    12: ('float64', '<f8'), 13: ('string', 'u1'), 16: ('complex64', '<c8'),
    17: ('complex128', '<c16'), 27: ('bfloat16', '<u2'),
}
FORMATS = {0: 'NCHW', 1: 'NHWC', 2: 'ND', 3: 'NC1HWC0', 4: 'FRACTAL_Z', 16: 'HWCN', 27: 'NDHWC',
           29: 'FRACTAL_NZ', 30: 'NCDHW', 31: 'DHWCN', 32: 'NDC1HWC0', 33: 'FRACTAL_Z_3D',
           40: 'RESERVED'}
STORED = {name: np.dtype(stored) for name, stored in TYPES.values()}
_STATS_TYPES = {'float': 'float32', 'bf16': 'bfloat16', 'double': 'float64'}

# Texts are bytes here: of those that are not UTF-8, protobuf would complain on its own to standard
# error.
_CLASSES = message_classes('toolkit.dumpdata', {
    'Shape': 'uint64* dim 1',
    'OriginalOp': 'bytes name 1, uint32 output_index 2, int32 data_type 3, int32 format 4',
    'DimRange': 'uint64 dim_start 1, uint64 dim_end 2',
    'OpOutput': 'int32 data_type 1, int32 format 2, Shape shape 3, OriginalOp original_op 4, '
                'bytes data 5, uint64 size 6, Shape original_shape 7, int32 sub_format 8, '
                'uint64 address 9, DimRange* dim_range 10, uint64 offset 11',
    'OpInput': 'int32 data_type 1, int32 format 2, Shape shape 3, bytes data 4, uint64 size 5, '
               'Shape original_shape 6, int32 sub_format 7, uint64 address 8, uint64 offset 9',
    'OpBuffer': 'int32 buffer_type 1, bytes data 2, uint64 size 3',
    'OpSpace': 'int32 type 1, bytes data 2, uint64 size 3',
    'OpAttr': 'bytes name 1, bytes value 2',
    'DumpData': 'bytes version 1, uint64 dump_time 2, OpOutput* output 3, OpInput* input 4, '
                'OpBuffer* buffer 5, bytes op_name 6, OpAttr* attr 7, OpSpace* space 8',
})
DumpData = _CLASSES['DumpData']
# Fields of DumpData that hold tensors: number -> (name, class, number of its `data` field).
_HOLDERS = {field.number: (field.name, _CLASSES[field.message_type.name],
                           field.message_type.fields_by_name['data'].number)
            for field in DumpData.DESCRIPTOR.fields
            if field.message_type and 'data' in field.message_type.fields_by_name}
_ORDER = 'input', 'output', 'buffer', 'space'   # of the tensors behind a header
LENGTH = struct.Struct('<Q')                    # of the header, in front of it
_DELIMITED = 2                                  # the wire type of bytes and messages

MAX_HEADER = 4 << 20       # bytes without tensors; the largest operators take some 100 KB
MAX_FIELDS = 1 << 16       # fields of the header and its tensors: each may become an object
_MAX_ELEMENTS = 1 << 58    # x 16 bytes is what NumPy can address
_MAX_STATS = 16 << 20      # bytes of a CSV file; each tensor takes a line


class Tensor(NamedTuple):
    """A tensor in a dump file; its values stay there until they are asked for.

    Attributes:
        path, offset: where the values are; size: their bytes.
        kind: 'input' or 'output'; index: among those of its kind.
        data_type: such as 'float32'; format: layout such as 'NC1HWC0'; shape: as stored.
        original_format, original_shape: before the NPU's layout; None and () if unknown.
        original_op: (name, output index) of the TensorFlow tensor it is, or None.
    """

    path: str
    offset: int
    size: int
    kind: str
    index: int
    data_type: str
    format: str
    shape: Tuple[int, ...]
    original_format: Optional[str]
    original_shape: Tuple[int, ...]
    original_op: Optional[Tuple[str, int]]

    def read(self):
        """Return the values as stored: an array of `shape`.

        They are a read-only map of the file, except that bfloat16 becomes float32, and bool a
        copy. Strings are their raw bytes, uint8 [size].

        Raises:
            UserError: the file has changed, or the data type is not known.
        """
        stored = STORED.get(self.data_type)
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
        values = self.read()
        if self.data_type == 'string':
            return values
        try:
            return layouts.to_plain(values, self.format, self.original_format,
                                    self.original_shape)
        except UserError as error:
            raise UserError(f'{self}: {error}') from None

    def __str__(self):
        return f'{self.path}: {self.kind} {self.index}'


class DumpFile(NamedTuple):
    """What a dump file holds: the operator's name, '' if it tells none, and [Tensor]s."""

    op_name: str
    inputs: list
    outputs: list

    @property
    def tensors(self):
        return self.inputs + self.outputs


def open_dump(path):
    """Return the `DumpFile` at `path`; no tensor is read.

    Raises:
        UserError: not a dump file, cut short, or it contradicts itself.
    """
    with _message(path) as (data, start, end):
        header, holders = _parse(data, start, end)
        size = len(data)
    offset = end
    tensors = {kind: [] for kind in _ORDER}
    for kind in _ORDER:
        for index, (message, first, last) in enumerate(holders[kind]):
            if start:  # tensors follow the header
                span = offset, offset + message.size
                offset += message.size
            elif message.size in (0, last - first):
                span = first, last
            else:
                raise UserError(f'{path}: {kind} {index}: {last - first} bytes, its header tells '
                                f'{message.size}; dump again')
            if kind in ('input', 'output'):
                tensor = _tensor(path, kind, index, message, *span)
                fault = _fault(tensor)
                if fault:
                    raise UserError(f'{tensor}: {fault}')
                tensors[kind].append(tensor)
    if offset != size:
        raise UserError(f'{path}: {size} bytes, its header tells {offset}; it is incomplete or '
                        'damaged, copy it again')
    return DumpFile(_text(header.op_name), tensors['input'], tensors['output'])


def read_op_name(path):
    """Return the operator's name in a dump file, reading little else; '' if it has none.

    Raises:
        UserError: not a dump file, or cut short.
    """
    name = b''
    with _message(path) as (data, start, end):
        for number, wire_type, _, value, stop in _fields(data, start, end):
            if number == DumpData.OP_NAME_FIELD_NUMBER and wire_type == _DELIMITED:
                if stop - value > MAX_HEADER:
                    raise ValueError('name too long')
                name = data[value:stop]
    return _text(name)


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
            length = LENGTH.unpack_from(data)[0] if len(data) >= LENGTH.size else len(data)
            if LENGTH.size + length <= len(data):
                if not 0 < length <= MAX_HEADER:
                    raise ValueError('header length')
                yield data, LENGTH.size, LENGTH.size + length
            else:
                yield data, 0, len(data)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from None
    except (ValueError, DecodeError):
        raise UserError(f'{path}: not an NPU dump file, or incomplete or damaged; copy it again'
                        ) from None


def _parse(data, start, end):
    """Parse the DumpData message data[start:end] without reading the tensors in it.

    Returns:
        The DumpData message without tensors, and {field name: list of (message without data,
        start, end of its data)} of `_HOLDERS`.

    Raises:
        ValueError, google.protobuf.message.DecodeError: not such a message.
    """
    budget = _Budget()
    rest, holders = [], {name: [] for name, _, _ in _HOLDERS.values()}
    for number, wire_type, first, value, stop in _fields(data, start, end):
        if number not in _HOLDERS or wire_type != _DELIMITED:
            rest.append(budget.take(data, first, stop))
            continue
        name, message_class, data_number = _HOLDERS[number]
        pieces, span = [budget.take(data, first, first)], (stop, stop)
        for inner, inner_type, inner_first, inner_value, inner_stop in _fields(data, value, stop):
            if inner == data_number and inner_type == _DELIMITED:
                span = inner_value, inner_stop
            else:
                pieces.append(budget.take(data, inner_first, inner_stop))
        holders[name].append((message_class.FromString(b''.join(pieces)),) + span)
    header = DumpData.FromString(b''.join(rest))
    if not header.ListFields() and not any(holders.values()):
        raise ValueError('nothing known in it')
    return header, holders


class _Budget:
    """Bounds on what a header may hold."""

    def __init__(self):
        self.bytes = MAX_HEADER
        self.fields = MAX_FIELDS

    def take(self, data, start, end):
        """Return data[start:end], or raise a ValueError if that makes too much."""
        self.bytes -= end - start
        self.fields -= 1
        if min(self.bytes, self.fields) < 0:
            raise ValueError('header too large')
        return data[start:end]


def _fields(data, start, end):
    """Yield (number, wire type, start, start of the value, end) of the fields of a message.

    Args:
        data: bytes or a map of them; the message is data[start:end].

    Raises:
        ValueError: not a message, or cut short.
    """
    position = start
    while position < end:
        tag, value = _varint(data, position, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            stop = _varint(data, value, end)[1]
        elif wire_type == _DELIMITED:
            length, value = _varint(data, value, end)
            stop = value + length
        elif wire_type in (1, 5):
            stop = value + (8 if wire_type == 1 else 4)
        else:
            raise ValueError(f'wire type {wire_type}')
        if not number or stop > end:
            raise ValueError('field out of bounds')
        yield number, wire_type, position, value, stop
        position = stop


def _varint(data, position, end):
    """Return a variable-length integer and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7f) << shift
        if byte < 0x80:
            return value, position
    raise ValueError('integer out of bounds')


def _text(value):
    """The text of a bytes field; what is not UTF-8 is marked, not refused."""
    return value.decode('utf-8', 'replace')


def _tensor(path, kind, index, message, start, end):
    """The `Tensor` of an OpInput or OpOutput, its values being bytes start to end of the file."""
    original_format = original_op = None
    if kind == 'output' and message.HasField('original_op'):
        original = message.original_op
        original_format = _format_name(original.format)
        if original.name:
            original_op = _text(original.name), original.output_index
    shape = _dimensions(message.shape)
    if start == end and not shape:
        shape = (0,)  # an optional input that was not given
    data_type, _ = TYPES.get(message.data_type, (f'type {message.data_type}', ''))
    return Tensor(path=path, offset=start, size=end - start, kind=kind, index=index,
                  data_type=data_type, format=_format_name(message.format), shape=shape,
                  original_format=original_format,
                  original_shape=_dimensions(message.original_shape), original_op=original_op)


def _dimensions(shape):
    """The dimensions in a Shape message; no more than it takes to see that they are too many."""
    return tuple(shape.dim[:MAX_DIMENSIONS + 1])


def _format_name(number):
    # Newer releases put group count and C0 into the upper bytes.
    number = number & 0xff if number > 0 else number
    return FORMATS.get(number, f'format {number}')


def _fault(tensor):
    """How shape and size of a tensor contradict each other, or ''."""
    count = 1
    for dimension in tensor.shape:
        # Zeros do not count: NumPy refuses huge shapes even of empty arrays.
        count *= max(dimension, 1)
        if count > _MAX_ELEMENTS or len(tensor.shape) > MAX_DIMENSIONS:
            return 'impossible shape; dump again'
    if len(tensor.original_shape) > MAX_DIMENSIONS:
        return 'impossible original shape; dump again'
    if tensor.data_type in STORED and tensor.data_type != 'string':
        expected = count * STORED[tensor.data_type].itemsize if 0 not in tensor.shape else 0
        if tensor.size != expected:
            return (f'{tensor.size} bytes, its shape {list(tensor.shape)} of {tensor.data_type} '
                    f'takes {expected}; dump again')
    return ''


class Stats(NamedTuple):
    """A row of a statistics dump; a number is NaN where the device wrote none."""

    kind: str        # 'input' or 'output'
    index: int
    data_type: str   # such as 'float32'
    shape: Tuple[int, ...]
    max: float
    min: float
    mean: float


# Field of Stats -> title of its column, and its place in files without titles.
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
    numbers = {field: float(cells[field]) if cells[field] not in ('', '-') else math.nan
               for field in ('max', 'min', 'mean')}
    return Stats(kind=kind, index=int(cells['index']),
                 data_type=_STATS_TYPES.get(data_type, data_type),
                 shape=tuple(int(size) for size in re.findall('[0-9]{1,18}', cells['shape'])),
                 **numbers)
