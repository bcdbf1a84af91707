"""Graphs as the NPU's graph compiler (GE) dumps them: `ge_proto_<number>_..._Build.txt`.

Such a file is the protobuf text of a ge.proto.ModelDef, or the JSON made from it; both give equal
graphs. A model has a main graph and sub-graphs, called by operators such as PartitionedCall.
"""

import functools
import json
import os
import re
import shutil
import subprocess
from collections import OrderedDict
from typing import Dict, List, NamedTuple, Optional, Tuple

from google.protobuf import text_format

from precision_tool.reading import message_classes, parse_one_json, read_text, report
from pylib import UserError, warn, write_text

LIMIT = 512 << 20  # bytes of a file

# ge.proto.DataType, by number.
DATA_TYPES = tuple(f'DT_{name}' for name in (
    'UNDEFINED', 'FLOAT', 'FLOAT16', 'INT8', 'UINT8', 'INT16', 'UINT16', 'INT32', 'INT64',
    'UINT32', 'UINT64', 'BOOL', 'DOUBLE', 'STRING', 'DUAL_SUB_INT8', 'DUAL_SUB_UINT8',
    'COMPLEX64', 'COMPLEX128', 'QINT8', 'QINT16', 'QINT32', 'QUINT8', 'QUINT16', 'RESOURCE',
    'STRING_REF', 'DUAL', 'VARIANT', 'BF16', 'INT4', 'UINT1', 'INT2', 'UINT2', 'COMPLEX32',
    'HIFLOAT8', 'FLOAT8_E5M2', 'FLOAT8_E4M3FN', 'FLOAT8_E8M0', 'FLOAT6_E3M2', 'FLOAT6_E2M3',
    'FLOAT4_E2M1', 'FLOAT4_E1M2'))

# The fields of ge.proto that are read; the others are skipped. A map is, in text as on the wire, a
# list of pairs.
_MESSAGES = {
    'ModelDef': 'GraphDef* graph 7',
    'GraphDef': 'bytes name 1, OpDef* op 6, Attribute* attr 11',
    'OpDef': 'bytes name 1, bytes type 2, bytes* input 5, Attribute* attr 10, int64 id 21, '
             'TensorDescriptor* input_desc 33, TensorDescriptor* output_desc 34, '
             'bytes* subgraph_name 35',
    'TensorDescriptor': 'DataType dtype 2, ShapeDef shape 3, bytes layout 4, Attribute* attr 5',
    'ShapeDef': 'int64* dim 1',
    'Attribute': 'bytes key 1, AttrDef value 2',
    'AttrDef': 'ListValue list 1, bytes s 2, int64 i 3, float f 4, bool b 5, '
               'ListListInt list_list_int 14',
    'ListValue': 'bytes* s 2, int64* i 3, float* f 4, bool* b 5',
    'ListListInt': 'ListInt* list_list_i 1',
    'ListInt': 'int64* list_i 1',
}


class Desc(NamedTuple):
    """An input or output tensor of an operator."""

    data_type: str                            # such as 'DT_FLOAT'
    layout: str                               # such as 'NC1HWC0'
    shape: Tuple[int, ...]                    # as computed
    origin_shape: Tuple[int, ...]             # as in the model; () if unknown
    original_op: Optional[Tuple[str, int]]    # (operator, output index) of the model that made it
    parent_index: Optional[int]               # of NetOutput: the calling operator's output it is


class Op(NamedTuple):
    """An operator of a graph.

    Attributes:
        id: number in execution order; graph_name: the graph it is in.
        inputs: [(peer operator, output index of it)], data only; input_slots: [position of each
            among the data inputs], as some may be open.
        input_descs, output_descs: [Desc], the former one for each of `inputs`.
        subgraphs: [name of a graph that it calls].
        attributes: {name: text, number, bool, tuple of such, tuple of tuples, or None (others)}.
    """

    name: str
    type: str
    id: int
    graph_name: str
    inputs: List[Tuple[str, int]]
    input_slots: List[int]
    input_descs: List[Desc]
    output_descs: List[Desc]
    subgraphs: List[str]
    attributes: dict

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


class _Model(NamedTuple):
    """All graphs of a model by name, and which operator calls each of them."""

    graphs: Dict[str, Graph]
    callers: Dict[str, Op]


def _join(graphs):
    """Make the graphs of a model known to each other."""
    model = _Model(graphs={graph.name: graph for graph in reversed(graphs)},
                   callers={name: op for graph in graphs for op in graph.operators.values()
                            for name in op.subgraphs})
    for graph in graphs:
        graph._model = model


