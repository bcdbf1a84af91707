"""Folders of dump files: those of an NPU run, and the golden tensors of TensorFlow.

An NPU writes <dump_path>/<YYYYmmddHHMMSS>/<device>/<graph>/<model>/<dump index>/<file>; any of
these folders will do, and one with nothing but files.
"""

import contextlib
import os
import re
from collections import OrderedDict

from precision_tool import dump_file
from precision_tool.file_names import (
    MAPPING,
    OVERFLOW_TYPE,
    parse_dump_name,
    parse_golden_name,
    plain,
    raw_name,
    read_mapping,
)
from pylib import UserError

_RUN = re.compile('[0-9]{14}')
_DUMP_INDEX = re.compile('[0-9]{1,9}')
_HASHED = re.compile(r'[0-9]+(\.csv)?')    # as devices call files whose names would be too long


class Operator:
    """One dump of an operator.

    Attributes:
        op_type, task_id, stream_id, timestamp, slice: as in `file_names.DumpName`.
        plain_name: name of the operator as file names have it.
        path: of its dump file; is_stats: whether that holds statistics instead of tensors.
        step: the dump index, an integer, or None in a folder without.
    """

    def __init__(self, dump_name, path, is_stats, step):
        (self.op_type, self.plain_name, self.task_id, self.stream_id, self.timestamp,
         self.slice) = dump_name
        self.path = path
        self.is_stats = is_stats
        self.step = step
        self._name = None

    @property
    def name(self):
        """Name as in the graph, from the dump file; from the file's name if it tells none."""
        if self._name is None:
            self._name = self.plain_name
            if not self.is_stats:
                # That a file is damaged is said where its tensors are read.
                with contextlib.suppress(UserError):
                    self._name = dump_file.read_op_name(self.path) or self.plain_name
        return self._name


class NpuDump:
    """The dump files of an NPU run; no file is opened before a name or tensor is asked for.

    Attributes:
        folder: the run's folder, the newest one if there are several.
        dumps: list of `Operator`, all there are, in the order of execution.
        operators: the same without those of which there is a newer one in the same graph.
        records: list of `Operator` of the overflow records, in order of time.
        faults: lines about what was passed over, such as a link out of the folder.
    """

    def __init__(self, folder):
        """Find the files below `folder`.

        Raises:
            UserError: no such folder, or no dump files.
        """
        self.folder = _newest_run(folder)
        self.faults = _beside(folder) if self.folder != folder else []
        found = sorted((operator for path, names in _files(self.folder, self.faults)
                        for operator in _operators(path, names, self.faults)), key=_time)
        if not found:
            raise UserError(f'{self.folder}: no NPU dump files; expected names such as '
                            'Conv2D.conv1.12.3.1619492699305998')
        self.dumps = [operator for operator in found if operator.op_type != OVERFLOW_TYPE]
        self.operators = sorted(_newest(self.dumps), key=_time)
        self.faults += _sliced(self.dumps, self.operators)
        self.records = [operator for operator in found if operator.op_type == OVERFLOW_TYPE]


def has_files(folder):
    """Whether a folder or one below it holds anything; a missing one does not."""
    return any(names for _, _, names in os.walk(folder))


