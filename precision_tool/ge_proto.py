"""The files of `ge_graph`, as the dicts and lists of their JSON.

A file is the protobuf text of a ge.proto.ModelDef, or its JSON, in which attributes are lists of
{key, value} and data types are names.
"""

import functools
import re

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from precision_tool.reading import parse_one_json, read_text
from pylib import UserError

LIMIT = 512 << 20

# ge.proto.DataType, by number.
DATA_TYPES = tuple(f'DT_{name}' for name in (
    'UNDEFINED', 'FLOAT', 'FLOAT16', 'INT8', 'UINT8', 'INT16', 'UINT16', 'INT32', 'INT64',
    'UINT32', 'UINT64', 'BOOL', 'DOUBLE', 'STRING', 'DUAL_SUB_INT8', 'DUAL_SUB_UINT8',
    'COMPLEX64', 'COMPLEX128', 'QINT8', 'QINT16', 'QINT32', 'QUINT8', 'QUINT16', 'RESOURCE',
    'STRING_REF', 'DUAL', 'VARIANT', 'BF16', 'INT4', 'UINT1', 'INT2', 'UINT2'))

# The fields of ge.proto that are read: message -> (name, number, type, repeated). The others are
# skipped. A map is, in text as on the wire, a list of pairs.
_BYTES, _INT, _FLOAT, _BOOL = 12, 3, 2, 8
_MESSAGES = {
    'ModelDef': [('graph', 7, 'GraphDef', True)],
    'GraphDef': [('name', 1, _BYTES, False), ('op', 6, 'OpDef', True),
                 ('attr', 11, 'Attribute', True)],
    'OpDef': [('name', 1, _BYTES, False), ('type', 2, _BYTES, False), ('input', 5, _BYTES, True),
              ('attr', 10, 'Attribute', True), ('id', 21, _INT, False),
              ('input_desc', 33, 'TensorDescriptor', True),
              ('output_desc', 34, 'TensorDescriptor', True), ('subgraph_name', 35, _BYTES, True)],
    'TensorDescriptor': [('dtype', 2, 'Types.DataType', False), ('shape', 3, 'ShapeDef', False),
                         ('layout', 4, _BYTES, False), ('attr', 5, 'Attribute', True)],
    'ShapeDef': [('dim', 1, _INT, True)],
    'Attribute': [('key', 1, _BYTES, False), ('value', 2, 'AttrDef', False)],
    'AttrDef': [('list', 1, 'ListValue', False), ('s', 2, _BYTES, False), ('i', 3, _INT, False),
                ('f', 4, _FLOAT, False), ('b', 5, _BOOL, False),
                ('list_list_int', 14, 'ListListInt', False)],
    'ListValue': [('s', 2, _BYTES, True), ('i', 3, _INT, True), ('f', 4, _FLOAT, True),
                  ('b', 5, _BOOL, True)],
    'ListListInt': [('list_list_i', 1, 'ListInt', True)],
    'ListInt': [('list_i', 1, _INT, True)],
}


@functools.lru_cache(maxsize=8)
def _model_class(data_types):
    """The class of ModelDef messages, with the names of data types that a file has."""
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name='ge.proto', package='ge', syntax='proto3')
    # Nested, as names of enum values must differ from those of messages beside the enum.
    enum = file.message_type.add(name='Types').enum_type.add(name='DataType')
    for number, name in enumerate(data_types):
        enum.value.add(name=name, number=number)
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind, repeated in fields:
            field = message.field.add(name=name, number=number, label=3 if repeated else 1)
            if isinstance(kind, int):
                field.type = kind
            else:
                field.type_name = f'.ge.{kind}'
                field.type = field_type.TYPE_ENUM if '.' in kind else field_type.TYPE_MESSAGE
            if message_name == 'AttrDef':
                field.oneof_index = 0
    file.message_type[list(_MESSAGES).index('AttrDef') + 1].oneof_decl.add(name='value')
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName('ge.ModelDef')
    if hasattr(message_factory, 'GetMessageClass'):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def _parse_text(text, path):
    """Protobuf text as the dicts and lists that its JSON would give."""
    # Newer compilers have newer data types; an unknown name would end the parse.
    found = set(re.findall(r'\bdtype\s*:\s*([A-Za-z_]\w*)', text, re.ASCII))
    names = DATA_TYPES + tuple(sorted(found - {*DATA_TYPES, 'DataType'}))
    try:
        message = _model_class(names)()
        text_format.Parse(text, message, allow_unknown_field=True)
    except text_format.ParseError as error:
        line = f':{error.GetLine()}' if error.GetLine() else ''
        raise UserError(f'{path}{line}: neither the text nor the JSON of a GE graph; was the '
                        'file copied whole?') from None
    except (RecursionError, TypeError, ValueError):
        raise UserError(f'{path}: not the text of a GE graph') from None
    return _plain(message, names)


def _plain(value, data_types):
    if isinstance(value, bytes):
        return value.decode(errors='replace')
    if isinstance(value, (bool, int, float)):
        return value
    if not hasattr(value, 'ListFields'):
        return [_plain(each, data_types) for each in value]
    plain = {field.name: _plain(each, data_types) for field, each in value.ListFields()}
    if 0 <= plain.get('dtype', -1) < len(data_types):
        plain['dtype'] = data_types[plain['dtype']]
    return plain


def read_model(path):
    """Return the ModelDef of a file as it is in JSON, unchecked.

    Raises:
        UserError: unreadable, or neither protobuf text nor JSON.
    """
    text = read_text(path, LIMIT)
    if text.lstrip()[:1] in ('{', '['):
        return parse_one_json(text, path)
    return _parse_text(text, path)
