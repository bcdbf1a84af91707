"""Dump files put together byte by byte, as a device writes them: nothing of the reader is used.

Field numbers are those of Ascend's `dump_data.proto`.
"""

import struct


def varint(number):
    """An unsigned integer of variable length; negative numbers take ten bytes."""
    number &= (1 << 64) - 1
    data = bytearray()
    while True:
        data.append(number & 0x7f | (0x80 if number > 0x7f else 0))
        number >>= 7
        if not number:
            return bytes(data)


def field(number, value):
    """A field: an integer, or bytes."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def dims(shape):
    """A Shape message; its dimensions packed."""
    return field(1, b''.join(map(varint, shape))) if shape else b''


def tensor_header(kind, data_type, shape, size, format=2, original=None, address=0x1000,
                  sub_format=0, original_op=b''):
    """The message of an input or output; original: shape before the NPU's layout."""
    numbers = dict(zip(('size', 'original', 'sub_format', 'address'),
                       (6, 7, 8, 9) if kind == 'output' else (5, 6, 7, 8)))
    message = field(1, data_type) + field(2, format) + field(3, dims(shape))
    if original_op:
        message += field(4, original_op)
    message += field(numbers['size'], size)
    message += field(numbers['original'], dims(shape if original is None else original))
    if sub_format:
        message += field(numbers['sub_format'], sub_format)
    return message + (field(numbers['address'], address) if address else b'')


def write(path, outputs=(), inputs=(), op_name=b'a/b', tail=b''):
    """Write a dump file.

    Args:
        outputs, inputs: (bytes, arguments of `tensor_header` by name); the size in the header is
            that of the bytes unless told otherwise.
        tail: bytes behind the tensors.
    """
    header = field(1, b'2.0') + field(2, 1)
    for kind, number, tensors in (('output', 3, outputs), ('input', 4, inputs)):
        for data, described in tensors:
            header += field(number, tensor_header(kind, **dict({'size': len(data)}, **described)))
    header += field(6, op_name)
    with open(str(path), 'wb') as stream:
        stream.write(struct.pack('<Q', len(header)) + header)
        for data, _ in (*inputs, *outputs):
            stream.write(data)
        stream.write(tail)
