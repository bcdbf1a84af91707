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

from precision_tool import data_types, layouts
from precision_tool.reading import MAX_DIMENSIONS, add_fault, message_classes, read_rows
from pylib import UserError

# The layouts by their numbers.
_FORMATS = """
    NCHW NHWC ND NC1HWC0 FRACTAL_Z NC1C0HWPAD NHWC1C0 FSR_NCHW FRACTAL_DECONV C1HWNC0
    FRACTAL_DECONV_TRANSPOSE FRACTAL_DECONV_SP_STRIDE_TRANS NC1HWC0_C04 FRACTAL_Z_C04 CHWN
    FRACTAL_DECONV_SP_STRIDE8_TRANS HWCN NC1KHKWHWC0 BN_WEIGHT FILTER_HWCK HASHTABLE_LOOKUP_LOOKUPS
    HASHTABLE_LOOKUP_KEYS HASHTABLE_LOOKUP_VALUE HASHTABLE_LOOKUP_OUTPUT HASHTABLE_LOOKUP_HITS
    C1HWNCoC0 MD NDHWC FRACTAL_ZZ FRACTAL_NZ NCDHW DHWCN NDC1HWC0 FRACTAL_Z_3D CN NC DHWNC
    FRACTAL_Z_3D_TRANSPOSE FRACTAL_ZN_LSTM FRACTAL_Z_G RESERVED ALL NULL ND_RNN_BIAS FRACTAL_ZN_RNN
    NYUV NYUV_A NCL FRACTAL_Z_WINO C1HWC0"""
FORMATS = dict(enumerate(_FORMATS.split()))
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

NO_DATA = 'the device had no data for it'   # ends a fault
_NANO_MAGIC = 0x5a5a5a5a   # behind the length, in dumps of small chips

MAX_HEADER = 4 << 20       # bytes without tensors; the largest operators take some 100 KB
MAX_FIELDS = 1 << 16       # fields of the header and its tensors: each may become an object
_MAX_ELEMENTS = 1 << 58    # x 16 bytes is what NumPy can address
_MAX_PLACED = 1 << 28      # 2 GiB of places
_MAX_STATS = 16 << 20      # bytes of a CSV file; each tensor takes a line


