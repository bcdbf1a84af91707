"""Compare two dumps tensor by tensor, and find the operator where they part.

A dump is that of an NPU run or a golden one of TensorFlow (see dump_tree.py). Tensors are paired
by name; each pair gives a `Row` with the ten metrics.
"""

import math
import os
from collections import Counter, OrderedDict, deque
from typing import NamedTuple, Optional, Tuple, Union

import numpy as np

from precision_tool import layouts, metrics
from precision_tool.dump_file import Tensor, open_dump
from precision_tool.dump_tree import GoldenDump, NpuDump
from precision_tool.file_names import plain
from precision_tool.reading import load_npy
from precision_tool.results import (
    ABSENT,
    EMPTY,
    MISSED,
    NO_NUMBERS,
    NOT_FINITE,
    STATISTICS,
    THRESHOLD,
    Result,
    Row,
    is_bad,
    parse_tensor_index,
)
from pylib import UserError, parallel_map, printable

NPU, GOLDEN = 'npu', 'golden'
SERIAL_BYTES = 32 << 20  # comparing this takes less time than starting other processes

# What is said of a suspect.
BREAKS = 'breaks here'    # its inputs are good
INHERITS = 'inherits'     # one of them is bad already
UNKNOWN = 'unknown'       # there are none to tell


class Suspect(NamedTuple):
    """Where two runs part."""

    row: Row        # the first bad output
    inputs: list    # rows of what feeds it, as near as there was something to compare
    verdict: str


class _Key(NamedTuple):
    """What identifies a tensor in a dump."""

    op: str                # operator's name as in file names
    kind: Optional[str]    # 'input' or 'output'; None: a file without readable tensors
    index: int
    nth: int               # how many operators of that name came before


class _Source(NamedTuple):
    """A tensor in a dump, or what keeps one from being read."""

    name: str
    op_type: str = ''
    kind: Optional[str] = None               # as in _Key
    index: int = 0
    data_type: str = ''
    shape: Tuple[int, ...] = ()
    size: int = 0                            # bytes
    values: Union[Tensor, str, None] = None  # a str is the path of a .npy file
    fault: str = ''                          # why it cannot be compared

    @property
    def is_statistics(self):
        """Whether there are statistics instead of tensors."""
        return self.kind is None and self.fault.endswith(STATISTICS)

    @property
    def is_damaged(self):
        """Whether its values, which should be there, are not."""
        return isinstance(self.values, Tensor) and bool(self.values.fault)


class _Task(NamedTuple):
    """A pair to compare; the right one is None if there is none."""

    left: _Source
    right: Optional[_Source]


def compare_folders(left, right, graphs=(), processes=None, progress=None):
    """Compare two dump folders.

    An NPU's output is paired with the TensorFlow tensor that its dump file names, else with the one
    that the graph names, else with the one of its own name; an input with what the graph says
    feeds it. In two dumps of the same kind, tensors of equal names are pairs.

    Args:
        left, right: folders; of an NPU and a golden dump, the NPU's is the left one.
        graphs: list of `ge_graph.Graph`, or {operator: [(producer, output index)]}.
        processes: number of workers, each holding a pair of tensors; None takes all cores.
        progress: function of (pairs done, pairs in all), called after each pair.

    Returns:
        Result. A pair that cannot be compared has a row with a reason.

    Raises:
        UserError: a folder holds no dump, or no tensors.
    """
    (left_kind, left_stray), (right_kind, right_stray) = _kind(left), _kind(right)
    if (left_kind, right_kind) == (GOLDEN, NPU):
        raise UserError(f'{left}: a golden dump, and {right} one of an NPU; swap them')
    read = {NPU: _npu_sources, GOLDEN: _golden_sources}
    left_sources, right_sources = read[left_kind](left), read[right_kind](right)
    links = _Links(graphs)
    right_operators = {key.op for key in right_sources if key.kind}
    tasks, unmatched_left, matched = [], [], set()
    for key, source in left_sources.items():
        if left_kind == right_kind:
            names = key, key._replace(kind=None, index=0)
        else:
            names = _golden_keys(left_sources, links, key)
        found = next((name for name in names if name in right_sources), None)
        if source.is_statistics and key.op in right_operators:
            tasks.append(_Task(left=source._replace(fault=MISSED + source.fault), right=None))
        elif found or key.kind is None or source.is_damaged:
            tasks.append(_Task(left=source, right=right_sources.get(found)))
            matched.add(found)
        elif key.kind == 'output':
            unmatched_left.append(_tensor_index(source))
    unmatched_right = [_tensor_index(source) for key, source in right_sources.items()
                       if key.kind != 'input' and key not in matched]
    faults = [fault for kind, folder in ((left_kind, left), (right_kind, right))
              for fault in (NpuDump if kind == NPU else GoldenDump)(folder).faults]
    faults += left_stray + right_stray
    return Result(rows=_run(tasks, processes, progress), unmatched_left=unmatched_left,
                  unmatched_right=unmatched_right, faults=tuple(map(printable, faults)))


