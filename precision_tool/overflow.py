"""Overflow records: what the NPU writes to an `Opdebug` file when an operator overflows.

Three forms are read: 2048 bytes with a block each for AI Core and the two units that add in
memory (DHA, L2); one block of a newer chip behind the number 0x5A5A5A5A; and the JSON that the
official converter makes of either. The bytes are a file of their own or the tensor of a dump file.
"""

import itertools
import os
import re
import struct
from collections import OrderedDict
from typing import NamedTuple, Optional, Tuple, Union

from precision_tool.dump_file import LENGTH, open_dump
from precision_tool.dump_tree import NpuDump, Operator, has_files
from precision_tool.reading import add_fault, parse_one_json, read_bytes, report
from pylib import UserError

LIMIT = 1 << 20  # a record takes 2 kB, its JSON not much more

AI_CORE_BITS = OrderedDict([
    (0x8, 'the smallest integer was negated'),
    (0x10, 'integer addition, subtraction or multiplication overflowed'),
    (0x20, 'floating-point operation overflowed'),
    (0x80, 'a negative float was converted to an unsigned integer'),
    (0x100, 'conversion of float32 or int32 to float16 overflowed'),
    (0x400, 'accumulation of a matrix product (cube unit) overflowed'),
])
NO_ERROR = 'no error'
_ADDING = ('addition in memory overflowed', 'addition in memory underflowed',
           'addition in memory: the source is NaN', 'addition in memory: the destination is NaN',
           'addition in memory: source and destination are NaN')
DHA_CODES = dict(zip((0x9, 0xa, 0xb, 0xc, 0xd), _ADDING))
L2_CODES = dict(enumerate((NO_ERROR,) + _ADDING))
UNDOCUMENTED = 'the meaning of this status is not public'

UNKNOWN = -1    # an id that the chip does not know


class Record(NamedTuple):
    """An overflow that a unit of the chip reports."""

    block: str        # unit: 'AI Core', 'DHA Atomic Add' or 'L2 Atomic Add'; `_NEW_BLOCKS`
    stream_id: int    # or UNKNOWN, as the next one
    task_id: int
    details: dict     # OrderedDict of what else it tells: model, addresses, cores; integers
    status: Union[int, Tuple[int, ...]]    # four of them in version 1 of AIC and AIV

    @property
    def status_text(self):
        """The status in hexadecimal; several numbers of version 1."""
        states = self.status if isinstance(self.status, tuple) else (self.status,)
        return ' '.join(map(hex, states))

    @property
    def words(self):
        """What the status means, a list of texts."""
        explain = _EXPLAIN.get(self.block) if isinstance(self.status, int) else None
        words = explain(self.status) if explain else [UNDOCUMENTED]
        # Bits that are set elsewhere mean something, though not what.
        return [UNDOCUMENTED] if words == [NO_ERROR] and self.status else words


_NEEDED = 'stream_id', 'task_id', 'status'
_OLD_FIELDS = 'model_id', 'stream_id', 'task_id', 'task_type', 'pc_start', 'para_base'
_OLD_SIZE = 2048
# Block -> offsets of its fields and of its status, and the names of what is there.
_OLD_BLOCKS = OrderedDict([
    ('AI Core', (256, 1024, ('kernel_code', 'block_idx', 'status'))),
    ('DHA Atomic Add', (0, 512, ('status',))),
    ('L2 Atomic Add', (128, 768, ('status',))),
])
_MAGIC = 0x5a5a5a5a
_HEADER = struct.Struct('<6I')  # magic, version, valid, acc_type, reserved, data_len
_CORE_FIELDS = ('model_id', 'stream_id', 'task_id', 'task_type', 'context_id', 'thread_id',
                'pc_start', 'para_base', 'core_id', 'block_id')
_NEW_BLOCKS = OrderedDict([
    ('AIC', _CORE_FIELDS),
    ('AIV', _CORE_FIELDS),
    ('AICPU', ('model_id', 'stream_id', 'task_id', 'task_type', 'context_id', 'cpu_id',
               'thread_id')),
    ('SDMA', ('model_id', 'stream_id', 'task_id', 'task_type', 'context_id', 'thread_id',
              'src_addr', 'dst_addr', 'channel_id')),
])


def explain_ai_core(status):
    """Return what each bit set in the status of an AI Core means, a list of texts."""
    words = [meaning for bit, meaning in AI_CORE_BITS.items() if status & bit]
    unknown = status & ~sum(AI_CORE_BITS)
    return words + ([f'unknown bits {unknown:#x}'] if unknown else []) or [NO_ERROR]


