"""Graphs as the NPU's graph compiler (GE) dumps them: `ge_proto_<number>_..._Build.txt`.

Such a file is the protobuf text of a ge.proto.ModelDef, or the JSON made from it; both give equal
graphs. A model has a main graph and sub-graphs, called by operators such as PartitionedCall.
"""

import os
import re
from collections import OrderedDict, namedtuple

from precision_tool.ge_proto import DATA_TYPES, read_model
from pylib import UserError

Desc = namedtuple('Desc', 'data_type layout shape origin_shape origin_format value_range '
                          'shape_range original_op parent_index')
Desc.__doc__ = """An input or output tensor of an operator.

data_type: such as 'DT_FLOAT'; layout: such as 'NC1HWC0'; shape: tuple, as computed;
origin_shape, origin_format: as in the model ((), '' if unknown); value_range, shape_range: tuples
of (lowest, highest); original_op: (operator, output index) of the model that made it, or None;
parent_index: of the calling operator's output it becomes (NetOutput of a sub-graph), or None.
"""


class Op(namedtuple('Op', 'name type id graph_name inputs input_slots control_inputs input_descs '
                          'output_descs subgraphs attributes')):
    """An operator of a graph.

    name, type: text; id: number in execution order; graph_name: the graph it is in.
    inputs: [(peer operator, output index of it)], data only; input_slots: [position of each among
    the data inputs, of which some may be open]; control_inputs: [operator].
    input_descs, output_descs: [Desc], the former one for each of `inputs`.
    subgraphs: [name of a graph that it calls].
    attributes: {name: text, number, bool, tuple of such, tuple of tuples, or None (other kinds)}.
    """

    __slots__ = ()

    def _texts(self, key):
        """An attribute that is text, a list of texts or absent, as a tuple."""
        value = self.attributes.get(key)
        values = value if isinstance(value, tuple) else (value,)
        return tuple(each for each in values if isinstance(each, str) and each)

    @property
    def pass_name(self):
        """The fusion passes that made it; '' if none did."""
        return ', '.join(self._texts('pass_name'))

    @property
    def kernel_name(self):
        return ', '.join(self._texts(f'{self.name}_kernelname'))

    @property
    def kernel_lib(self):
        return ', '.join(self._texts('_ge_attr_op_kernel_lib_name'))

    @property
    def original_op_names(self):
        """The operators of the model that it stands for; several if they were fused."""
        return self._texts('_datadump_original_op_names')


class Graph:
    """A graph of a model.

    Attributes:
        name; session_graph_id: text such as '0_1', '' if unknown.
        operators: OrderedDict of name -> Op, in the file's order; the last of equal names.
    """

    def __init__(self, name, operators, session_graph_id=''):
        self.name = name
        self.session_graph_id = session_graph_id
        self.operators = OrderedDict((op.name, op) for op in operators)
        _join([self])

    def __eq__(self, other):
        return isinstance(other, Graph) and (
            (self.name, self.session_graph_id, self.operators)
            == (other.name, other.session_graph_id, other.operators))

    __hash__ = None

    def __repr__(self):
        return f'<Graph {self.name!r}: {len(self.operators)} operators>'

    def find(self, type='', name='', fused_by='', kernel=''):
        """Operators whose type, name, fusion pass and kernel name contain all these."""
        return [op for op in self.operators.values()
                if type in op.type and name in op.name and fused_by in op.pass_name
                and kernel in op.kernel_name]

    def inputs_of(self, op):
        """Return [(producer Op, output index)] of an operator of this model, in order.

        What enters a sub-graph is followed to its producer outside, and what a call returns to its
        producer inside. Peers that the file lacks are left out. Cycles are cut where they close.
        """
        graph_name = op.graph_name if op.graph_name in self._model.graphs else self.name
        producers = [self._producer(graph_name, name, index) for name, index in op.inputs]
        return [producer for producer in producers if producer]

    def _producer(self, *step):
        """(Op, output index) behind a step: (graph name, operator name, output index)."""
        producer, seen = None, set()
        while step and step not in seen:
            seen.add(step)
            graph_name, name, index = step
            op = self._model.graphs[graph_name].operators.get(name)
            if op is None:
                break
            producer = op, index
            step = self._outside(op) or self._inside(op, index)
        return producer

    def _outside(self, op):
        """The step to what feeds a Data operator of a sub-graph, or None."""
        caller = self._model.callers.get(op.graph_name)
        slot = op.attributes.get('_parent_node_index')
        if op.type != 'Data' or op.inputs or caller is None or slot not in caller.input_slots:
            return None
        return (caller.graph_name,) + caller.inputs[caller.input_slots.index(slot)]

    def _inside(self, op, index):
        """The step to what a call's output `index` comes from, or None."""
        if len(op.subgraphs) != 1 or op.subgraphs[0] not in self._model.graphs:
            return None
        graph = self._model.graphs[op.subgraphs[0]]
        result = graph.operators.get(f'{graph.name}_Node_Output') or next(
            (each for each in graph.operators.values() if each.type == 'NetOutput'), None)
        if result is None:
            return None
        slots = [desc.parent_index for desc in result.input_descs]
        if len(slots) != len(result.inputs) or None in slots:
            slots = result.input_slots
        return (graph.name,) + result.inputs[slots.index(index)] if index in slots else None


