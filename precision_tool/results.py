"""What a comparison of two dumps gives: a row for each pair of tensors, kept in a CSV file."""

import csv
import io
import math
import re
from typing import NamedTuple

from precision_tool import reading
from precision_tool.dump_file import NO_DATA
from precision_tool.metrics import TEXT_METRIC, TITLES, Metrics
from pylib import UserError, printable, write_text

RESULT = 'result_{}.csv'    # the file of a comparison, with its time
THRESHOLD = .98             # default cosine similarity below which a tensor is wrong
ABSENT = '*'
UNMATCHED = 'unmatched'     # the reason of a row for which the other side has nothing


class Row(NamedTuple):
    """The comparison of a pair of tensors."""

    index: int                    # place in the order of execution
    op_type: str = ''             # of the left operator
    npu_dump: str = ''            # the left operator, or ABSENT
    data_type: str = ''
    ground_truth: str = ''        # right operator, or '<name>:<index>' of TensorFlow, or ABSENT
    golden_data_type: str = ''
    tensor_index: str = ''        # '<npu_dump>:input|output:<index>'
    shape: str = ''               # '[1,2,3]'
    metrics: Metrics = Metrics()
    reason: str = ''              # why there are no metrics, or what they are of if of a part

    @property
    def cosine(self):
        return self.metrics.cosine_similarity

    @property
    def is_compared(self):
        """Whether there was something to compare on both sides."""
        return self.metrics.standard_deviation != 'NaN' or any(
            not math.isnan(number) for number in self.metrics if isinstance(number, float))

    @property
    def is_unmatched(self):
        """Whether it is an output that only one side has."""
        return (ABSENT in (self.npu_dump, self.ground_truth) and self.reason in ('', UNMATCHED)
                and not self.is_compared)

    def value(self, field):
        """Its value in a field of its own or of its metrics."""
        return getattr(self.metrics if field in Metrics._fields else self, field)


class Result(NamedTuple):
    """Rows in the order of execution, and the outputs that only one side has.

    The latter are texts like `Row.tensor_index`; `faults` are lines about what was not read.
    """

    rows: list
    unmatched_left: list
    unmatched_right: list
    faults: tuple = ()

    @property
    def all_rows(self):
        """The rows and, after them, one with '*' for each unmatched output."""
        return self.rows + _unmatched_rows(self)


class Counts(NamedTuple):
    """Of the rows of a comparison: pairs compared, those that could not be, lone outputs."""

    compared: int
    failed: int
    unmatched: int


def count(rows):
    """The `Counts` of rows."""
    compared = sum(row.is_compared for row in rows)
    unmatched = sum(row.is_unmatched for row in rows)
    return Counts(compared, len(rows) - compared - unmatched, unmatched)


# What the reason of a pair ends with if there is nothing wrong with it but nothing to compare.
NO_NUMBERS = 'holds no numbers to compare'
STATISTICS = 'has statistics only; dump tensors to compare'
EMPTY = 'both tensors are empty'
NOT_FINITE = 'no value is finite, and both tensors are the same'


MISSED = 'tensors of the other side were compared with nothing: '    # then STATISTICS


def is_harmless(row):
    """Whether a row that is not compared never could be."""
    return row.reason.endswith((NO_NUMBERS, NO_DATA, STATISTICS, EMPTY, NOT_FINITE)) and (
        not row.reason.startswith(MISSED))


# Title of a column and the field of Row or Metrics in it.
_COLUMNS = (('Index', 'index'), ('OpType', 'op_type'), ('NPUDump', 'npu_dump'),
            ('DataType', 'data_type'), ('GroundTruth', 'ground_truth'),
            ('DataType', 'golden_data_type'), ('TensorIndex', 'tensor_index'), ('Shape', 'shape'),
            *zip(TITLES, Metrics._fields), ('CompareFailReason', 'reason'))
_FIELDS = dict(_COLUMNS, DataType='data_type', LeftOp='npu_dump', RightOp='ground_truth')
_TENSOR_INDEX = re.compile('(.+):(input|output):([0-9]{1,9})', re.DOTALL)
_MAX_BYTES = 64 << 20  # 100,000 rows and more


def parse_tensor_index(text):
    """Return (operator, 'input' or 'output', index) of a `Row.tensor_index`; None if not one."""
    match = _TENSOR_INDEX.fullmatch(text)
    return match and (match[1], match[2], int(match[3]))


def is_bad(row, threshold):
    """Whether the left tensor is wrong.

    Its cosine similarity is below `threshold`, or there is none though both have values: NaN and
    the infinities are not at the same places, or just one of them is all zeros.
    """
    if not math.isnan(row.cosine):
        return row.cosine < threshold
    return (not math.isnan(row.metrics.relative_euclidean_distance)
            or '),(' in row.metrics.standard_deviation)


# A tensor that has the direction of its golden one is of another size if it is further off than
# this share of it, and a value by more than that.
_OTHER_SIZE, _NEGLIGIBLE = .5, .001


def is_other_size(row, threshold):
    """Whether the left tensor passes as to its direction, but is not as large as the right one.

    The cosine does not see a missing factor, nor anything in a scalar.
    """
    return (row.cosine >= threshold and row.metrics.relative_euclidean_distance > _OTHER_SIZE
            and row.metrics.max_absolute_error > _NEGLIGIBLE)


def write_csv(path, result):
    """Write all rows of a `Result`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(title for title, _ in _COLUMNS)
    for row in result.all_rows:
        writer.writerow(_cell(row.value(field)) for _, field in _COLUMNS)
    write_text(path, text.getvalue())


def _unmatched_rows(result):
    rows = []
    for field, other, names in (('npu_dump', 'ground_truth', result.unmatched_left),
                                ('ground_truth', 'npu_dump', result.unmatched_right)):
        for name in names:
            operator = name.rsplit(':', 2 if parse_tensor_index(name) else 1)[0]
            rows.append(Row(index=len(result.rows) + len(rows), tensor_index=name,
                            reason=UNMATCHED, **{field: operator, other: ABSENT}))
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
    values, numbers = {'index': number}, {}
    for field, cell in zip(fields, map(str.strip, cells)):
        try:
            if field == 'index' and cell:
                values[field] = int(cell)
            elif field in Metrics._fields and field != TEXT_METRIC:
                numbers[field] = math.nan if cell in ('', '-', ABSENT) else float(cell)
            elif field and cell:
                (numbers if field == TEXT_METRIC else values)[field] = cell
        except ValueError:
            raise UserError(f'{place}: {field}: not a number: {printable(cell[:40])}') from None
    return Row(metrics=Metrics(**numbers), **values)
