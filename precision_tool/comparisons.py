"""The comparisons of a workspace: what each compared, and whether that is still what is there.

Beside the table `result_TIME.csv` lies `result_TIME.json`, which tells the two folders, their state
when they were compared, the threshold and the counts. A table without one comes from another tool.
"""

import datetime
import functools
import glob
import hashlib
import json
import os
from typing import NamedTuple, Optional

from precision_tool import reading, results
from pylib import UserError, write_text

_LIMIT = 1 << 20    # bytes of such a file
_TIME = '%Y%m%d%H%M%S'


class Source(NamedTuple):
    """The state of a folder: changed files, new and missing ones make another."""

    folder: str    # below the workspace if it is there
    files: int
    newest: str    # when the newest file was written; '' if there is none
    digest: str    # of names, sizes and times


class Comparison(NamedTuple):
    """What a comparison compared.

    graph: what `vc --graph` was given; graphs: the compiled graphs that told the pairs;
    faults: lines about what was left out, beside pairs that have a reason in the table;
    tool: the `tool_digest` of what compared.
    """

    left: Source
    right: Source
    graphs: Source
    graph: str
    threshold: float
    compared: int
    failed: int
    unmatched: int
    faults: list
    tool: str

    def __str__(self):
        newest = max(self.left.newest, self.right.newest)
        return f'{self.left.folder} with {self.right.folder}, as of {newest}'


@functools.lru_cache(maxsize=1)
def tool_digest():
    """A digest of this package: another version reads dumps and pairs tensors in another way."""
    digest = hashlib.sha1()
    for path in sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(__file__)), '*.py'))):
        with open(path, 'rb') as stream:
            digest.update(stream.read())
    return digest.hexdigest()


def source_of(workspace, folder):
    """The `Source` that a folder, which may be missing, is now."""
    digest, files, newest = hashlib.sha1(), 0, 0.
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith('.npy.txt'):    # what `pt --save` wrote
                continue
            path = os.path.join(parent, name)
            status = os.lstat(path)
            # A copy may have the original's time; that of its last change is its own.
            entry = (os.path.relpath(path, folder), status.st_size, status.st_mtime_ns,
                     status.st_ctime_ns)
            digest.update(repr(entry).encode(errors='replace'))
            files += 1
            newest = max(newest, status.st_mtime)
    text = datetime.datetime.fromtimestamp(newest).strftime('%Y-%m-%d %H:%M:%S') if files else ''
    return Source(_shown(workspace, folder), files, text, digest.hexdigest())


def _shown(workspace, folder):
    """A folder as it is recorded: relative to the workspace, which may be moved, if it is in it."""
    path, root = os.path.realpath(folder), os.path.realpath(workspace.root)
    # A workspace may hold a link to its dump.
    for each in (os.path.abspath(folder), path):
        for base in (os.path.abspath(workspace.root), root):
            if each.startswith(os.path.join(base, '')):
                return os.path.relpath(each, base)
    return path


def new_path(workspace, folder=None):
    """Where a new comparison's table goes: a folder of its own, named by the time, or `folder`."""
    now = datetime.datetime.now().strftime(_TIME)
    for number in range(1000):
        name = f'{now}_{number:03}' if number else now
        parent = folder or os.path.join(workspace.vector_compare, name)
        path = os.path.join(parent, results.RESULT.format(name))
        if not os.path.exists(path if folder else parent):
            return path
    raise UserError(f'{folder or workspace.vector_compare}: too many results in one second')


def write(path, comparison):
    """Write what the comparison at `path` (its table) compared."""
    data = comparison._replace(**{name: getattr(comparison, name)._asdict()
                                  for name in ('left', 'right', 'graphs')})._asdict()
    write_text(_record_path(path), json.dumps(data, indent=1) + '\n')


def read(path):
    """Return the `Comparison` of a table at `path`; None if nothing tells.

    Raises:
        UserError: damaged.
    """
    record = _record_path(path)
    if not os.path.exists(record):
        return None
    value = reading.parse_one_json(reading.read_text(record, _LIMIT), record)
    try:
        comparison = Comparison(**dict(value, **{name: Source(**value[name])
                                                 for name in ('left', 'right', 'graphs')}))
        if not all(map(_is_typed, (comparison, *comparison[:3]))):
            raise TypeError
        return comparison
    except (TypeError, ValueError, KeyError):
        raise UserError(f'{record}: not what a comparison compared; compare again with vc'
                        ) from None


def _is_typed(values):
    """Whether the fields of a named tuple are of their types."""
    return all(isinstance(value, (int, float) if kind is float else kind) and (
        kind is not list or all(isinstance(each, str) for each in value))
               for value, kind in zip(values, type(values).__annotations__.values()))


def _record_path(path):
    return os.path.splitext(path)[0] + '.json'


def newest(workspace):
    """Path of the table of the newest comparison, of whatever folders, or None."""
    return max(_tables(workspace), default=None)


def _tables(workspace):
    # Both folder and file are named by the time.
    return glob.glob(os.path.join(glob.escape(workspace.vector_compare), '*',
                                  results.RESULT.format('*')))


def own(workspace):
    """The newest comparison of the workspace's own NPU dump and golden tensors.

    One of what is there now goes first: clocks are set back, too.

    Returns:
        (path of its table or None, its `Comparison` or None). A table that does not tell what it
        compared is taken if there is no other.
    """
    now = _sources(workspace)
    wanted = [source.folder for source in now[:2]]
    older = untold = None
    for path in sorted(_tables(workspace), reverse=True):
        try:
            comparison = read(path)
        except UserError:    # of what, nobody knows; the next one will do
            continue
        if comparison is None:
            untold = untold or path
        elif [comparison.left.folder, comparison.right.folder] == wanted and not comparison.graph:
            if comparison[:3] == now and comparison.tool == tool_digest():
                return path, comparison
            older = older or (path, comparison)
    return older or (untold, None)


def _folders(workspace):
    """What a comparison of the workspace's own dumps depends on."""
    return workspace.npu_dump(), workspace.tf_dump, workspace.npu_graph()


def _sources(workspace):
    return tuple(source_of(workspace, folder) for folder in _folders(workspace))


def changed(workspace, comparison):
    """What is not as it was when compared any more: folders of dumps and graphs, or this tool."""
    found = [folder for folder, then, now in zip(_folders(workspace), comparison,
                                                 _sources(workspace)) if then != now]
    return found if comparison.tool == tool_digest() else [*found, 'precision_tool itself']


def rows(path, comparison: Optional[Comparison]):
    """Return the rows of a comparison's table at `path`; raises UserError if they are damaged."""
    found = results.read_csv(path)
    if comparison and results.count(found) != (comparison.compared, comparison.failed,
                                               comparison.unmatched):
        raise UserError(f'{path}: not the {comparison.compared} pairs that were compared; '
                        'it is damaged')
    return found


def is_current(workspace, path, comparison: Optional[Comparison]):
    """Whether a comparison is readable, and of the dumps and graphs which are there now."""
    if comparison is None or changed(workspace, comparison):
        return False
    try:
        rows(path, comparison)
    except UserError:
        return False
    return True