def explain_dha(status):
    """Return what the status of the DHA unit means, a list of texts; bits 8 to 15 count."""
    code = status >> 8 & 0xff
    return [DHA_CODES.get(code, f'unknown code {code:#x}') if code else NO_ERROR]


def explain_l2(status):
    """Return what the status of the L2 cache means, a list of texts; bits 16 to 18 count."""
    code = status >> 16 & 0x7
    return [L2_CODES.get(code, f'unknown code {code:#x}')]


_EXPLAIN = {'AI Core': explain_ai_core, 'DHA Atomic Add': explain_dha, 'L2 Atomic Add': explain_l2,
            'AIC': explain_ai_core, 'AIV': explain_ai_core}


def read_record(path, faults=None):
    """Return the `Record`s of an Opdebug file: of each block that reports something.

    Args:
        path: a dump file, its tensor alone, or the JSON that the official tool makes of it.
        faults: list that gets a line for each block or tensor which is not readable, the others
            being read; None: the first one raises.

    Raises:
        UserError: unreadable, or none of these.
    """
    data = read_bytes(path, LIMIT)
    # The length in front of a dump may begin with the same byte, but has zeros.
    if str(path).endswith('.json') or (
            b'\0' not in data[:LENGTH.size] and data.lstrip()[:1] == b'{'):
        try:
            return _of_json(parse_one_json(data.decode('utf-8-sig'), path), path, faults)
        except UnicodeDecodeError:
            raise UserError(f'{path}: not JSON (not UTF-8)') from None
    if len(data) == _OLD_SIZE or data[:4] == struct.pack('<I', _MAGIC):
        return _of_bytes(data, path)
    outputs = open_dump(path).outputs
    if not outputs:
        raise UserError(f'{path}: a dump file without outputs; give an Opdebug file')
    records = []
    for output in outputs:
        try:
            records += _of_bytes(output.read_bytes(), path if len(outputs) == 1 else output)
        except UserError as error:
            report(faults, error)
    return records


def _of_bytes(data, source):
    if len(data) >= _HEADER.size and _HEADER.unpack_from(data)[0] == _MAGIC:
        return _of_new(data, source)
    if len(data) < _OLD_SIZE:
        raise UserError(f'{source}: {len(data)} bytes, which is no overflow record (expected '
                        f'{_OLD_SIZE}, or {_MAGIC:#x} in front); copy the file again')
    records = []
    for block, (start, status_start, names) in _OLD_BLOCKS.items():
        values = OrderedDict(zip(_OLD_FIELDS, struct.unpack_from('<6Q', data, start)))
        values.update(zip(names, struct.unpack_from(f'<{len(names)}Q', data, status_start)))
        records.append(_record(block, values))
    return _reporting(records)


def _of_new(data, source):
    _, version, valid, number, _, _ = _HEADER.unpack_from(data)
    if version > 1:
        raise UserError(f'{source}: overflow record of version {version}; known are 0 and 1')
    if number >= len(_NEW_BLOCKS):
        raise UserError(f'{source}: overflow record of the unknown unit {number}; copy the file '
                        'again')
    block = list(_NEW_BLOCKS)[number]
    names = _NEW_BLOCKS[block]
    states = 4 if version == 1 and block in ('AIC', 'AIV') else 1
    layout = struct.Struct(f'<{len(names) + states}Q')
    if len(data) < _HEADER.size + layout.size:
        raise UserError(f'{source}: {len(data)} bytes, an overflow record of {block} takes '
                        f'{_HEADER.size + layout.size}; copy the file again')
    numbers = layout.unpack_from(data, _HEADER.size)
    values = OrderedDict(zip(names, numbers))
    values['status'] = numbers[-1] if states == 1 else numbers[-states:]
    return _reporting([_record(block, values)]) if valid == 1 else []


def _reporting(records):
    """Those that report an overflow: their status, or a number of it, is not 0."""
    return [record for record in records
            if (any(record.status) if isinstance(record.status, tuple) else record.status)]


def _of_json(value, source, faults):
    """Records of the official converter's JSON; `faults` as of `read_record`."""
    if not isinstance(value, dict) or not set(value) & {*_OLD_BLOCKS, 'magic'}:
        raise UserError(f'{source}: no overflow record (expected {", ".join(_OLD_BLOCKS)} or '
                        'magic)')
    records = []
    for block in ['acc_list'] if 'magic' in value else [each for each in _OLD_BLOCKS
                                                        if each in value]:
        try:
            records += (_of_new_json(value[block]) if block == 'acc_list' else
                        [_record(block, _numbers(value[block],
                                                 _OLD_FIELDS + _OLD_BLOCKS[block][2]))])
        except KeyError as error:
            report(faults, f'{source}: no overflow record (without {str(error)[:60]})')
        except (TypeError, ValueError) as error:
            report(faults, f'{source}: no overflow record ({error})')
    return _reporting(records)


