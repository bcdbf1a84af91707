"""Names of dump files: they tell operator, task and time; nothing here touches a dump file.

    Conv2D.Genc_Conv_Conv2D.12.3.1619492699305998               raw dump of an NPU operator
    Conv2D.Genc_Conv_Conv2D.12.3.1619492699305998.csv           its statistics instead of tensors
    Conv2D.Genc_Conv_Conv2D.12.3.1619492699305998.output.0.npy  a decoded tensor of it
    Opdebug.Node_OpDebug.12.3.1619492699305998                  overflow record
    Opdebug.Node_OpDebug.12.3.1619492699305998.output.0.json    the same, officially decoded
    Genc_Conv_Conv2D.0.1619492699305998.npy                     golden tensor of TensorFlow
    graph.pb                                                    TensorFlow's graph, beside them

Older releases leave out the stream id (the second number); chips with FFTS append four more
numbers. Times are microseconds since 1970.
"""

import hashlib
import os
import re
from typing import NamedTuple, Optional, Tuple

from precision_tool.reading import read_rows
from pylib import UserError

OVERFLOW_TYPE = 'Opdebug'
TF_GRAPH = 'graph.pb'
MAPPING = 'mapping.csv'
NAME_BYTES = 255  # of a file
MAPPING_BYTES = 64 << 20  # more than a run of a million operators writes


class DumpName(NamedTuple):
    """What the name of a dump file tells."""

    op_type: str
    op_name: str                # as `plain` writes it
    task_id: int
    stream_id: Optional[int]    # None if the name has none
    timestamp: int              # microseconds
    slice: Tuple[int, ...] = ()    # of chips with FFTS: which part of the operator it is


class GoldenName(NamedTuple):
    """What the name of a golden tensor's file tells."""

    op_name: str                # as `plain` writes it
    index: int                  # of the operator's output
    timestamp: int              # microseconds


_IDS = r'\.([0-9]{1,10})(?:\.([0-9]{1,10}))?'
_END = r'((?:\.[0-9]{1,20}){4})?(?:\.csv)?'
# Where the operator's name has no dots, the count of numbers tells what they are; otherwise the
# 16 digits of a time do.
_DUMP = re.compile(r'([^./]+)\.([^./]+)' + _IDS + r'\.([0-9]{1,20})' + _END)
_DOTTED_DUMP = re.compile(r'([^./]+)\.([^/]+?)' + _IDS + r'\.([0-9]{16})' + _END)
_GOLDEN = re.compile(r'([^/]+)\.([0-9]{1,9})\.([0-9]{1,20})\.npy')
_DECODED_RECORD = re.compile(rf'({OVERFLOW_TYPE}\..+)\.output\.[0-9]{{1,9}}\.json')
_NOT_PLAIN = re.compile(r'[/\\.:\s\0]')


def plain(op_name):
    """The form an operator's name takes in file names: no '/', '.', ':', '\\' nor blanks."""
    return _NOT_PLAIN.sub('_', op_name)


def raw_name(name):
    """The name of the file that an officially decoded overflow record was, or else `name`."""
    match = _DECODED_RECORD.fullmatch(name)
    return match[1] if match else name


def parse_dump_name(name):
    """Return the `DumpName` of a dump, a raw one, one of statistics or a decoded overflow record.

    None for any other name.
    """
    name = raw_name(name)
    match = _DUMP.fullmatch(name) or _DOTTED_DUMP.fullmatch(name)
    if not match:
        return None
    op_type, op_name, task_id, stream_id, timestamp, parts = match.groups()
    return DumpName(op_type=op_type, op_name=op_name, task_id=int(task_id),
                    stream_id=stream_id and int(stream_id), timestamp=int(timestamp),
                    slice=tuple(map(int, parts.split('.')[1:])) if parts else ())


def parse_golden_name(name):
    """Return the `GoldenName` of a golden tensor's file, or None for any other name."""
    match = _GOLDEN.fullmatch(name)
    return match and GoldenName(op_name=match[1], index=int(match[2]), timestamp=int(match[3]))


def golden_name(op_name, index, timestamp):
    """Return the file name of output `index` of a TensorFlow operation."""
    return f'{plain(op_name)}.{index}.{timestamp}.npy'


def decoded_name(dump_file, kind, index, token=None):
    """Return the file name of a decoded tensor of the dump file named `dump_file`."""
    parts = [kind, str(index)] + ([plain(token)] if token else []) + ['npy']
    return shortened(dump_file, '.' + '.'.join(parts))


def shortened(name, end):
    """Return `name` + `end` as a file can be called: a hash is in place of what is too long."""
    data = os.fsencode(name)
    if len(data) + len(end) <= NAME_BYTES:
        return name + end
    kept = data[:NAME_BYTES - len(end) - 9].decode(errors='ignore')
    return f'{kept}~{hashlib.sha1(data).hexdigest()[:8]}{end}'


def read_mapping(folder):
    """Read which file name each file in `folder` with too long a name should have.

    Such files are named by a hash, and `mapping.csv` tells the name they should have. Without it
    there are none.

    Returns:
        ({file name: original file name}, [line about a row that is not two file names]).
    """
    path = os.path.join(folder, MAPPING)
    if not os.path.lexists(path):
        return {}, []
    names, faults = {}, []
    try:
        rows = read_rows(path, MAPPING_BYTES)
    except UserError as error:
        return {}, [str(error)]
    for line, row in rows:
        if row is None or len(row) != 2 or any(os.path.basename(name) != name or not name
                                               for name in row):
            faults.append(f'{path}:{line}: expected two file names without folders')
        else:
            names[row[0]] = row[1]
    return names, faults