def _kind(folder):
    """What kind of dump a folder holds the most of, and [a line about files of the other kind]."""
    messages, found = [], OrderedDict()
    for kind, read in ((NPU, lambda: NpuDump(folder).dumps),
                       (GOLDEN, lambda: GoldenDump(folder).tensors)):
        try:
            found[kind] = len(read())
        except UserError as error:
            messages.append(str(error))
    if found:
        chosen = max(found, key=found.get)
        names = {NPU: 'NPU dump files', GOLDEN: 'golden tensors'}
        return chosen, [
            f'{folder}: among its {names[chosen]} are {number} {names[kind]}, which were passed '
            'over; keep them in another folder'
            for kind, number in found.items() if kind != chosen and number]
    raise UserError(messages[0] if messages[0] == messages[1] else
                    f'{folder}: neither NPU dump files (such as '
                    'Conv2D.conv1.12.3.1619492699305998) nor golden tensors (such as '
                    'conv1.0.1619492699305998.npy)')


def _npu_sources(folder):
    """The tensors of an NPU dump: OrderedDict of _Key -> _Source in the order of execution."""
    operators = NpuDump(folder).operators
    if not operators:
        raise UserError(f'{folder}: has overflow records only; dump tensors to compare')
    sources, seen = OrderedDict(), Counter()
    for operator in operators:
        try:
            if operator.is_stats:
                raise UserError(f'{operator.path}: {STATISTICS}')
            dump = open_dump(operator.path)
        except UserError as error:
            key = _Key(operator.plain_name, None, 0, nth=seen[operator.plain_name])
            sources[key] = _Source(name=printable(operator.plain_name), op_type=operator.op_type,
                                   fault=printable(str(error)))
        else:
            name = dump.op_name or operator.plain_name
            key = _Key(plain(name), None, 0, nth=seen[plain(name)])
            for tensor in dump.tensors:
                # An optional input that was not given has no elements.
                if tensor.size or tensor.kind == 'output' or tensor.fault:
                    sources[key._replace(kind=tensor.kind, index=tensor.index)] = _Source(
                        name=printable(name), op_type=operator.op_type, kind=tensor.kind,
                        index=tensor.index, data_type=tensor.data_type, shape=tensor.shape,
                        size=tensor.size, values=tensor, fault=_why_not(tensor))
        seen[key.op] += 1
    return sources


def _why_not(tensor):
    """Why the values of a tensor in a dump file cannot be compared, or ''."""
    if tensor.fault:
        return printable(f'{tensor}: {tensor.fault}')
    # Types that have no name are called by their number: 'type 77'.
    name = tensor.data_type if tensor.data_type.startswith('type ') else f'type {tensor.data_type}'
    return '' if tensor.has_numbers else f'{name}: {NO_NUMBERS}'


def _golden_sources(folder):
    """The tensors of a golden dump: OrderedDict of _Key -> _Source in the order of execution."""
    return OrderedDict(
        (_golden_key(op, index), _Source(name=printable(op), kind='output', index=index,
                                         size=os.path.getsize(path), values=path))
        for (op, index), path in GoldenDump(folder).tensors.items())