def _of_new_json(value):
    """The `Record` of a newer chip's JSON, as a list; none if it is not valid."""
    if not isinstance(value, dict) or not isinstance(value['acc_type'], str):
        raise TypeError('acc_list: expected an object with the name of a unit')
    block = value['acc_type']
    values = _numbers(value['data'], _NEW_BLOCKS[block] + ('status',))
    return [_record(block, values)] if _number(value['valid'], 'valid') == 1 else []


def _numbers(raw, names):
    """OrderedDict of the members `names` of an object, which are numbers or hexadecimal text.

    Those that say more than where and what may be missing.
    """
    if not isinstance(raw, dict):
        raise TypeError('expected an object for each unit')
    # CANN's document calls the block so, in a record of older chips.
    raw = dict({'block_idx': raw['block_id']} if 'block_id' in raw else {}, **raw)
    return OrderedDict((name, _number(raw[name], name)) for name in names
                       if name in raw or name in _NEEDED)


def _number(value, name):
    if isinstance(value, list) and name == 'status' and len(value) == 4:
        return tuple(_number(each, '') for each in value)
    number = value
    if isinstance(value, str) and re.fullmatch('0[xX][0-9a-fA-F]{1,16}|-?[0-9]{1,20}', value):
        number = int(value, 16 if value[1:2] in ('x', 'X') else 10)
    if isinstance(number, bool) or not isinstance(number, int) or not -1 <= number < 1 << 64:
        raise ValueError(f'{name}: expected a number of 64 bits')
    return number & (1 << 64) - 1 if name == 'status' else number


def _record(block, values):
    """The `Record` of a block's numbers."""
    # Minus one, as an unsigned number of 32 or 64 bits.
    ids = {name: UNKNOWN if values[name] in ((1 << 32) - 1, (1 << 64) - 1) else values[name]
           for name in ('model_id', 'stream_id', 'task_id') if name in values}
    details = OrderedDict((name, number) for name, number in dict(values, **ids).items()
                          if name not in ('stream_id', 'task_id', 'status'))
    return Record(block=block, stream_id=ids['stream_id'], task_id=ids['task_id'],
                  details=details, status=values['status'])


class Overflow(NamedTuple):
    """An overflow and the operator it happened in."""

    record: Record
    path: str                         # of the file with the record
    operator: Optional[Operator]      # None if its dump is not there

    @property
    def op_type(self):
        return self.operator.op_type if self.operator else ''

    @property
    def op_name(self):
        return self.operator.name if self.operator else ''


def find_overflows(folder, limit=None, faults=None):
    """Return the `Overflow`s of a run, sorted by time.

    Args:
        folder: as of `dump_tree.NpuDump`; the newest run in it counts. An empty or missing one
            has none.
        limit: the most to return; later files are not even read. None: all.
        faults: list that gets a line for each file that is not readable, the others being read;
            None: the first one raises.

    Raises:
        UserError: no dump files, or a broken Opdebug file.
    """
    if not has_files(folder):
        return []
    dump = NpuDump(folder)
    for fault in dump.faults if faults is not None else ():
        add_fault(faults, fault)
    return list(itertools.islice(_overflows(dump, faults), limit))


def _overflows(dump, faults):
    tasks = {}
    for operator in dump.dumps:
        key = os.path.dirname(operator.path), operator.task_id
        tasks.setdefault(key, []).append(operator)
    for debug in dump.records:
        try:
            records = read_record(debug.path, faults)
        except UserError as error:
            report(faults, error)
            continue
        for record in records:
            task = debug.task_id if record.task_id == UNKNOWN else record.task_id
            stream = debug.stream_id if record.stream_id == UNKNOWN else record.stream_id
            # Not every release writes a stream into the names of files.
            operators = (operator for operator in tasks.get((os.path.dirname(debug.path), task), ())
                         if None in (stream, operator.stream_id) or operator.stream_id == stream)
            placed = record._replace(task_id=task, stream_id=UNKNOWN if stream is None else stream)
            yield Overflow(record=placed, path=debug.path, operator=next(operators, None))