# All graphs of a model by name, and which operator calls each of them.
_Model = namedtuple('_Model', 'graphs callers')


def _join(graphs):
    """Make the graphs of a model known to each other."""
    model = _Model({graph.name: graph for graph in reversed(graphs)},
                   {name: op for graph in graphs for op in graph.operators.values()
                    for name in op.subgraphs})
    for graph in graphs:
        graph._model = model


def read_graphs(path):
    """Return the `Graph`s of a model, the main graph first.

    Args:
        path: protobuf text of a ge.proto.ModelDef or its JSON, told apart by their content.

    Raises:
        UserError: unreadable, neither of the two, or without a graph.
    """
    model = read_model(path)
    try:
        graphs = [_graph(each) for each in _objects(model, 'graph')]
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: not a GE graph ({error})') from None
    if not graphs:
        raise UserError(f'{path}: holds no graph; give a ge_proto_*_Build.txt or its .json')
    _join(graphs)
    return graphs


def _graph(raw):
    name = _text(raw.get('name', ''))
    operators = []
    for number, each in enumerate(_objects(raw, 'op')):
        try:
            operators.append(_op(each, name))
        except (TypeError, ValueError) as error:
            raise ValueError(f'graph {name[:60]!r}, operator {number}: {error}') from None
    session_graph_id = _attributes(raw).get('_session_graph_id', '')
    return Graph(name, operators, session_graph_id if isinstance(session_graph_id, str) else '')


def _op(raw, graph_name):
    name = _text(raw.get('name'))
    peers = [_text(peer) for peer in _list(raw, 'input')]
    edges = [_edge(peer) if peer else None for peer in peers]
    # Open inputs are empty text, control edges have the index -1.
    data_edges = [edge for edge in edges if not edge or edge[1] >= 0]
    slots = [slot for slot, edge in enumerate(data_edges) if edge]
    input_descs = [_desc(each) for each in _objects(raw, 'input_desc')]
    if slots and len(input_descs) == len(data_edges):
        input_descs = [desc for desc, edge in zip(input_descs, data_edges) if edge]
    return Op(name, _text(raw.get('type', '')), _integer(raw.get('id', 0)), graph_name,
              [data_edges[slot] for slot in slots], slots,
              [edge[0] for edge in edges if edge and edge[1] < 0], input_descs,
              [_desc(each) for each in _objects(raw, 'output_desc')],
              [_text(each) for each in _list(raw, 'subgraph_name')], _attributes(raw))


def _edge(text):
    name, _, index = text.rpartition(':')
    if not name or not re.fullmatch('-1|[0-9]{1,9}', index):
        raise ValueError(f'input {text[:60]!r}: expected <operator>:<output>')
    return name, int(index)


def _desc(raw):
    attributes = _attributes(raw)

    def attribute(key, kind, default):
        value = attributes.get(key)
        return value if isinstance(value, kind) else default
    data_type = raw.get('dtype', 0)
    if isinstance(data_type, int):
        data_type = DATA_TYPES[data_type] if 0 <= data_type < len(DATA_TYPES) else str(data_type)
    original = attribute('_datadump_origin_name', str, '')
    return Desc(
        _text(data_type), _text(raw.get('layout', '')),
        tuple(_integer(each) for each in _list(_object(raw.get('shape', {})), 'dim')),
        attribute('origin_shape', tuple, ()), attribute('origin_format', str, ''),
        attribute('value_range', tuple, ()), attribute('shape_range', tuple, ()),
        (original, attribute('_datadump_origin_output_index', int, 0)) if original else None,
        attribute('_parent_node_index', int, None))