def read_graphs(path, faults=None):
    """Return the `Graph`s of a model, the main graph first.

    Args:
        path: protobuf text of a ge.proto.ModelDef or its JSON, told apart by their content.
        faults: list that gets a line for each graph, operator or attribute which is not readable,
            the others being read; None: the first one raises.

    Raises:
        UserError: unreadable, neither of the two, or without a graph.
    """
    text = read_text(path, LIMIT)
    is_json = text.lstrip()[:1] in ('{', '[')
    model = parse_one_json(text, path) if is_json else _parse_text(text, path)
    def left_out(error):
        report(faults, f'{path}: not a GE graph ({error})' if faults is None else
               f'{path}: left out {error}')
    graphs = []
    try:
        for each in _list(_object(model), 'graph'):
            try:
                graphs.append(_graph(_object(each), left_out))
            except (TypeError, ValueError) as error:
                left_out(error if faults is None else f'a graph: {error}')
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: not a GE graph ({error})') from None
    if not graphs:
        raise UserError(f'{path}: holds no graph; give a ge_proto_*_Build.txt or its .json')
    _join(graphs)
    return graphs


@functools.lru_cache(maxsize=8)
def _model_class(data_types):
    """The class of ModelDef messages, with the names of data types that a file has."""
    return message_classes('ge', _MESSAGES, {'DataType': data_types}, ['AttrDef'])['ModelDef']


def _parse_text(text, path):
    """Protobuf text as the dicts and lists that its JSON would give."""
    # Newer compilers have newer data types; an unknown name would end the parse.
    found = set(re.findall(r'\bdtype\s*:\s*([A-Za-z_]\w*)', text, re.ASCII))
    names = DATA_TYPES + tuple(sorted(found - {*DATA_TYPES, 'DataType'}))
    try:
        message = _model_class(names)()
        text_format.Parse(text, message, allow_unknown_field=True)
    except text_format.ParseError as error:
        line = f':{error.GetLine()}' if error.GetLine() else ''
        raise UserError(f'{path}{line}: neither the text nor the JSON of a GE graph; was the '
                        'file copied whole?') from None
    except (RecursionError, TypeError, ValueError):
        raise UserError(f'{path}: not the text of a GE graph') from None
    return _plain(message, names)


def _plain(value, data_types):
    if isinstance(value, bytes):
        return value.decode(errors='replace')
    if isinstance(value, (bool, int, float)):
        return value
    if not hasattr(value, 'ListFields'):
        return [_plain(each, data_types) for each in value]
    plain = {field.name: _plain(each, data_types) for field, each in value.ListFields()}
    if 0 <= plain.get('dtype', -1) < len(data_types):
        plain['dtype'] = data_types[plain['dtype']]
    return plain


def _graph(raw, left_out):
    """The `Graph` of an object; left_out: function that is told what of it is not readable."""
    name = _text(raw.get('name'))
    operators = []
    for number, each in enumerate(_list(raw, 'op')):
        def told(error, number=number):
            left_out(f'graph {name[:60]!r}, operator {number}: {error}')
        try:
            operators.append(_op(_object(each), name, told))
        except (TypeError, ValueError) as error:
            told(error)
    session_graph_id = _attributes(raw, left_out).get('_session_graph_id', '')
    return Graph(name, operators, session_graph_id if isinstance(session_graph_id, str) else '')


def _op(raw, graph_name, left_out):
    if raw.get('name') is None:
        raise TypeError('expected text for its name')
    name = _text(raw['name'])
    peers = [_text(peer) for peer in _list(raw, 'input')]
    edges = [_edge(peer) if peer else None for peer in peers]
    # Open inputs are empty text, control edges have the index -1.
    data_edges = [edge for edge in edges if not edge or edge[1] >= 0]
    slots = [slot for slot, edge in enumerate(data_edges) if edge]
    input_descs = [_desc(each, left_out) for each in _objects(raw, 'input_desc')]
    if slots and len(input_descs) == len(data_edges):
        input_descs = [desc for desc, edge in zip(input_descs, data_edges) if edge]
    return Op(name=name, type=_text(raw.get('type')), id=_integer(raw.get('id') or 0),
              graph_name=graph_name, inputs=[data_edges[slot] for slot in slots],
              input_slots=slots, input_descs=input_descs,
              output_descs=[_desc(each, left_out) for each in _objects(raw, 'output_desc')],
              subgraphs=[_text(each) for each in _list(raw, 'subgraph_name')],
              attributes=_attributes(raw, left_out))


def _edge(text):
    name, _, index = text.rpartition(':')
    if not name or not re.fullmatch('-1|[0-9]{1,9}', index):
        raise ValueError(f'input {text[:60]!r}: expected <operator>:<output>')
    return name, int(index)


