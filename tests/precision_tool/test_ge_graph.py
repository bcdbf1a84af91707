"""Compiled graphs: text and JSON of one model, resolved edges, and damaged files."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_tool.ge_graph import (
    Desc,
    casts,
    find_graph_files,
    read_graphs,
    similarity,
)
from pylib import UserError

FILES = Path(__file__).parent / 'files'


def attr(key, **value):
    return {'key': key, 'value': value}


def desc(dtype='DT_FLOAT', layout='NHWC', dim=(1, 2), attrs=()):
    return {'dtype': dtype, 'layout': layout, 'shape': {'dim': list(dim)}, 'attr': list(attrs)}


def op(name, kind, inputs=(), descs=None, outputs=None, attrs=(), **fields):
    data = [peer for peer in inputs if not peer.endswith(':-1')]
    return dict(fields, name=name, type=kind, input=list(inputs), attr=list(attrs),
                input_desc=[desc() for _ in data] if descs is None else descs,
                output_desc=[desc()] if outputs is None else outputs)


def to_text(value, indent=''):
    """Protobuf text of a JSON object, as the C++ library prints it."""
    lines = []
    for key, members in value.items():
        for member in members if isinstance(members, list) else [members]:
            if isinstance(member, dict):
                lines += [f'{indent}{key} {{', to_text(member, indent + '  '), indent + '}']
            elif isinstance(member, (bool, int, float)) or key in ('dtype', 'val_type'):
                lines.append(f'{indent}{key}: {str(member).replace("True", "true")}')
            else:
                escaped = ''.join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\'
                                  else f'\\{byte:03o}' for byte in member.encode())
                lines.append(f'{indent}{key}: "{escaped}"')
    return '\n'.join(line for line in lines if line)


def write(folder, model, name='ge_proto_00000012_Build.txt'):
    """Write a model in both forms; return their paths."""
    paths = folder / name, folder / (name + '.json')
    paths[0].write_text(to_text(model) + '\n')
    paths[1].write_text(json.dumps(model))
    return [str(path) for path in paths]


def read(folder, *graphs):
    """The graphs of a model, which must be equal whether read from its text or its JSON."""
    text, from_json = (read_graphs(path) for path in write(folder, {'graph': list(graphs)}))
    assert [(graph.name, graph.session_graph_id, graph.operators) for graph in text] == [
        (graph.name, graph.session_graph_id, graph.operators) for graph in from_json]
    return text


def names(producers):
    return [(producer.name, index) for producer, index in producers]


CONV = op('net/Conv', 'Conv2D', ['net/in:0', 'w:1', 'net/in:-1'], id=3, stream_id=0,
          descs=[desc('DT_FLOAT16', 'NC1HWC0', (1, 1, 8, 8, 16)), desc('DT_FLOAT16')],
          outputs=[desc('DT_FLOAT16', 'NC1HWC0', (1, 4, 8, 8, 16), [
              attr('origin_shape', list={'i': [1, 8, 8, 64], 'val_type': 'VT_LIST_INT'}),
              attr('_datadump_origin_name', s='net/Relu'),
              attr('_datadump_origin_output_index', i=0)])],
          attrs=[attr('pass_name', s='ConvReluPass'), attr('net/Conv_kernelname', s='te_conv_1'),
                 attr('_ge_attr_op_kernel_lib_name', s='AIcoreEngine'),
                 attr('_datadump_original_op_names', list={'s': ['net/Conv', 'net/Relu']}),
                 attr('strides', list={'i': [1, 2, 2, 1]}), attr('alpha', f=0.25),
                 attr('flag', b=True), attr('flags', list={'b': [True, True]}),
                 attr('ranks', list={'f': [0.5, 2.0]}), attr('empty', list={}),
                 attr('ranges', list_list_int={'list_list_i': [{'list_i': [1, -1]},
                                                               {'list_i': [8, 8]}]}),
                 attr('tensor', t={'data': 'abc'})])


def test_both_forms_give_equal_graphs(tmp_path):
    graph, = read(tmp_path, {
        'name': 'ge_default', 'attr': [attr('_session_graph_id', s='0_1')],
        'op': [op('net/in', 'Data', [''], id=0), op('w', 'Constant', outputs=[desc(), desc()]),
               CONV]})
    assert (graph.name, graph.session_graph_id) == ('ge_default', '0_1')
    assert list(graph.operators) == ['net/in', 'w', 'net/Conv']
    conv = graph.operators['net/Conv']
    assert (conv.name, conv.type, conv.id) == ('net/Conv', 'Conv2D', 3)
    assert conv.inputs == [('net/in', 0), ('w', 1)]
    assert (conv.pass_name, conv.kernel_name, conv.kernel_lib) == (
        'ConvReluPass', 'te_conv_1', 'AIcoreEngine')
    assert [each.data_type for each in conv.input_descs] == ['DT_FLOAT16'] * 2
    assert conv.output_descs == [Desc(
        data_type='DT_FLOAT16', layout='NC1HWC0', shape=(1, 4, 8, 8, 16),
        origin_shape=(1, 8, 8, 64), original_op=('net/Relu', 0), parent_index=None)]
    assert (conv.attributes['strides'], conv.attributes['alpha'], conv.attributes['flag']) == (
        (1, 2, 2, 1), 0.25, True)
    assert conv.attributes['flags'] == (True, True) and conv.attributes['ranks'] == (0.5, 2.0)
    assert conv.attributes['ranges'] == ((1, -1), (8, 8))
    assert conv.attributes['empty'] == () and conv.attributes['tensor'] is None
    assert names(graph.inputs_of(conv)) == [('net/in', 0), ('w', 1)]


def test_fused_operators_keep_all_original_names(tmp_path):
    graph, = read(tmp_path, {'op': [
        CONV, op('one', 'Relu', attrs=[attr('_datadump_original_op_names', s='a/Relu'),
                                       attr('pass_name', list={'s': ['A', 'B']})]),
        op('none', 'Relu', attrs=[attr('_datadump_original_op_names', list={'s': ['']})])]})
    assert [each.original_op_names for each in graph.operators.values()] == [
        ('net/Conv', 'net/Relu'), ('a/Relu',), ()]
    assert [each.pass_name for each in graph.operators.values()] == ['ConvReluPass', 'A, B', '']


def test_open_inputs_keep_descriptions_and_edges_together(tmp_path):
    graph, = read(tmp_path, {'op': [op('a', 'Data'), op(
        'b', 'Op', ['', 'a:-1', 'a:0', '', 'a:1'],
        descs=[desc(layout=str(slot)) for slot in range(4)])]})
    b = graph.operators['b']
    assert b.inputs == [('a', 0), ('a', 1)] and b.input_slots == [1, 3]
    assert [each.layout for each in b.input_descs] == ['1', '3']


SUBGRAPHS = [
    {'name': 'main', 'op': [
        op('x', 'Data'), op('y', 'Data'),
        op('call', 'PartitionedCall', ['', 'x:0', 'y:0'], subgraph_name=['sub'],
           outputs=[desc(), desc(), desc()]),
        op('end', 'Add', ['call:0', 'call:1', 'call:2', 'call:-1'])]},
    {'name': 'sub', 'op': [
        op('arg_y', 'Data', [''], attrs=[attr('_parent_node_index', i=2)]),
        op('arg_x', 'Data', attrs=[attr('_parent_node_index', i=1)]),
        op('mul', 'Mul', ['arg_x:0', 'arg_y:0']),
        op('sub_Node_Output', 'NetOutput', ['mul:0', 'arg_y:0', 'inner:0'], descs=[
            desc(attrs=[attr('_parent_node_index', i=index)]) for index in (1, 0, 2)]),
        op('inner', 'PartitionedCall', ['mul:0'], subgraph_name=['deep'])]},
    {'name': 'deep', 'op': [
        op('arg', 'Data', attrs=[attr('_parent_node_index', i=0)]),
        op('neg', 'Neg', ['arg:0']),
        op('deep_Node_Output', 'NetOutput', ['neg:0'])]}]


def test_edges_are_followed_through_subgraphs(tmp_path):
    main, sub, deep = read(tmp_path, *SUBGRAPHS)
    # The call's outputs: 0 passes y through, 1 is the product, 2 comes from the inner call.
    assert names(main.inputs_of(main.operators['end'])) == [('y', 0), ('mul', 0), ('neg', 0)]
    assert names(main.inputs_of(main.operators['call'])) == [('x', 0), ('y', 0)]
    assert names(sub.inputs_of(sub.operators['mul'])) == [('x', 0), ('y', 0)]
    # Any graph of the model will do, and operators tell which one they are in.
    (neg, _), = deep.inputs_of(deep.operators['deep_Node_Output'])
    assert neg.graph_name == 'deep' and names(main.inputs_of(neg)) == [('mul', 0)]


def test_a_call_that_cannot_be_followed_is_the_producer(tmp_path):
    for change in ([], [{'name': 'sub', 'op': []}],
                   [{'name': 'sub', 'op': [op('sub_Node_Output', 'NetOutput')]}]):
        main = read(tmp_path, SUBGRAPHS[0], *change)[0]
        assert names(main.inputs_of(main.operators['end'])) == [('call', 0), ('call', 1),
                                                                ('call', 2)]


def test_missing_peers_are_left_out(tmp_path):
    graph, = read(tmp_path, {'op': [op('a', 'Relu', ['gone:0', 'b:0']), op('b', 'Data')]})
    assert names(graph.inputs_of(graph.operators['a'])) == [('b', 0)]


def test_cycles_are_cut(tmp_path):
    loop = op('a', 'Merge', ['b:0']), op('b', 'NextIteration', ['a:0'])
    graph, = read(tmp_path, {'op': list(loop)})
    assert names(graph.inputs_of(graph.operators['a'])) == [('b', 0)]
    # A call that is fed by its own output, passed straight through.
    main, sub = read(tmp_path, {'name': 'main', 'op': [
        op('call', 'PartitionedCall', ['call:0'], subgraph_name=['sub'])]},
        {'name': 'sub', 'op': [op('arg', 'Data', attrs=[attr('_parent_node_index', i=0)]),
                               op('sub_Node_Output', 'NetOutput', ['arg:0'])]})
    assert len(main.inputs_of(main.operators['call'])) == 1
    assert len(sub.inputs_of(sub.operators['sub_Node_Output'])) == 1
    # A graph that calls itself.
    recursive, = read(tmp_path, {'name': 'r', 'op': [
        op('call', 'PartitionedCall', subgraph_name=['r']),
        op('r_Node_Output', 'NetOutput', ['call:0'])]})
    assert names(recursive.inputs_of(recursive.operators['r_Node_Output'])) == [('call', 0)]


def test_unknown_data_types_and_fields_do_not_matter(tmp_path):
    graph, = read(tmp_path, {'op': [op('a', 'Cast', descs=[desc('DT_HIFLOAT8')],
                                       outputs=[desc('DT_UNDEFINED')])]})
    assert graph.operators['a'].input_descs[0].data_type == 'DT_HIFLOAT8'
    path = tmp_path / 'x.txt'
    path.write_text('version: 3 future { deep { x: 1 x: -inf } y: DT_A } graph { op { '
                    'name: "a" output_desc { dtype: 99 size: 4 attr { key: "k" value { dt: 3 } } } '
                    'output_desc { dtype: 27 } output_desc { shape { } } } }')
    graph, = read_graphs(str(path))
    assert [each.data_type for each in graph.operators['a'].output_descs] == [
        '99', 'DT_BF16', 'DT_UNDEFINED']


def test_names_of_any_alphabet_survive(tmp_path):
    graph, = read(tmp_path, {'name': 'Граф "1"', 'op': [op('层/a:b\\', 'Relu', ['层/a:b\\:0'])]})
    assert graph.name == 'Граф "1"' and graph.operators['层/a:b\\'].inputs == [('层/a:b\\', 0)]


def test_similarity(tmp_path):
    left, = read(tmp_path, {'op': [CONV, op('a', 'Relu'), op('b', 'Add', ['a:0']), op('l', 'Neg'),
                                   op('t', 'TransData'), op('x', 'Relu')]})
    right, = read(tmp_path, {'op': [
        CONV, op('a', 'Relu', outputs=[desc('DT_FLOAT16')]), op('b', 'Add', ['a:0', 'a:0']),
        op('r', 'Neg'), op('x', 'Relu', outputs=[desc(dim=(5,))])]})
    assert list(similarity(left, right).items()) == [
        ('net/Conv', []), ('a', ['output 0: DT_FLOAT NHWC, DT_FLOAT16 NHWC']),
        ('b', ['1 inputs, 2 inputs']), ('l', ['only in the left']), ('x', []),
        ('r', ['only in the right'])]
    assert not any(similarity(left, left).values())


def test_casts_that_lose_fractions(tmp_path):
    def cast(name, source, target, kind='Cast'):
        return op(name, kind, ['x:0'], [desc(source)], [desc(target)])
    graph, = read(tmp_path, {'op': [
        cast('a', 'DT_FLOAT', 'DT_INT32'), cast('b', 'DT_FLOAT', 'DT_FLOAT16'),
        cast('c', 'DT_INT32', 'DT_FLOAT'), cast('d', 'DT_FLOAT', 'DT_INT32', 'ArgMax')]})
    assert [each.name for each in casts(graph)] == ['a']


def touch(folder, name, age=0):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('')
    os.utime(str(path), (1e9 - age, 1e9 - age))
    return str(path)


def test_graph_files(tmp_path):
    touch(tmp_path, 'ge_proto_00000001_PreRunBegin.txt')
    touch(tmp_path, 'ge_onnx_00000005_Build.pbtxt')
    touch(tmp_path, 'ge_proto_x_Build.txt')
    touch(tmp_path, 'ge_proto_00000009_Build.txt', age=5)
    converted = touch(tmp_path, 'ge_proto_00000009_Build.txt.json', age=5)
    touch(tmp_path, 'ge_proto_00000007_Build.txt.json', age=5)
    changed = touch(tmp_path, 'ge_proto_00000007_Build.txt')
    touch(tmp_path, 'ge_proto_00000020_graph_1_Build.txt', age=5)
    again = touch(tmp_path, 'ge_proto_00000021_graph_1_Build.txt')
    other = touch(tmp_path, 'ge_proto_00000022_graph_11_Build.txt')
    below = touch(tmp_path, 'pid_1/ge_proto_00000007_Build.txt')
    (tmp_path / 'ge_proto_00000003_Build.txt').mkdir()
    assert find_graph_files(str(tmp_path)) == [changed, converted, again, other, below]
    with pytest.raises(UserError, match='no such folder'):
        find_graph_files(str(tmp_path / 'none'))


@pytest.mark.parametrize('content, complaint', [
    ('', ': holds no graph'), ('hello: 3', ': holds no graph'), ('{}', ': holds no graph'),
    ('graph {\n  op {', ':'), ('graph {\n op {\n  id: "x" }}', ':3: neither'),
    ('graph { name: "a" name: "b" }', ':1: neither'),
    ('a { ' * 100000, ': not the text of a GE graph'), ('[' * 100000, ': JSON nested'),
    ('\n{"graph": [}', ':2: not JSON'), ('{} {}', ':1: not JSON (more'),
    ('{"graph": [{"op": [{"id": 1}]}]}', ": not a GE graph (graph '', operator 0: expected text"),
    ('{"graph": {}}', ': not a GE graph (graph: expected a list'),
    ('{"graph": ["x"]}', ": not a GE graph (expected an object, found str"),
    ('[1]', ": not a GE graph (expected an object"),
    ('{"graph": [{"op": [{"name": "a", "input": "b:0"}]}]}', ': not a GE graph'),
    ('{"graph": [{"op": [{"name": "a", "input": ["b"]}]}]}', ': not a GE graph'),
    ('{"graph": [{"op": [{"name": "a", "input": ["b:-2"]}]}]}', ': not a GE graph'),
    ('graph { op { name: "a" input: "b:9999999999999" } }', ': not a GE graph'),
    (b'\xff\xfe\x00\x01', ': not text')], ids=lambda value: str(value)[:20])
def test_damage_is_located(tmp_path, content, complaint):
    path = tmp_path / 'ge_proto_1_Build.txt'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read_graphs(str(path))
    assert str(error.value).startswith(str(path) + complaint) and '\n' not in str(error.value)


def test_hostile_numbers_and_halves_of_characters(tmp_path):
    path = tmp_path / 'x.json'
    path.write_text('{"graph": [{"op": [{"name": "\\ud800", "output_desc": [{"shape": {"dim": '
                    '[9223372036854775808, -1]}}]}]}]}')
    graph, = read_graphs(str(path))
    (op,) = graph.operators.values()
    op.name.encode()
    assert op.output_descs[0].shape == (1 << 63, -1)


def test_missing_file(tmp_path):
    for path in (tmp_path / 'none', tmp_path):
        with pytest.raises(UserError):
            read_graphs(str(path))


def truncated_or_changed(text):
    """Strategy: the text cut short, or with a few characters replaced."""
    changes = st.lists(st.tuples(st.integers(0, len(text) - 1), st.sampled_from('{}":\\[]\n<a0-')),
                       min_size=1, max_size=4)

    def apply(places):
        characters = list(text)
        for place, character in places:
            characters[place] = character
        return ''.join(characters)
    return st.integers(0, len(text)).map(lambda end: text[:end]) | changes.map(apply)


MODEL = {'graph': [dict(SUBGRAPHS[0], op=SUBGRAPHS[0]['op'] + [CONV])] + SUBGRAPHS[1:]}


@settings(max_examples=50, deadline=None)
@given(truncated_or_changed(to_text(MODEL)) | truncated_or_changed(json.dumps(MODEL))
       | st.text(max_size=30))
def test_fuzz(tmp_path_factory, text):
    path = tmp_path_factory.mktemp('fuzz') / 'x.txt'
    path.write_bytes(text.encode())
    try:
        graphs = read_graphs(str(path))
    except UserError as error:
        assert str(error).startswith(str(path)) and '\n' not in str(error)
        return
    for graph in graphs:
        for each in graph.operators.values():
            graph.inputs_of(each)
            assert each.kernel_name is not None and each.original_op_names is not None
        similarity(graph, graphs[0])
        casts(graph)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just('a:0'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(['name', 'type', 'input', 'id', 'attr', 'key', 'value', 's', 'i', 'list',
                         'dtype', 'shape', 'dim', 'input_desc', 'list_list_int', 'list_list_i',
                         'subgraph_name']), inner, max_size=4), max_leaves=12)


@settings(max_examples=50, deadline=None)
@given(st.lists(JSON, max_size=3))
def test_fuzz_of_json_structure(tmp_path_factory, ops):
    path = tmp_path_factory.mktemp('fuzz') / 'x.json'
    path.write_text(json.dumps({'graph': [{'name': 'g', 'op': ops}]}))
    try:
        graph, = read_graphs(str(path))
    except UserError as error:
        assert str(error).startswith(str(path)) and '\n' not in str(error)
    else:
        assert all(isinstance(graph.inputs_of(each), list) for each in graph.operators.values())


def test_null_is_never_a_traceback(tmp_path):
    """Each value of a real file in turn; only the name of an operator is needed."""
    text = (FILES / 'atc_graph.json').read_text()
    refused = []
    for match in re.finditer(r'"(\w+)": ("[^"]*"|[-\d.]+|true|false)', text):
        path = tmp_path / 'graph.json'
        path.write_text(f'{text[:match.start(2)]}null{text[match.end(2):]}')
        try:
            read_graphs(str(path))
        except UserError as error:
            assert str(error).endswith('expected text for its name)') and '\n' not in str(error)
            refused.append(match[1])
    assert refused == ['name', 'name']    # those of its operators


def test_the_json_of_the_offline_compiler():
    """It writes null for what is empty, and numbers as text."""
    graph, = read_graphs(str(FILES / 'atc_graph.json'))
    nms, data = graph.operators['nms'], graph.operators['data']
    assert (nms.id, nms.inputs, data.inputs, data.id) == (7, [('data', 0)], [], 0)
    assert nms.attributes['iou_threshold'] == .5 and nms.attributes['number'] == 1 << 32
    assert nms.attributes['lowest'] == -3.4028235e+38 and nms.attributes['empty'] == ()
    infinite = nms.attributes['infinite']
    assert infinite[:2] == (float('inf'), 1) and infinite[2] != infinite[2]
    assert nms.attributes['is_dynamic'] is False
    desc, = nms.input_descs
    assert (desc.shape, desc.origin_shape) == ((1000, 80), ())
    assert nms.output_descs[0].shape == data.output_descs[0].shape == ()