def _newest_run(folder):
    """The newest of the time-stamped folders in `folder`, or itself if there are none."""
    runs = [entry.name for entry in _entries(folder)
            if _RUN.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    return os.path.join(folder, max(runs)) if runs else folder


def _beside(folder):
    """[A line about dump files beside the folders of runs], which are not looked at."""
    number = sum(entry.is_file() and parse_dump_name(entry.name) is not None
                 for entry in _entries(folder))
    return [f'{folder}: {number} dump files beside the folders of runs, which were passed over; '
            'give them a folder of their own'] if number else []


def _entries(folder):
    """The entries of a folder, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f'{folder}: {error.strerror}') from None


def _files(folder, faults):
    """Yield (folder, names of the regular files in it) of `folder` and all folders below.

    Links within the folder are passed over, since what they lead to is found anyway. `faults`
    gets a line for each link that leads out of it, and each folder below that is not readable.

    Raises:
        UserError: `folder` is not readable.
    """
    root = os.path.realpath(folder)
    pending = [folder]
    while pending:
        current = pending.pop()
        names, folders = [], []
        try:
            entries = _entries(current)
        except UserError as error:
            if current == folder:
                raise
            faults.append(str(error))
            continue
        for entry in entries:
            if entry.is_symlink():
                target = os.path.realpath(entry.path)
                if target != root and not target.startswith(os.path.join(root, '')):
                    faults.append(f'{entry.path}: a link out of {folder}; replace it by a copy')
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                names.append(entry.name)
        yield current, names
        pending.extend(reversed(folders))


def _operators(folder, names, faults):
    """Yield the `Operator`s of the dump files among the files `names` in a folder."""
    mapping, unread = read_mapping(folder) if MAPPING in names else ({}, [])
    faults += unread
    index = os.path.basename(os.path.abspath(folder))
    step = int(index) if _DUMP_INDEX.fullmatch(index) else None
    for name in names:
        original = mapping.get(name, name)
        dump_name = parse_dump_name(original)
        is_copy = raw_name(name) != name and raw_name(name) in names
        if dump_name and not is_copy:
            is_stats = original.endswith('.csv') or name.endswith('.csv')
            yield Operator(dump_name, os.path.join(folder, name), is_stats, step)
        elif not dump_name and (name in mapping or _HASHED.fullmatch(name)):
            faults.append(f'{os.path.join(folder, name)}: named by a hash, for which no row of '
                          f'{MAPPING} there tells the name of a dump file; copy that file again')


def _newest(operators):
    """Return the newest dump of each operator of each graph, one with tensors if there is one."""
    newest = {}
    for operator in operators:
        folder = os.path.dirname(operator.path)
        graph = folder if operator.step is None else os.path.dirname(os.path.abspath(folder))
        key = graph, operator.op_type, operator.plain_name
        age = not operator.is_stats, operator.step or 0, operator.timestamp, operator.task_id
        if key not in newest or age > newest[key][0]:
            newest[key] = age, operator
    return [operator for _, operator in newest.values()]


def _sliced(dumps, chosen):
    """Lines about the operators among `chosen` that are one of several slices in `dumps`."""
    slices = {}
    for operator in dumps:
        slices.setdefault(_task(operator), set()).add(operator.slice)
    return [f'{operator.path}: one of {len(slices[_task(operator)])} slices of an operator, which '
            'are not joined here; of the others nothing is read'
            for operator in chosen if len(slices[_task(operator)]) > 1]


def _task(operator):
    return (os.path.dirname(operator.path), operator.op_type, operator.plain_name,
            operator.task_id, operator.stream_id)


def _time(operator):
    return operator.timestamp, operator.task_id, operator.path


class GoldenDump:
    """The golden tensors in a folder and those below it.

    Attributes:
        folder; tensors: OrderedDict of (operator name as file names have it, output index) -> path
        of the newest file, in order of time; faults: as of `NpuDump`.
    """

    def __init__(self, folder):
        """Find the files.

        Raises:
            UserError: no such folder, or no golden tensors.
        """
        self.folder = folder
        self.faults = []
        newest = {}
        for path, names in _files(folder, self.faults):
            for name in names:
                golden = parse_golden_name(name)
                if golden:
                    key = plain(golden.op_name), golden.index
                    found = golden.timestamp, os.path.join(path, name)
                    newest[key] = max(found, newest.get(key, found))
        if not newest:
            raise UserError(f'{folder}: no golden tensors; expected names such as '
                            'conv1.0.1619492699305998.npy')
        self.tensors = OrderedDict((key, newest[key][1])
                                   for key in sorted(newest, key=lambda key: (newest[key], key)))
