"""Dump files as NPUs write them, for walkthroughs and tests of precision_tool, which reads them."""

from typing import NamedTuple, Optional, Tuple

import numpy as np

from precision_tool.data_types import STORED, TYPES
from precision_tool.dump_file import FORMATS, LENGTH, DumpData
from precision_tool.file_names import plain
from precision_tool.layouts import IMAGES, PLAIN, TENSORFLOW, WEIGHTS, permute
from pylib import UserError, atomic_path

_ROWS = 16  # of a block
_TYPE_NUMBERS = {each.name: number for number, each in TYPES.items() if each.name in STORED}
_FORMAT_NUMBERS = {name: number for number, name in FORMATS.items()}


class NewTensor(NamedTuple):
    """A tensor to be written.

    array: in the layout `format`; data_type: such as 'bfloat16', default: the array's;
    original_op, original_shape, original_format: as in `dump_file.Tensor`, the first and last for
    outputs only.
    """

    array: np.ndarray
    data_type: Optional[str] = None
    format: str = 'ND'
    original_op: Optional[Tuple[str, int]] = None
    original_shape: Tuple[int, ...] = ()
    original_format: Optional[str] = None


def dump_name(op_type, op_name, task_id, stream_id, timestamp):
    """Return the name of a raw dump file; without a stream id if that is None."""
    ids = [task_id, timestamp] if stream_id is None else [task_id, stream_id, timestamp]
    return '.'.join([plain(op_type), plain(op_name)] + [str(number) for number in ids])


def write_dump(path, op_name, inputs=(), outputs=(), buffers=(), spaces=(), time=0, bare=False):
    """Write a dump file.

    Args:
        inputs, outputs: `NewTensor`s or arrays; buffers, spaces: bytes objects.
        time: as the device counts it.
        bare: write the previous generation, tensors within the message.

    Raises:
        UserError: a data type or format that dump files do not have.
    """
    header = DumpData(version=b'2.0', dump_time=time, op_name=op_name.encode())
    arrays = []
    for kind, tensors in (('input', inputs), ('output', outputs)):
        for tensor in tensors:
            new = tensor if isinstance(tensor, NewTensor) else NewTensor(tensor)
            arrays.append(_describe(getattr(header, kind).add(), new, path))
    for kind, blocks in (('buffer', buffers), ('space', spaces)):
        for block in blocks:
            arrays.append(np.frombuffer(block, np.uint8))
            getattr(header, kind).add(size=len(block))
    if bare:
        messages = (*header.input, *header.output, *header.buffer, *header.space)
        for message, array in zip(messages, arrays):
            message.data = array.tobytes()
    content = header.SerializeToString()
    with atomic_path(path) as temporary, open(temporary, 'wb') as stream:
        stream.write(content if bare else LENGTH.pack(len(content)) + content)
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
                       else array.astype(STORED[data_type]))
    message.data_type, message.format = _TYPE_NUMBERS[data_type], _FORMAT_NUMBERS[tensor.format]
    message.shape.dim.extend(array.shape)
    message.original_shape.dim.extend(tensor.original_shape)
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


def from_plain(array, format, original_format=None):
    """Return `array` in the layout `format`; see `precision_tool.layouts`.

    It keeps its type; padding is zero.

    Args:
        original_format: the layout `array` has; default: that of TensorFlow.

    Raises:
        UserError: no such layout, or `array` has not the axes it takes.
    """
    axes = original_format or TENSORFLOW.get(format, format)
    if format == 'FRACTAL_NZ':
        # ... R1 R0 C1 C0 -> ... C1 R1 R0 C0
        blocks = _split(_split(np.atleast_2d(array), -1, _c0(array.dtype)), -3, _ROWS)
        return np.moveaxis(blocks, -2, -4)
    if format == 'ND' or format == axes in PLAIN:
        return array
    if (axes not in PLAIN or format not in PLAIN + IMAGES + WEIGHTS
            or not array.ndim == len(axes) == len(TENSORFLOW.get(format, format))):
        raise UserError(f'{array.ndim} dimensions of layout {axes}: no way to layout {format}')
    if format in PLAIN:
        return permute(array, axes, format)
    c0 = _c0(array.dtype)
    if format in IMAGES:
        array = _split(permute(array, axes, TENSORFLOW[format]), -1, c0)  # N [D] H W C1 C0
        return np.moveaxis(array, -2, -4)
    # [D] H W C N -> [D] H W C1 C0 N1 N0 -> [D] C1 H W N1 N0 C0
    array = _split(_split(permute(array, axes, TENSORFLOW[format]), -1, _ROWS), -3, c0)
    array = np.moveaxis(np.moveaxis(array, -3, -1), -4, -6)
    return array.reshape((int(np.prod(array.shape[:-3])),) + array.shape[-3:])


def _c0(dtype):
    return 32 if np.dtype(dtype).itemsize == 1 else 16


def _split(array, axis, size):
    """Split an axis (negative) into two, the second of `size`, padding with zeros."""
    axis += array.ndim
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, -array.shape[axis] % size)
    array = np.pad(array, padding, 'constant')
    pieces = array.shape[axis] // size
    return array.reshape(array.shape[:axis] + (pieces, size) + array.shape[axis + 1:])
