"""Which operator fusions the graph compiler made, from the `fusion_result.json` it leaves.

Each compiled graph has two groups of passes, `graph_fusion` and `ub_fusion`. Over the years the
file was one object, a list of objects, objects one behind the other, and one object with a member
per graph (`session_and_graph_id_<session>_<graph>`).
"""

import re
from typing import NamedTuple

from precision_tool.reading import parse_json, read_text, report
from pylib import UserError

LIMIT = 64 << 20
KINDS = 'graph', 'ub'
ID_KEYS = 'graphId', 'session_and_graph_id'
MEMBER = 'session_and_graph_id_'
SEPARATOR = re.compile(r'[\s,]*')


class Fusion(NamedTuple):
    """How often a fusion pass was used."""

    graph_id: str        # such as '0_1' (session, graph); '' if the file has none
    kind: str            # 'graph' or 'ub'
    name: str            # of the pass
    effect_times: int    # fusions made


def read_fusion(path, faults=None):
    """Return the `Fusion`s of a file, in its order, those without effect too.

    Args:
        faults: list that gets a line for each graph or pass which is not readable, the others
            being read; None: the first one raises.

    Raises:
        UserError: unreadable, or no fusion result.
    """
    text = read_text(path, LIMIT)
    if not text.strip():
        raise UserError(f'{path}: empty; the compiler writes it when the run ends well')
    fusions, position = [], 0
    while True:
        start = SEPARATOR.match(text, position).end()
        if start == len(text):
            return fusions
        try:
            value, position = parse_json(text, path, start)
        except UserError as error:    # where the next one begins, nobody knows
            report(faults, error)
            return fusions
        place = f'{path}:{text.count(chr(10), 0, start) + 1}'
        for entry in value if isinstance(value, list) else [value]:
            fusions += _readable(_of_entry(entry), place, faults)


def _readable(found, place, faults):
    """Yield the `Fusion`s among `found`; the others are exceptions, which are reported."""
    for each in found:
        if isinstance(each, Exception):
            report(faults, f'{place}: no fusion result ({each})')
        else:
            yield each


def _of_entry(entry):
    """Yield `Fusion`s, or an exception, of an object of the file: a graph, or graphs by their ids.
    """
    try:
        for graph_id, graph in _graphs(entry):
            yield from _of_graph(graph_id, graph)
    except (TypeError, ValueError) as error:
        yield error


def _graphs(entry):
    """[(id, object)] of the graphs in an object of the file."""
    if not isinstance(entry, dict):
        raise TypeError('expected an object for each graph')
    graphs = [(key[len(MEMBER):], value) for key, value in entry.items() if key.startswith(MEMBER)]
    if graphs:
        return graphs
    if entry and not set(entry) & {*ID_KEYS, *(f'{kind}_fusion' for kind in KINDS)}:
        raise ValueError('expected graph_fusion or ub_fusion; give the compiler\'s '
                         'fusion_result.json')
    ids = [entry[key] for key in ID_KEYS if key in entry]
    if any(not isinstance(each, (str, int)) for each in ids):
        raise TypeError(f'{"/".join(ID_KEYS)}: expected text')
    return [(str(ids[0]) if ids else '', entry)]


def _of_graph(graph_id, graph):
    """Yield `Fusion`s, or an exception for what is none, of a graph."""
    for kind in KINDS:
        try:
            passes = _object(_object(graph, f'graph {graph_id[:60]!r}').get(f'{kind}_fusion', {}),
                             f'{kind}_fusion')
        except TypeError as error:
            yield error
            continue
        for name, counts in passes.items():
            try:
                yield Fusion(graph_id=graph_id, kind=kind, name=name,
                             effect_times=_effect_times(name, counts))
            except (TypeError, ValueError) as error:
                yield error


def _object(value, where):
    if not isinstance(value, dict):
        raise TypeError(f'{where}: expected an object')
    return value


def _effect_times(name, counts):
    """A natural number, which the compiler writes as text."""
    value = _object(counts, f'{name[:60]!r}').get('effect_times', 0)
    if not re.fullmatch('[0-9]{1,18}', str(value)):
        raise ValueError(f'{name[:60]!r}: effect_times: expected a natural number')
    return int(value)