class Tensor(NamedTuple):
    """A tensor in a dump file; its values stay there until they are asked for.

    Attributes:
        path, offset: where the values are; size: their bytes.
        kind: 'input' or 'output'; index: among those of its kind.
        data_type: such as 'float32'; format: layout such as 'NC1HWC0'; groups: of a convolution
            that these are the weights of; shape: as stored.
        told: the shape in the file: -1 are unknown dimensions, () is none; c0: the size of blocks
            that the format names, or 0.
        original_format, original_shape: before the NPU's layout; None and () if unknown.
        original_op: (name, output index) of the TensorFlow tensor it is, or None.
        note: what is unusual about it, such as padding, or ''.
        fault: why it has no values, or ''.
    """

    path: str
    offset: int
    size: int
    kind: str
    index: int
    data_type: str
    format: str
    groups: int
    shape: Tuple[int, ...]
    told: Tuple[int, ...]
    c0: int
    original_format: Optional[str]
    original_shape: Tuple[int, ...]
    original_op: Optional[Tuple[str, int]]
    note: str = ''
    fault: str = ''

    @property
    def has_numbers(self):
        """Whether its type is one of numbers, not of text, handles or unknown bytes."""
        return bool(data_types.by_name(self.data_type).per_item)

    @property
    def count(self):
        """Numbers that it should have, by its shape."""
        return _product(self.shape)

    @property
    def present(self):
        """Numbers that are there: fewer if the device wrote a part."""
        data_type = data_types.by_name(self.data_type)
        return min(self.count, self.size // data_type.stored.itemsize * data_type.per_item)

    @property
    def is_absent(self):
        """Whether the device told that there is no data."""
        return self.fault.endswith(NO_DATA)

    @property
    def is_shapeless(self):
        """Whether the device told no shape, though there are several values."""
        return not self.told and not self.original_shape and bool(self.shape)

    def with_original_shape(self, shape):
        """The same tensor if the shape it had in TensorFlow was `shape`.

        As it is stored follows from that where the file does not tell it.
        """
        tensor = self._replace(original_shape=tuple(shape))
        if self.fault or self.told and min(self.told) >= 0:
            return tensor
        return _with_shape(tensor)

    def read(self):
        """Return the values as stored: an array of `shape`.

        They are a read-only map of the file, except that types which NumPy lacks are copied, see
        `data_types`; what has no numbers is bytes [size]. Of a tensor that is there in part, only
        that part is returned, flat.

        Raises:
            UserError: it has no values, or the file has changed.
        """
        if self.fault:
            raise UserError(f'{self}: {self.fault}')
        data_type = data_types.by_name(self.data_type)
        if not data_type.per_item:
            return self._items(data_type.stored, self.size // data_type.stored.itemsize)
        present = self.present
        values = self._items(data_type.stored, -(-present // data_type.per_item))
        if data_type.decode:
            values = data_type.decode(values)[:present]
        return values.reshape(self.shape) if present == self.count else values

    def read_bytes(self):
        """Return its bytes, whatever their type and shape; raises as `read`."""
        if self.fault:
            raise UserError(f'{self}: {self.fault}')
        return self._items(np.dtype('u1'), self.size).tobytes()

    def _items(self, stored, count):
        """That many items of the NumPy type `stored`, as a map of the file."""
        if not count:
            return np.empty(0, stored)
        try:
            return np.asarray(np.memmap(self.path, stored, 'r', self.offset, (count,)))
        except (OSError, ValueError) as error:
            raise UserError(f'{self}: not readable any more ({error})') from None

    def to_numpy(self):
        """Return the values in the layout and shape they had in TensorFlow.

        Those of a part, and what has no numbers, are as `read` returns them.

        Raises:
            UserError: as `read`, or the layout is not known or cannot hold `original_shape`.
        """
        values = self.read()
        if not self.has_numbers or self.present < self.count:
            return values
        return self._to_plain(values)

    def part(self):
        """Return (values, places, total) of what is there of a tensor.

        values: flat; places: of each of them in the flattened array that `to_numpy` of the whole
        tensor would be; total: numbers in that.

        Raises:
            UserError: as `to_numpy`.
        """
        values = self.read().reshape(-1)
        if self.format == 'ND' and _product(self.original_shape or self.shape) == self.count:
            return values, np.arange(len(values)), self.count
        if self.count > _MAX_PLACED:
            raise UserError(f'{self}: {len(values)} of {self.count} values are there, of too many '
                            f'to find their places in layout {self.format}')
        # Where each element of the plain array is stored.
        stored = self._to_plain(np.arange(self.count).reshape(self.shape)).reshape(-1)
        places = np.flatnonzero(stored < self.present)
        return values[stored[places]], places, stored.size

    def _to_plain(self, array):
        try:
            return layouts.to_plain(array, self.format, self.original_format, self.original_shape,
                                    self.groups)
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

    @property
    def notes(self):
        """What is unusual about its tensors: a list of lines."""
        return [f'{tensor.kind} {tensor.index}: {text}' for tensor in self.tensors
                for text in (tensor.fault, tensor.note) if text]


def open_dump(path):
    """Return the `DumpFile` at `path`; no tensor is read.

    A tensor that is not there, or is described impossibly, has a `fault`; the others are read all
    the same. Bytes behind the last tensor are passed over.

    Raises:
        UserError: not a dump file, or its header is damaged.
    """
    with _message(path) as (data, start, end):
        header, holders = _parse(data, start, end)
        size = len(data)
    tensors = {kind: [] for kind in _ORDER}
    described = [(kind, index, *holder) for kind in _ORDER
                 for index, holder in enumerate(holders[kind])]
    absent = _without_data([message for _, _, message, _, _ in described], size - end
                           ) if start else set()
    offset = end
    for place, (kind, index, message, first, last) in enumerate(described):
        fault = ''
        if not start:  # the tensors are in the message
            span = first, last - first
        elif place in absent:
            span, fault = (offset, 0), f'null address ({message.size} bytes told): {NO_DATA}'
        else:  # they follow the header
            span = offset, message.size
            offset += message.size
            if offset > size:
                fault = (f'the header tells {message.size} bytes, the file ends after '
                         f'{max(size - span[0], 0)}; it is incomplete, copy it again')
                span = 0, 0
        if kind in ('input', 'output'):
            tensors[kind].append(_tensor(path, kind, index, message, *span, fault))
    return DumpFile(_text(header.op_name), tensors['input'], tensors['output'])


def _without_data(messages, size):
    """Places of the tensors that take no bytes behind the header, though it tells their sizes.

    Args:
        messages: of all tensors in their order; size: of what is behind the header.
    """
    told = sum(message.size for message in messages)
    null = {place for place, message in enumerate(messages)
            if message.size and not getattr(message, 'address', 1)}
    rest = told - sum(messages[place].size for place in null)
    # Older releases tell no addresses at all.
    has_addresses = any(getattr(message, 'address', 0) for message in messages)
    if told != size and (rest == size or has_addresses and rest < size):
        return null
    return set()


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
                if data[LENGTH.size:LENGTH.size + 4] == struct.pack('<I', _NANO_MAGIC):
                    raise UserError(f'{path}: a dump of an Ascend Nano (TLV, not protobuf), which '
                                    'is not read here; convert it with msaccucmp.py')
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


def _tensor(path, kind, index, message, start, size, fault):
    """The `Tensor` of an OpInput or OpOutput, its values being `size` bytes from `start` on."""
    original_format = original_op = None
    if kind == 'output' and message.HasField('original_op'):
        original = message.original_op
        original_format = _format_name(original.format)
        if original.name:
            original_op = _text(original.name), original.output_index
    told, original_shape = _dimensions(message.shape), _dimensions(message.original_shape)
    tensor = Tensor(path=path, offset=start, size=size, kind=kind, index=index,
                    data_type=data_types.by_number(message.data_type).name,
                    format=_format_name(message.format), groups=_groups(message), shape=told,
                    told=told, c0=_c0(message.format), original_format=original_format,
                    original_shape=() if min(original_shape, default=0) < 0 else original_shape,
                    original_op=original_op, fault=fault or _fault(told, original_shape))
    return tensor if tensor.fault else _with_shape(tensor)


def _dimensions(shape):
    """The dimensions in a Shape message, -1 for unknown ones.

    No more than it takes to see that they are too many.
    """
    return tuple(size if size < 1 << 63 else size - (1 << 64)
                 for size in shape.dim[:MAX_DIMENSIONS + 1])


def _fault(shape, original_shape):
    """Why a tensor cannot have these shapes, or ''."""
    # Zeros do not count: NumPy refuses huge shapes even of empty arrays.
    if len(shape) > MAX_DIMENSIONS or _product(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        return 'impossible shape; dump again'
    if len(original_shape) > MAX_DIMENSIONS:
        return 'impossible original shape; dump again'
    return ''


def _product(sizes):
    product = 1
    for size in sizes:
        product *= size
    return product


def _shape_in_numbers(shape, original_shape, size, per_item):
    """The shape of packed numbers, which devices give in bytes too, in numbers.

    It is in bytes if the original shape or, without one, the size says exactly so.

    Args:
        per_item: numbers in a byte; size: bytes.
    """
    count = _product(shape)
    if not shape or count <= 0:
        return shape
    wanted = _product(original_shape) if original_shape else 0
    if wanted == count or wanted != count * per_item and (
            size != count or size == -(-count // per_item)):
        return shape
    return original_shape if wanted == count * per_item else (*shape[:-1], shape[-1] * per_item)


def _with_shape(tensor):
    """A tensor with the shape that its values, as many as there are, are stored in."""
    data_type = data_types.by_name(tensor.data_type)
    here = tensor.size // data_type.stored.itemsize * data_type.per_item
    told = f'shape {list(tensor.told)}' if tensor.told else 'no shape'
    if not data_type.per_item:
        return tensor._replace(shape=(tensor.size // data_type.stored.itemsize,))
    if min(tensor.told, default=-1) >= 0:
        shape, notes = tensor.told, []
        if data_type.per_item > 1:
            shape = _shape_in_numbers(shape, tensor.original_shape, tensor.size, data_type.per_item)
    else:
        shape = _derived_shape(tensor, here, data_type.per_item)
        notes = [f'{told}, taken as {list(shape)}' if tensor.told or tensor.original_shape
                 else f'{told}, {here} values'] if shape and (tensor.told or here) else []
    count = _product(shape)
    if here < count:
        notes.append(f'{here} of the {count} values of shape {list(shape)} are there')
    elif here - count >= data_type.per_item:
        needed = -(-count // data_type.per_item) * data_type.stored.itemsize
        notes.append(f'{tensor.size} bytes, shape {list(shape)} takes {needed}; the rest is '
                     'padding')
    return tensor._replace(shape=shape, note='; '.join(notes))


def _derived_shape(tensor, here, per_item):
    """The shape of a tensor that is described without one, or with unknown dimensions.

    Args:
        here: numbers that are there; per_item: as of `DataType`.
    """
    told = tensor.told
    if here and tensor.original_shape:
        fitting = [shape for shape in layouts.stored_shapes(
            tensor.format, tensor.original_format, tensor.original_shape, tensor.groups,
            _c0_sizes(tensor)) if _is_like(shape, told) and not _fault(shape, ())]
        # The size tells which; if none, it has padding, or is of a part.
        exact = [shape for shape in fitting if 0 <= here - _product(shape) < per_item]
        if fitting:
            return (exact or fitting)[0]
    if not told and here == per_item:
        return ()
    rest = _product(each for each in told if each != -1)
    if told.count(-1) == 1 and rest > 0 and not here % rest:
        return tuple(here // rest if each == -1 else each for each in told)
    # An optional input that was not given, or a shape that the device did not know.
    return (here,)


def _is_like(shape, told):
    """Whether a shape may be one that is told with -1 for unknown dimensions, -2 for any."""
    return told in ((), (-2,)) or len(shape) == len(told) and all(
        each in (-1, size) for size, each in zip(shape, told))


# C0 of the types that have another one than 16 on all chips.
_WIDE_C0 = {'int8': 32, 'uint8': 32, 'int4': 64}


def _c0_sizes(tensor):
    """The sizes C0 may have, the likeliest first; on some chips all blocks take 32 bytes."""
    of_bytes = 32 // data_types.by_name(tensor.data_type).stored.itemsize
    return tuple(filter(None, (tensor.c0, _WIDE_C0.get(tensor.data_type), 16, of_bytes)))


def _format_name(number):
    # Newer releases put group count and C0 into the upper bytes.
    number = number & 0xff if number > 0 else number
    return FORMATS.get(number, f'format {number}')


def _c0(number):
    """The size C0 that the upper bits of a format tell, as one more than its logarithm; or 0."""
    return 1 << (max(number, 0) >> 24 & 0xf) >> 1


def _groups(message):
    """Groups of a convolution, from a field of their own or from the format's upper bytes."""
    return max(message.sub_format or max(message.format, 0) >> 8 & 0xffff, 1)


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


def read_stats(path, faults):
    """Return the list of `Stats` in a statistics dump, found by the header if it has one.

    Args:
        faults: list that gets a line for each row that is not readable.

    Raises:
        UserError: not readable, or not such a file: all its rows are faulty.
    """
    places = {field: place for field, (_, place) in _COLUMNS.items()}
    stats, bad = [], []
    for line, row in read_rows(path, _MAX_STATS):
        titles = [title.strip() for title in row or ('',)]
        if titles[0] == _COLUMNS['kind'][0]:
            # The device begins with it whenever it appends.
            places = {field: titles.index(title) if title in titles else None
                      for field, (title, _) in _COLUMNS.items()}
            continue
        try:
            stats.append(_stats(row or [], places))
        except (ValueError, IndexError):
            bad.append(f'{path}:{line}: not of a statistics dump; expected Input or Output, '
                       'index, size, type, format, shape, maximum, minimum, mean')
    if not stats:
        raise UserError(bad[0] if bad else f'{path}: no statistics in it; copy it again')
    for fault in bad:
        add_fault(faults, fault)
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
                 shape=tuple(int(size) for size in re.findall('-?[0-9]{1,18}', cells['shape'])),
                 **numbers)
