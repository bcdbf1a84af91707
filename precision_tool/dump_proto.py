"""The protobuf messages in NPU dump files, and a scan that leaves tensors where they are.

Message classes are built here, at import: code that protoc generates fits one generation of
protobuf only.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = 'toolkit.dumpdata'
MAX_HEADER = 4 << 20   # bytes without tensors; the largest operators take some 100 KB
MAX_FIELDS = 1 << 16   # fields of the header and its tensors: each may become an object

# Type, name and number of each field; '*': repeated. Texts are bytes here: of those that are not
# UTF-8, protobuf would complain on its own to standard error.
_SCHEMA = {
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
}
LENGTH_DELIMITED = 2  # the wire type of strings, bytes and messages


def _message_classes():
    """Return {name: message class} of `_SCHEMA`."""
    file = descriptor_pb2.FileDescriptorProto(name=f'{PACKAGE}.proto', package=PACKAGE,
                                              syntax='proto3')
    for message_name, fields in _SCHEMA.items():
        message = file.message_type.add(name=message_name)
        for kind, name, number in map(str.split, fields.split(', ')):
            field = message.field.add(name=name, number=int(number))
            field.label = field.LABEL_REPEATED if kind.endswith('*') else field.LABEL_OPTIONAL
            base = kind.rstrip('*')
            if base in _SCHEMA:
                field.type, field.type_name = field.TYPE_MESSAGE, f'.{PACKAGE}.{base}'
            else:
                field.type = getattr(field, f'TYPE_{base.upper()}')
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    get_class = getattr(message_factory, 'GetMessageClass', None) or (
        message_factory.MessageFactory(pool).GetPrototype)
    return {name: get_class(pool.FindMessageTypeByName(f'{PACKAGE}.{name}')) for name in _SCHEMA}


_CLASSES = _message_classes()
DumpData = _CLASSES['DumpData']
# Fields of DumpData that hold tensors: number -> (name, class, number of its `data` field).
_HOLDERS = {field.number: (field.name, _CLASSES[field.message_type.name],
                           field.message_type.fields_by_name['data'].number)
            for field in DumpData.DESCRIPTOR.fields
            if field.message_type and 'data' in field.message_type.fields_by_name}


def scan_fields(data, start, end):
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
        elif wire_type == LENGTH_DELIMITED:
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


def parse(data, start, end):
    """Parse the DumpData message data[start:end] without reading the tensors in it.

    Returns:
        The DumpData message without tensors, and {field name: list of (message without data,
        start, end of its data)} for output, input, buffer and space.

    Raises:
        ValueError, google.protobuf.message.DecodeError: not such a message.
    """
    budget = _Budget()
    rest, holders = [], {name: [] for name, _, _ in _HOLDERS.values()}
    for number, wire_type, first, value, stop in scan_fields(data, start, end):
        if number not in _HOLDERS or wire_type != LENGTH_DELIMITED:
            rest.append(budget.take(data, first, stop))
            continue
        name, message_class, data_number = _HOLDERS[number]
        pieces, span = [budget.take(data, first, first)], (stop, stop)
        for inner, inner_type, inner_first, inner_value, inner_stop in scan_fields(
                data, value, stop):
            if inner == data_number and inner_type == LENGTH_DELIMITED:
                span = inner_value, inner_stop
            else:
                pieces.append(budget.take(data, inner_first, inner_stop))
        holders[name].append((message_class.FromString(b''.join(pieces)),) + span)
    return DumpData.FromString(b''.join(rest)), holders


def text(value):
    """The text of a bytes field; what is not UTF-8 is marked, not refused."""
    return value.decode('utf-8', 'replace')


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