def _attributes(raw):
    return {_text(pair.get('key', '')): _value(_object(pair.get('value', {})))
            for pair in _objects(raw, 'attr')}


def _value(raw):
    """The value of an attribute; None if of a kind that nobody asks for (tensors, graphs)."""
    for kind, convert in _SCALARS.items():
        if kind in raw:
            return convert(raw[kind])
    if 'list' in raw:
        members = _object(raw['list'])
        return tuple(convert(each) for kind, convert in _SCALARS.items()
                     for each in _list(members, kind))
    if 'list_list_int' in raw:
        return tuple(tuple(_integer(each) for each in _list(row, 'list_i'))
                     for row in _objects(_object(raw['list_list_int']), 'list_list_i'))
    return None


def _object(value):
    if not isinstance(value, dict):
        raise TypeError(f'expected an object, found {type(value).__name__}')
    return value


def _list(raw, key):
    value = raw.get(key, [])
    if not isinstance(value, list):
        raise TypeError(f'{key}: expected a list')
    return value


def _objects(raw, key):
    return [_object(each) for each in _list(_object(raw), key)]


def _text(value):
    if not isinstance(value, str):
        raise TypeError(f'expected text, found {type(value).__name__}')
    # JSON can smuggle in halves of surrogate pairs, which no terminal prints.
    return value.encode(errors='replace').decode()


def _integer(value):
    if isinstance(value, str) and re.fullmatch('-?[0-9]{1,19}', value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'expected an integer, found {type(value).__name__}')
    return value


def _real(value):
    return value if isinstance(value, float) else float(_integer(value))


_SCALARS = OrderedDict(s=_text, i=_integer, f=_real, b=bool)


# ge_proto_<number>[_graph_<id>]_Build.txt, and the .json made from it.
_FILE_NAME = re.compile(r'ge_proto_([0-9]{1,18})_(.*_)?Build\.txt(\.json)?', re.ASCII | re.DOTALL)


def find_graph_files(folder):
    """Return the paths of the compiled graphs below `folder`, in the order of their numbers.

    Of a text and the JSON made from it only the newer is returned; likewise of the files of one
    graph id in one folder, if the names have ids: the graph was compiled again.

    Raises:
        UserError: no such folder.
    """
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such folder')
    newest = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            match = _FILE_NAME.fullmatch(name)
            path = os.path.join(parent, name)
            if match and os.path.isfile(path):
                number, graph, is_json = match.groups()
                age = os.path.getmtime(path), int(number), bool(is_json)
                key = parent, graph or number
                newest[key] = max(newest.get(key, ()), (age, path))
    found = sorted((os.path.dirname(path), age[1], path) for age, path in newest.values())
    return [path for _, _, path in found]


# What the compiler inserts and removes as it likes.
_IGNORED = {'TransData', 'Cast', 'Recv', 'Send', 'Variable', 'NetOutput', 'NoOp', 'Assign',
            'Constant', 'StreamActive'}


def similarity(left, right):
    """Compare two graphs: OrderedDict of operator name -> [difference]; [] if there is none.

    Operators are similar if data types and layouts of all inputs and outputs agree.
    """
    differences = OrderedDict()
    for name, op in list(left.operators.items()) + list(right.operators.items()):
        if op.type in _IGNORED or name in differences:
            continue
        if name not in left.operators or name not in right.operators:
            differences[name] = [f'only in the {"left" if name in left.operators else "right"}']
            continue
        other = right.operators[name]
        differences[name] = (_differences('input', op.input_descs, other.input_descs)
                             + _differences('output', op.output_descs, other.output_descs))
    return differences


def _differences(kind, left, right):
    if len(left) != len(right):
        return [f'{len(left)} {kind}s, {len(right)} {kind}s']
    return [f'{kind} {index}: {x.data_type} {x.layout}, {y.data_type} {y.layout}'
            for index, (x, y) in enumerate(zip(left, right))
            if (x.data_type, x.layout) != (y.data_type, y.layout)]


def casts(graph):
    """The Cast operators from DT_FLOAT to DT_INT32, which lose what is behind the point."""
    return [op for op in graph.operators.values() if op.type == 'Cast'
            and any(desc.data_type == 'DT_FLOAT' for desc in op.input_descs)
            and any(desc.data_type == 'DT_INT32' for desc in op.output_descs)]
