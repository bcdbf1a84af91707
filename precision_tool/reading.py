"""Files of unknown origin, read with bounds: text, CSV, JSON, NumPy arrays, protobuf messages."""

import ast
import csv
import io
import json
import os
import stat
import struct

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from pylib import UserError

MAX_DIMENSIONS = 32      # of NumPy 1
_MAX_NPY_HEADER = 10000  # bytes, as NumPy: what Python can evaluate safely


def add_fault(faults, error):
    """Add what an exception (or a line) says to the list `faults`, once."""
    if str(error) not in faults:
        faults.append(str(error))


def report(faults, error):
    """Add what an exception (or a line) says to `faults`; raise it as a UserError if that is None.
    """
    if faults is None:
        raise UserError(str(error))
    add_fault(faults, error)


def read_bytes(path, limit):
    """Return the bytes of a file of at most `limit` bytes.

    Raises:
        UserError: missing, unreadable, no plain file, or larger.
    """
    path = os.fspath(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise UserError(f'{path}: not a file')
        with open(path, 'rb') as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from None
    if len(data) > limit:
        raise UserError(f'{path}: larger than {limit} bytes, which no file of its kind is')
    return data


def read_text(path, limit):
    """Return the text of a UTF-8 file (see `read_bytes`); a byte order mark is left out."""
    try:
        return read_bytes(path, limit).decode('utf-8-sig')
    except UnicodeDecodeError:
        raise UserError(f'{path}: not text (not UTF-8)') from None


def read_csv(path, limit):
    """Return [(line number, cells)] of a CSV file of at most `limit` bytes, without empty lines.

    Raises:
        UserError: as `read_text`, or not CSV.
    """
    reader = csv.reader(io.StringIO(read_text(path, limit), ''))
    try:
        return [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise UserError(f'{path}:{reader.line_num}: not readable as CSV ({error}); write '
                        'it again') from None


def read_rows(path, limit):
    """Return [(line number, cells)] of a CSV file with a row to each line, without empty ones.

    Damage stays in its line, which then has None for cells: a quotation that does not end, bytes
    that are no text.

    Raises:
        UserError: as `read_bytes`.
    """
    lines = read_bytes(path, limit).decode('utf-8-sig', 'replace').split('\n')
    return [(number, _cells(line.rstrip('\r'))) for number, line in enumerate(lines, 1)
            if line.rstrip('\r')]


def _cells(line):
    """The cells of a line of a CSV file; None if it is damaged."""
    if '\0' in line or '\ufffd' in line:
        return None
    if '"' not in line:
        return line.split(',')
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error:
        return None


def parse_json(text, path, start=0):
    """Return (value, position behind it) of the JSON value at `start` of the text of `path`.

    Raises:
        UserError: not JSON; names the line.
    """
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise UserError(f'{path}:{error.lineno}: not JSON ({error.msg})') from None
    except (RecursionError, ValueError):
        raise UserError(f'{path}: JSON nested too deep, or with numbers too long') from None


def parse_one_json(text, path):
    """Return the only JSON value in the text of `path`; raises as `parse_json`."""
    value, end = parse_json(text, path, len(text) - len(text.lstrip()))
    if text[end:].strip():
        line = text.count('\n', 0, end) + 1
        raise UserError(f'{path}:{line}: not JSON (more text behind the value)')
    return value


def load_npy(path):
    """Return the array in a .npy file, as a read-only map of it.

    Its header is not believed: nothing is allocated that is not in the file.

    Raises:
        UserError: not readable, not a .npy file, of Python objects, or of another size than told.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f'{path}: not a file')
        with open(path, 'rb') as stream:
            shape, fortran_order, dtype = _npy_header(stream)
            offset, size = stream.tell(), os.fstat(stream.fileno()).st_size
        expected = dtype.itemsize
        for dimension in shape:
            expected *= dimension
        if offset + expected != size:
            raise UserError(f'{path}: {size} bytes, its header tells {offset + expected}; it is '
                            'incomplete or damaged, write it again')
        if not expected:
            return np.empty(shape, dtype)
        values = np.memmap(path, dtype, 'r', offset, (expected // dtype.itemsize,))
        return np.asarray(values).reshape(shape, order='F' if fortran_order else 'C')
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from None
    except (ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError,
            OverflowError, struct.error):
        raise UserError(f'{path}: not a .npy file of numbers, or damaged; write it again'
                        ) from None


def _npy_header(stream):
    """Return (shape, whether in Fortran order, type) of a .npy file; various errors if bad."""
    magic, major = stream.read(6), stream.read(2)[0]
    if magic != b'\x93NUMPY' or major not in (1, 2, 3):
        raise ValueError('magic')
    length = struct.unpack('<H', stream.read(2)) if major == 1 else (
        struct.unpack('<I', stream.read(4)))
    if length[0] > _MAX_NPY_HEADER:
        raise ValueError('header length')
    header = ast.literal_eval(stream.read(length[0]).decode('utf-8' if major == 3 else 'latin1')
                              .strip())
    shape = header['shape']
    if len(shape) > MAX_DIMENSIONS or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError('shape')
    dtype = np.dtype(header['descr'])
    if dtype.hasobject or dtype.names or dtype.subdtype or not dtype.itemsize:
        raise ValueError('type')
    return tuple(shape), header['fortran_order'], dtype


def message_classes(package, schema, enums=(), unions=()):
    """Return {name: class} of protobuf messages.

    Built when needed: code that protoc generates fits one generation of protobuf only.

    Args:
        schema: {message: 'type name number, ...'}, types being those of protobuf, messages of the
            schema, or enums; 'type*' is repeated.
        enums: {name: names of its values, from 0 on}.
        unions: names of messages that have one of their fields at a time.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f'{package}.proto', package=package,
                                              syntax='proto3')
    # Values share a scope with what stands beside their enum, so each has one of its own.
    for name, values in dict(enums).items():
        enum = file.message_type.add(name=f'{name}Scope').enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for message_name, fields in schema.items():
        message = file.message_type.add(name=message_name)
        if message_name in unions:
            message.oneof_decl.add(name='value')
        for kind, name, number in map(str.split, fields.split(', ')):
            field = message.field.add(name=name, number=int(number))
            field.label = field.LABEL_REPEATED if kind.endswith('*') else field.LABEL_OPTIONAL
            base = kind.rstrip('*')
            if base in schema:
                field.type, field.type_name = field.TYPE_MESSAGE, f'.{package}.{base}'
            elif base in enums:
                field.type, field.type_name = field.TYPE_ENUM, f'.{package}.{base}Scope.{base}'
            else:
                field.type = getattr(field, f'TYPE_{base.upper()}')
            if message_name in unions:
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    get_class = getattr(message_factory, 'GetMessageClass', None) or (
        message_factory.MessageFactory(pool).GetPrototype)
    return {name: get_class(pool.FindMessageTypeByName(f'{package}.{name}')) for name in schema}