def _golden_key(op, index):
    """The key of an output in a golden dump, where names are not repeated."""
    return _Key(op, 'output', index, nth=0)


def _golden_keys(sources, links, key):
    """The keys that the golden tensor of an NPU tensor may have, the best first."""
    if key.kind is None:
        return []
    tensors = [key] if key.kind == 'output' else [
        _golden_key(op, index) for slot, op, index in links.feeds(key.op) if slot == key.index]
    names = []
    for tensor in tensors:
        in_dump = tensor in sources and sources[tensor].values.original_op
        in_graph = links.original(tensor.op, tensor.index)
        names += [(plain(op), index) for op, index in filter(None, (in_dump, in_graph))]
        names.append((tensor.op, tensor.index))
    return [_golden_key(op, index) for op, index in names]


class _Links:
    """Graphs, asked with operator names as in file names."""

    def __init__(self, graphs):
        self._operators, self._producers = {}, {}
        if isinstance(graphs, dict):
            self._producers = {plain(name): producers for name, producers in graphs.items()}
        else:
            for graph in graphs:
                for name, op in graph.operators.items():
                    self._operators.setdefault(plain(name), (graph, op))

    def feeds(self, name):
        """Return [(input index or None if unknown, producer, its output index)]."""
        if name in self._operators:
            graph, op = self._operators[name]
            producers = [(producer.name, index) for producer, index in graph.inputs_of(op)]
            # Where the file lacks a producer, the slots of the others are not known.
            slots = (op.input_slots if len(producers) == len(op.inputs)
                     else [None] * len(producers))
        else:
            producers = self._producers.get(name, ())
            slots = range(len(producers))
        return [(slot, plain(producer), index)
                for slot, (producer, index) in zip(slots, producers)]

    def original(self, name, index):
        """The (operator, output index) of TensorFlow that an output is, or None."""
        if name not in self._operators:
            return None
        descs = self._operators[name][1].output_descs
        return descs[index].original_op if index < len(descs) else None


def _run(tasks, processes, progress):
    """Return the rows of `tasks`, in their order."""
    order = _largest_first(tasks)
    if not processes and sum(map(_size, tasks)) < SERIAL_BYTES:
        processes = 1
    rows = [None] * len(tasks)
    compared = parallel_map(_compare_pair, [tasks[place] for place in order], processes,
                            chunksize=1)
    for done, (place, row) in enumerate(zip(order, compared), 1):
        rows[place] = row._replace(index=place)
        if progress:
            progress(done, len(tasks))
    return rows


def _largest_first(tasks):
    """The places of tasks in the order to do them: no worker is left alone with a large one."""
    return sorted(range(len(tasks)), key=lambda place: -_size(tasks[place]))


def _size(task):
    return sum(source.size for source in task if source)


def _compare_pair(task):
    """Return the `Row` of a task, its index still 0."""
    left, right = task
    row = Row(index=0, op_type=left.op_type, npu_dump=left.name, data_type=left.data_type,
              ground_truth=_right_name(right), golden_data_type=right.data_type if right else '',
              tensor_index=_tensor_index(left), shape=_shape_text(left.shape))
    fault = left.fault or (right and right.fault)
    if right and right.is_statistics and left.kind:
        fault = MISSED + fault
    if fault:
        return row._replace(reason=fault)
    try:
        pair = load_pair(left.values, right.values)
        row = row._replace(data_type=left.data_type or pair.x.dtype.name,
                           golden_data_type=right.data_type or pair.y.dtype.name,
                           shape=row.shape if pair.is_part else _shape_text(pair.x.shape))
        if pair.x.size != pair.y.size:
            raise UserError(pair.note)
        numbers, reason = _compared(pair)
    except UserError as error:
        return row._replace(reason=printable(str(error)))
    except MemoryError:
        return row._replace(reason='not enough memory; compare with fewer processes')
    return row._replace(metrics=numbers, reason=reason)


