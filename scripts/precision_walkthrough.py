"""Break one operator of the generator, and let precision_tool find it.

Makes the files that a debugging session starts from, out of this project's own network: the golden
tensors of a float32 run under TensorFlow's debugger, and what an NPU would dump - every tensor in
16 bits, in the NPU's layouts and file format, its compiled graph, and an overflow record. No NPU is
involved: the 16-bit run is TensorFlow's, each result rounded. docs/precision_tool.md walks through
what to type then.

Examples:
    python scripts/precision_walkthrough.py
    python scripts/precision_walkthrough.py --overflow Genc/Conv_3/Conv2D
"""

import json
import os
import struct
from collections import OrderedDict

import numpy as np

if not __package__:
    import _checkout

from precision_tool.commands import GOLDEN_ENVIRONMENT
from precision_tool.file_names import OVERFLOW_TYPE
from precision_tool.workspace import DATA_ROOT, Workspace
from pylib import ArgumentParser, UserError, run_command, write_text
from scripts.ascend.dump_writer import NewTensor, dump_name, from_plain, write_dump

# A gate of a selective transfer unit whose kernel computes tanh instead of the sigmoid.
BROKEN, WRONG_TYPE = 'Gstu/Conv_4/Sigmoid', 'Tanh'
RUN, START = '20260101000000', 1767225600000000    # time stamps of folders and files
DATA_TYPES = {'float16': 'DT_FLOAT16', 'bfloat16': 'DT_BF16'}


def frozen_generator(img_size, dim):
    """GraphDef of a generator with random weights that are constants, and what to feed it."""
    from stgan.config import RunConfig
    from stgan.pb import INPUTS, OUTPUT, add_generator, input_shapes
    from tflib import tf, utils
    from tflib.layers import GlorotUniform

    config = RunConfig(img_size=img_size, enc_dim=dim, dec_dim=dim, stu_dim=dim)
    with tf.Graph().as_default() as graph:
        with tf.variable_scope('', initializer=GlorotUniform(0)):
            add_generator(config, 1)
        with utils.session('cpu', graph=graph) as session:
            session.run(tf.global_variables_initializer())
            frozen = tf.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), [OUTPUT])
    random = np.random.RandomState(0)
    feeds = {name: random.uniform(-1, 1, shape).astype(np.float32)
             for name, shape in input_shapes(config, 1).items()}
    return frozen, {f'{name}:0': feeds[name] for name in INPUTS}, f'{OUTPUT}:0'


def write_golden(workspace, frozen, feeds, output):
    """Run the graph under TensorFlow's debugger and convert what it dumped."""
    from precision_tool import tf_config, tf_dump
    from tflib import tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name='')
        with tf.Session(graph=graph, config=tf_config.golden_config()) as session:
            tf_config.sess_dump(session, workspace.root).run(output, feeds)
    return tf_dump.convert(tf_dump.newest_run(workspace.tf_debug), workspace.tf_dump)


def rounded_graph(frozen, data_type, broken):
    """A copy of a GraphDef in which every float32 result is rounded to `data_type`.

    Returns:
        (GraphDef, OrderedDict of operator -> name of its rounded result).
    """
    from tflib import tf
    float32, half = tf.float32.as_datatype_enum, tf.as_dtype(data_type).as_datatype_enum
    result, rounded = tf.GraphDef(versions=frozen.versions), OrderedDict()
    for node in frozen.node:
        copy = result.node.add()
        copy.CopyFrom(node)
        if node.name == broken:
            copy.op = WRONG_TYPE
        copy.input[:] = [rounded.get(name, name) for name in node.input]
        if _result_type(node) != float32:
            continue
        names = f'{node.name}/to_16_bits', f'{node.name}/rounded'
        for name, source, types in zip(names, (node.name, names[0]),
                                       ((float32, half), (half, float32))):
            cast = result.node.add(name=name, op='Cast', input=[source])
            cast.attr['SrcT'].type, cast.attr['DstT'].type = types
        rounded[node.name] = names[1]
    return result, rounded


def _result_type(node):
    """The data type of a node's result, as an enum; None for a shape."""
    for name in ('dtype', 'T'):
        if name in node.attr and node.op != 'Shape':
            return node.attr[name].type
    return None


def compute(graph_def, names, feeds):
    """{operator: its result} of a GraphDef."""
    from precision_tool import tf_config
    from tflib import tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name='')
        with tf.Session(graph=graph, config=tf_config.golden_config()) as session:
            fetches = {name: f'{tensor}:0' for name, tensor in names.items()}
            return session.run(fetches, feeds)


def npu_tensor(array, data_type, original_op=None):
    """A tensor as the NPU stores it: images in blocks of 16 channels."""
    if array.ndim != 4:
        return NewTensor(array, data_type=data_type, format='ND', original_op=original_op,
                         original_shape=array.shape)
    return NewTensor(from_plain(array, 'NC1HWC0', 'NHWC'), data_type=data_type,
                     format='NC1HWC0', original_op=original_op, original_shape=array.shape,
                     original_format='NHWC' if original_op else None)