def _desc(raw, left_out):
    attributes = _attributes(raw, left_out)

    def attribute(key, kind, default):
        value = attributes.get(key)
        return value if isinstance(value, kind) else default
    data_type = raw.get('dtype') or 0
    if isinstance(data_type, int):
        data_type = DATA_TYPES[data_type] if 0 <= data_type < len(DATA_TYPES) else str(data_type)
    original = attribute('_datadump_origin_name', str, '')
    index = attribute('_datadump_origin_output_index', int, 0)
    return Desc(data_type=_text(data_type), layout=_text(raw.get('layout')),
                shape=tuple(_integer(each)
                            for each in _list(_object(raw.get('shape')), 'dim')),
                origin_shape=attribute('origin_shape', tuple, ()),
                original_op=(original, index) if original else None,
                parent_index=attribute('_parent_node_index', int, None))


# The compiler's own JSON has null for what is empty, and numbers as text; protobuf's has neither.

def _attributes(raw, left_out):
    attributes = {}
    for pair in _objects(raw, 'attr'):
        key = _text(pair.get('key'))
        try:
            attributes[key] = _value(pair.get('value', {}))
        except (TypeError, ValueError) as error:
            left_out(f'attribute {key[:60]!r}: {error}')
    return attributes


def _value(raw):
    """The value of an attribute; None if of a kind that nobody asks for (tensors, graphs)."""
    if raw is None:
        return ()
    raw = _object(raw)
    for kind, convert in _SCALARS.items():
        if raw.get(kind) is not None:
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
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f'expected an object, found {type(value).__name__}')
    return value


def _list(raw, key):
    value = raw.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError(f'{key}: expected a list')
    return value


def _objects(raw, key):
    return [_object(each) for each in _list(_object(raw), key)]


def _text(value):
    if value is None:
        return ''
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


_REAL = re.compile(r'-?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,4})?|inf(?:inity)?|nan)',
                   re.IGNORECASE)


def _real(value):
    if isinstance(value, float) or isinstance(value, str) and _REAL.fullmatch(value):
        return float(value)
    return float(_integer(value))


def _truth(value):
    if isinstance(value, str) and value.lower() in ('true', 'false', '1', '0'):
        return value.lower() in ('true', '1')
    return bool(value)


_SCALARS = OrderedDict(s=_text, i=_integer, f=_real, b=_truth)


# ge_proto_<number>[_graph_<id>]_Build.txt, and the .json made from it.
_FILE_NAME = re.compile(r'ge_proto_([0-9]{1,18})_(.*_)?Build\.txt(\.json)?', re.ASCII | re.DOTALL)


def find_graph_files(folder):
    """Return the paths of the compiled graphs below `folder`, in the order of their numbers.

    Of a text and the JSON made from it, and of several files of one graph id in a folder (the
    graph was compiled again), only the newest is returned.

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


def draw(path, graph, op, depth):
    """Write the operators up to `depth` steps upstream and downstream of `op`.

    Returns:
        The paths written: `path`, and an .svg beside it if Graphviz is installed.
    """
    near, edges = _neighbourhood(graph, op, depth)
    lines = ['digraph {', '  rankdir=TB; node [shape=box, fontname=sans]']
    for name in near:
        each = graph.operators[name]
        style = ', style=filled, fillcolor=gold' if each is op else ''
        # JSON's quotes and escapes are Graphviz's.
        label = json.dumps(f'{each.type}\n{name}')
        lines.append(f'  {json.dumps(name)} [label={label}{style}]')
    lines += [f'  {json.dumps(producer)} -> {json.dumps(consumer)} [label="{index}"]'
              for producer, index, consumer in edges]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_text(path, '\n'.join([*lines, '}']) + '\n')
    if not shutil.which('dot'):
        return [path]
    picture = path[:-len('.gv')] + '.svg'
    if subprocess.call(['dot', '-Tsvg', path, '-o', picture]):
        warn(f'{path}: dot could not draw it')
        return [path]
    return [path, picture]


def _neighbourhood(graph, op, depth):
    """(names in the graph's order, [(producer, output index, consumer)])."""
    edges = [(name, index, each.name) for each in graph.operators.values()
             for name, index in each.inputs if name in graph.operators]
    near = {op.name}
    for _ in range(depth):
        near |= ({producer for producer, _, consumer in edges if consumer in near}
                 | {consumer for producer, _, consumer in edges if producer in near})
    return ([name for name in graph.operators if name in near],
            [edge for edge in edges if edge[0] in near and edge[2] in near])