def _compared(pair):
    """The `Metrics` of a `Pair`, and why there are none or what they are of, or ''.

    NaN and infinities at the same places on both sides are left out.
    """
    numbers = metrics.compare(pair.x, pair.y, is_part=pair.is_part)
    if not math.isnan(numbers.cosine_similarity):
        return numbers, pair.note
    if not pair.x.size:
        return numbers, EMPTY
    finite = metrics.finite_part(pair.x, pair.y)
    if finite is None:
        return numbers, _why_undefined(pair.x, pair.y)
    x, y = finite
    if not x.size:
        return metrics.Metrics(), NOT_FINITE
    numbers = metrics.compare(x, y, is_part=True)
    if math.isnan(numbers.cosine_similarity):
        return numbers, _why_undefined(x, y)
    return numbers, '; '.join(filter(None, (
        pair.note, 'compared what is finite: NaN and infinity are at the same places')))


class _Values(NamedTuple):
    """The values of a source; if only a part is there, their places in the flattened whole."""

    array: np.ndarray
    places: Optional[np.ndarray] = None
    total: int = 0    # values of the whole


class Pair(NamedTuple):
    """The values of two tensors; if only a part is there on a side, what both have, flat."""

    x: np.ndarray
    y: np.ndarray
    places: Optional[np.ndarray] = None    # of a part, in the flattened whole
    note: str = ''                         # how much of a part it is, or how the shapes differ

    @property
    def is_part(self):
        return self.places is not None


def load_pair(left, right):
    """Return the `Pair` of two tensors, each a `Tensor` or the path of a .npy file.

    Raises:
        UserError: one is not readable or holds no numbers; of a part, sizes differ or no value is
            on both sides.
    """
    try:
        y = _load(right)
        x = _load(left, y.array.shape if y.places is None else None)
    except UserError:
        if not _is_stored_alike(left, right):
            raise
        return Pair(left.read(), right.read(), note=f'compared as stored, in {left.format}')
    if x.places is None and y.places is None:
        return Pair(x.array, y.array, note=_of_shapes(x.array, y.array))
    totals = [side.array.size if side.places is None else side.total for side in (x, y)]
    if totals[0] != totals[1]:
        raise UserError(f'sizes differ: {totals[0]} and {totals[1]} elements')
    places = [np.arange(totals[0]) if side.places is None else side.places for side in (x, y)]
    common, of_x, of_y = np.intersect1d(*places, assume_unique=True, return_indices=True)
    if not len(common):
        raise UserError(f'compared none of {totals[0]} values: they are not in the dump')
    return Pair(x.array.reshape(-1)[of_x], y.array.reshape(-1)[of_y], common,
                f'compared {len(common)} of {totals[0]} values: the rest is not in the dump')


def _load(tensor, shape=None):
    """The `_Values` of a tensor; `shape` is the one it should have if its file does not tell."""
    if isinstance(tensor, str):
        return _Values(load_npy(tensor))
    if not tensor.fault and not tensor.has_numbers:
        raise UserError(f'{tensor}: {_why_not(tensor)}')
    if shape and not tensor.original_shape:
        tensor = _as_of(tensor, shape)
    if tensor.present < tensor.count:
        return _Values(*tensor.part())
    array = tensor.to_numpy()
    if tensor.is_shapeless and shape == ():
        array = array.reshape(-1)[:1]    # a scalar and its padding
    return _Values(array)


def _is_stored_alike(left, right):
    """Whether two tensors can be compared though their layout cannot be undone."""
    return all(isinstance(each, Tensor) and not each.fault and each.has_numbers
               and each.present == each.count for each in (left, right)) and (
        left.format, left.groups, left.shape) == (right.format, right.groups, right.shape)


def _as_of(tensor, shape):
    """A tensor that tells no original shape with that of its partner, if it can have it."""
    guess = tensor.with_original_shape(shape)
    if tensor.format not in ('ND', *layouts.PLAIN) or guess.shape != tensor.shape:
        return guess
    # Values that are stored plainly need none, and must not be pressed into one.
    return guess if layouts.axes_of(tensor.shape, tensor.format, None, shape) else tensor


