"""What a comparison of two dumps gives: a row for each pair of tensors, kept in a CSV file."""

import csv
import io
import math
import re
from collections import namedtuple

from precision_tool import metrics, reading
from pylib import UserError, write_text

METRIC_FIELDS = tuple(re.sub('(?<!^)(?=[A-Z])', '_', name).lower() for name in metrics.METRICS)
TEXT_FIELD = METRIC_FIELDS[metrics.METRICS.index(metrics.TEXT_METRIC)]
Row = namedtuple('Row', ('index', 'op_type', 'npu_dump', 'data_type', 'ground_truth',
                         'golden_data_type', 'tensor_index', 'shape') + METRIC_FIELDS + ('reason',))
Row.__doc__ = """The comparison of a pair of tensors.

index: place in the order of execution; op_type, npu_dump: type and name of the left operator;
ground_truth: the right operator, or tensor '<name>:<index>' of TensorFlow; '*' stands for none;
tensor_index: '<npu_dump>:input|output:<index>'; shape: '[1,2,3]'; then the metrics of metrics.py,
floats, only standard_deviation is a text, NaN if there is none; reason: why there is none, or ''.
"""
Result = namedtuple('Result', 'rows unmatched_left unmatched_right')
Result.__doc__ = """Rows in the order of execution, and the outputs that only one side has, as
texts like `Row.tensor_index`."""

ABSENT = '*'
NOT_COMPARED = {field: 'NaN' if field == TEXT_FIELD else math.nan for field in METRIC_FIELDS}
HEADER = ('Index', 'OpType', 'NPUDump', 'DataType', 'GroundTruth', 'DataType', 'TensorIndex',
          'Shape') + metrics.METRICS + ('CompareFailReason',)
_OLD_NAMES = {'LeftOp': 'npu_dump', 'RightOp': 'ground_truth'}
_FIELDS = dict(zip(HEADER, Row._fields), DataType='data_type', **_OLD_NAMES)
_TENSOR_INDEX = re.compile('(.+):(input|output):([0-9]{1,9})', re.DOTALL)
_MAX_BYTES = 64 << 20  # 100,000 rows and more


def parse_tensor_index(text):
    """Return (operator, 'input' or 'output', index) of a `Row.tensor_index`; None if not one."""
    match = _TENSOR_INDEX.fullmatch(text)
    return match and (match[1], match[2], int(match[3]))


def is_bad(row, threshold):
    """Whether the left tensor is wrong.

    Its cosine similarity is below `threshold`, or there is none though the right tensor is finite:
    the left one is not, or just one of them is all zeros.
    """
    if not math.isnan(row.cosine_similarity):
        return row.cosine_similarity < threshold
    right = row.standard_deviation.lower().partition('),(')[2]
    return (not math.isnan(row.relative_euclidean_distance)
            or bool(right) and 'nan' not in right and 'inf' not in right)


def printable(text):
    """Return `text`, which may be a file's name, without characters that cannot be written."""
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() else char.encode('unicode_escape').decode()
                   for char in text)


def write_csv(path, result):
    """Write the rows and, after them, a row with '*' for each unmatched output."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(HEADER)
    for row in result.rows + _unmatched_rows(result):
        writer.writerow([_cell(value) for value in row])
    write_text(path, text.getvalue())


def _unmatched_rows(result):
    rows = []
    for field, other, names in (('npu_dump', 'ground_truth', result.unmatched_left),
                                ('ground_truth', 'npu_dump', result.unmatched_right)):
        for name in names:
            operator = name.rsplit(':', 2 if parse_tensor_index(name) else 1)[0]
            rows.append(Row(len(result.rows) + len(rows), **dict(
                dict.fromkeys(Row._fields[1:], ''), tensor_index=name, reason='unmatched',
                **{field: operator, other: ABSENT}, **NOT_COMPARED)))
    return rows


def _cell(value):
    if isinstance(value, float):
        return 'NaN' if math.isnan(value) else f'{value:.6f}'
    return printable(str(value))


def read_csv(path):
    """Return the rows of a comparison, this tool's or the official one's, old or new.

    Columns are found by their names; texts that are missing are '', metrics NaN.

    Raises:
        UserError: not readable, or not the result of a comparison.
    """
    (_, header), *lines = reading.read_csv(path, _MAX_BYTES) or [(1, [])]
    fields = _fields(path, header)
    return [_row(f'{path}:{line}', number, fields, cells)
            for number, (line, cells) in enumerate(lines)]


def _fields(path, header):
    """The fields of `Row` that the columns of a CSV file are; None for other columns."""
    header = [title.strip() for title in header]
    for title in ('TensorIndex', 'CosineSimilarity'):
        if title not in header:
            raise UserError(f'{path}: no column {title}; expected the result of a comparison')
    fields = [_FIELDS.get(title) for title in header]
    # Of two columns with this name, the one after the golden operator is its data type.
    if 'GroundTruth' in header:
        start = header.index('GroundTruth')
        fields[start:] = ['golden_data_type' if field == 'data_type' else field
                          for field in fields[start:]]
    return fields


def _row(place, number, fields, cells):
    """The `Row` in the cells of a line; `number` is its index unless it tells one."""
    if len(cells) != len(fields):
        raise UserError(f'{place}: {len(cells)} columns, expected {len(fields)}')
    values = dict(dict.fromkeys(Row._fields, ''), index=number, **NOT_COMPARED)
    for field, cell in zip(fields, map(str.strip, cells)):
        try:
            if field == 'index' and cell:
                values[field] = int(cell)
            elif field in METRIC_FIELDS and field != TEXT_FIELD:
                values[field] = math.nan if cell in ('', '-', ABSENT) else float(cell)
            elif field and cell:
                values[field] = cell
        except ValueError:
            raise UserError(f'{place}: {field}: not a number: {printable(cell[:40])}') from None
    return Row(**values)