def write_npu_run(workspace, frozen, values, data_type):
    """Write the dump files and the compiled graph; return {operator: task id}."""
    folder = os.path.join(workspace.npu_dump(), RUN, '0', 'ge_default', '1', '0')
    os.makedirs(folder, exist_ok=True)
    tasks, operators = {}, []
    for node in frozen.node:
        if node.name not in values:
            continue
        inputs = [name for name in node.input if name in values]
        desc = {'dtype': DATA_TYPES[data_type], 'layout': 'ND'}
        operators.append({
            'name': node.name, 'type': node.op, 'id': len(operators),
            'input': [f'{name}:0' for name in inputs],
            'input_desc': [dict(desc, shape={'dim': list(values[name].shape)}) for name in inputs],
            'output_desc': [dict(desc, shape={'dim': list(values[node.name].shape)}, attr=[
                {'key': '_datadump_origin_name', 'value': {'s': node.name}},
                {'key': '_datadump_origin_output_index', 'value': {'i': 0}}])]})
        if node.op in ('Const', 'Placeholder', 'Identity'):
            continue
        task = tasks[node.name] = len(tasks) + 1
        write_dump(os.path.join(folder, dump_name(node.op, node.name, task, 0, START + task)),
                   node.name, [npu_tensor(values[name], data_type) for name in inputs],
                   [npu_tensor(values[node.name], data_type, (node.name, 0))], time=START + task)
    graph = {'graph': [{'name': 'ge_default', 'op': operators, 'attr': [
        {'key': '_session_graph_id', 'value': {'s': '0_1'}}]}]}
    os.makedirs(workspace.npu_graph(), exist_ok=True)
    write_text(os.path.join(workspace.npu_graph(), 'ge_proto_00001_graph_1_Build.txt.json'),
               json.dumps(graph, indent=1))
    return tasks


def write_overflow(workspace, values, name, task, data_type):
    """Write the record and the dump that an overflow of an AI Core in operator `name` leaves."""
    folder = os.path.join(workspace.overflow_dump, RUN, '0', 'ge_default', '1', '0')
    os.makedirs(folder, exist_ok=True)
    # Magic, version, valid, unit (0: AI Core), reserved, length; then ids, addresses and status
    # (0x20: a floating-point operation overflowed).
    record = struct.pack('<6I', 0x5a5a5a5a, 0, 1, 0, 0, 88) + struct.pack(
        '<11Q', 1, 0, task, 0, 0, 0, 0x108000, 0x10c000, 0, 0, 0x20)
    opdebug = dump_name(OVERFLOW_TYPE, 'Node_OpDebug', task, 0, START + task + 1)
    write_dump(os.path.join(folder, opdebug), 'Node_OpDebug', [],
               [NewTensor(np.frombuffer(record, np.uint8))], time=START + task + 1)
    result = values[name].copy()
    result.flat[::97] = np.inf
    write_dump(os.path.join(folder, dump_name('Conv2D', name, task, 0, START + task)), name, [],
               [npu_tensor(result, data_type, (name, 0))], time=START + task)


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--root', default=DATA_ROOT, metavar='DIR', help='folder to write')
    parser.add_argument('--data_type', default='float16', choices=sorted(DATA_TYPES),
                        help='of the NPU\'s tensors')
    parser.add_argument('--img_size', type=int, default=64, help='image height and width')
    parser.add_argument('--dim', type=int, default=16, help='channels of the outermost layers')
    parser.add_argument('--broken', default=BROKEN, metavar='NAME',
                        help='operator to break; "none": none')
    parser.add_argument('--overflow', default='', metavar='NAME',
                        help='operator that overflows; default: none')
    args = parser.parse_args()
    workspace = Workspace(args.root)
    if os.path.exists(workspace.root):
        raise UserError(f'{workspace.root}: exists; give another --root')

    os.environ.update(GOLDEN_ENVIRONMENT)
    frozen, feeds, output = frozen_generator(args.img_size, args.dim)
    operators = {node.name: node.op for node in frozen.node}
    for flag, name in (('--broken', args.broken), ('--overflow', args.overflow)):
        if name not in ('', 'none', *operators):
            raise UserError(f'{flag} {name}: the generator has no such operator')
    if args.broken != 'none' and operators[args.broken] != 'Sigmoid':
        known = next(name for name in operators if operators[name] == 'Sigmoid')
        raise UserError(f'--broken {args.broken}: a {operators[args.broken]}, expected a Sigmoid '
                        f'such as {known}')
    count = write_golden(workspace, frozen, feeds, output)
    print(f'{workspace.tf_dump}: {count.written} golden tensors')
    graph, names = rounded_graph(frozen, args.data_type, args.broken)
    values = compute(graph, names, feeds)
    tasks = write_npu_run(workspace, frozen, values, args.data_type)
    print(f'{workspace.npu_dump()}: {len(tasks)} operators in {args.data_type}, '
          f'{args.broken} broken')
    if args.overflow:
        write_overflow(workspace, values, args.overflow, tasks[args.overflow], args.data_type)
        print(f'{workspace.overflow_dump}: {args.overflow} overflowed')
    print('next: python -m precision_tool ac')


if __name__ == '__main__':
    run_command(main)