def _of_shapes(x, y):
    """What is to be said of the shapes of two tensors, '' if nothing."""
    texts = f'{_shape_text(x.shape)} and {_shape_text(y.shape)}'
    if x.size != y.size:
        return f'sizes differ: {x.size} and {y.size} elements, of shapes {texts}'
    shapes = ([size for size in array.shape if size != 1] for array in (x, y))
    return '' if next(shapes) == next(shapes) else (
        f'shapes differ: {texts}; compared value by value in the order of storage')


def _why_undefined(x, y):
    """Why two tensors of values have no cosine similarity."""
    sides = [side for side, array in (('left', x), ('right', y)) if not metrics.is_finite(array)]
    if len(sides) == 2:
        return 'NaN or infinity in the left and the right tensor, but not at the same places'
    if sides:
        return f'NaN or infinity in the {sides[0]} tensor'
    sides = [side for side, array in (('left', x), ('right', y)) if not array.any()]
    if len(sides) == 1:
        other = 'right' if sides == ['left'] else 'left'
        return f'the {sides[0]} tensor is all zeros, the {other} one is not'
    return 'all values of one tensor are too small for a direction'


def _right_name(source):
    if source is None:
        return ABSENT
    is_golden = source.kind and isinstance(source.values, str)
    return f'{source.name}:{source.index}' if is_golden else source.name


def _tensor_index(source):
    return ':'.join([source.name, source.kind, str(source.index)]
                    if source.kind else [source.name, ABSENT])


def _shape_text(shape):
    return f'[{",".join(map(str, shape))}]'


def first_bad(rows, graphs=(), threshold=THRESHOLD):
    """Find the first operator with a bad output, see `results.is_bad`.

    Args:
        rows: of a `Result`.
        graphs: as for `compare_folders`; without them, or where they do not know the operator, its
            compared inputs tell whether it is to blame.

    Returns:
        Suspect; None if nothing is bad. A bad input without a bad output anywhere is one too.
    """
    bad = [row for row in rows if is_bad(row, threshold)]
    if not bad:
        return None
    row = next((row for row in bad if _kind_of(row) == 'output'), bad[0])
    inputs = _feeding_rows(rows, row, _Links(graphs))
    if any(is_bad(each, threshold) for each in inputs):
        return Suspect(row, inputs, INHERITS)
    judged = any(not math.isnan(each.cosine) for each in inputs)
    return Suspect(row, inputs, BREAKS if judged else UNKNOWN)


def _kind_of(row):
    parts = parse_tensor_index(row.tensor_index)
    return parts and parts[1]


def _feeding_rows(rows, row, links):
    """The nearest compared tensors upstream of a row's operator, else its compared inputs."""
    outputs, golden_outputs = {}, {}
    for each in rows:
        parts = parse_tensor_index(each.tensor_index)
        if parts and parts[1] == 'output' and each.ground_truth != ABSENT:
            outputs.setdefault((plain(parts[0]), parts[2]), each)
            golden_outputs.setdefault(_golden_tensor(each, parts[2]), each)
    found, seen = [], set()
    pending = deque(links.feeds(plain(row.npu_dump)) or
                    links.feeds(_golden_tensor(row, 0)[0]))
    while pending:
        _, op, index = pending.popleft()
        if (op, index) in seen:
            continue
        seen.add((op, index))
        feeding = outputs.get((op, index)) or golden_outputs.get((op, index))
        if feeding is None:
            pending.extend(links.feeds(op))
        elif feeding.npu_dump != row.npu_dump and feeding not in found:
            found.append(feeding)
    return found or [each for each in rows
                     if each.npu_dump == row.npu_dump and _kind_of(each) == 'input']


def _golden_tensor(row, index):
    """(operator, output index) of a row's golden tensor; `index` unless its name tells one."""
    op, _, number = row.ground_truth.rpartition(':')
    if op and number.isdecimal():
        return plain(op), int(number)
    return plain(row.ground_truth), index
