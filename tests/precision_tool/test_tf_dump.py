"""Real runs under TensorFlow's debugger, converted; damaged and hostile ones."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from precision_tool import tf_config, tf_dump
from precision_tool.dump_tree import GoldenDump
from precision_tool.workspace import Workspace
from pylib import UserError
from stgan import editing
from stgan.config import RunConfig
from tflib import tf

RUN = '_tfdbg_device_,job_localhost,replica_0,task_0,device_CPU_0'


def debugged(root, fetches, feeds=None, config=None, runs=1, prepare=None):
    """Run fetches under the debugger; returns (values of the last run, folder of the runs)."""
    with tf.Session(config=config) as session:
        session.run(prepare or tf.global_variables_initializer())
        dumping = tf_config.sess_dump(session, root)
        for _ in range(runs):
            values = dumping.run(fetches, feeds)
    return values, Workspace(root).tf_debug


def plain_config(**options):
    """Nothing folded or fused: all nodes run under their names."""
    config = tf.ConfigProto(**options)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    return config


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A converted run of every kind of tensor: (values by name, output folder, run folder)."""
    root = tmp_path_factory.mktemp('small')
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 3], 'in/x')
        weights = tf.get_variable('w', [3, 4])
        product = tf.matmul(x, weights, name='h')
        left, right = tf.split(product, 2, 1, name='split')
        fetches = {
            ('h', 0): product, ('split', 0): left,
            ('sum', 0): tf.add(left, right, name='sum'),
            ('yes', 0): tf.greater(product, 0, name='yes'),
            ('half', 0): tf.cast(product, tf.float16, name='half'),
            ('brain', 0): tf.cast(product, tf.bfloat16, name='brain'),
            ('wave', 0): tf.complex(left, left, name='wave'),
            ('count', 0): tf.cast(product, tf.int64, name='count'),
            ('nothing', 0): tf.slice(product, [0, 0], [0, 3], name='nothing'),
            ('scalar', 0): tf.reduce_max(product, name='scalar')}
        extra = [tf.as_string(product, name='text'), tf.while_loop(
            lambda i: i < 3, lambda i: i + 1, [tf.constant(0)], name='loop')]
        feeds = {x: np.arange(6, dtype=np.float32).reshape(2, 3),
                 right: np.full([2, 2], 7, np.float32)}
        (values, _), folder = debugged(str(root), [fetches, extra], feeds, plain_config())
    run, output = tf_dump.newest_run(folder), str(root / 'golden')
    count = tf_dump.convert(run, output)
    values.update({('in_x', 0): feeds[x], ('split', 1): feeds[right]})
    return values, output, run, count


def golden(folder):
    dump = GoldenDump(folder)
    return {key: np.load(path) for key, path in dump.tensors.items()}


def test_values_are_those_of_the_run(small):
    values, output, _, count = small
    found = golden(output)
    for key, value in values.items():
        assert found[key].shape == np.shape(value), key
        if key == ('brain', 0):
            assert found[key].dtype == np.float32
            assert np.array_equal(found[key], value.astype(np.float32))
        else:
            assert found[key].dtype == value.dtype, key
            assert np.array_equal(found[key], value), key
    assert count.written == len(list(Path(output).glob('*.npy')))


def test_feeds_have_the_name_of_what_they_are_fed_to(small):
    _, output, _, _ = small
    found = golden(output)
    assert not [name for name, _ in found if '_arg_' in name]
    # split:1 is computed too, in vain; what its consumers saw was the feed.
    assert found['split', 1].tolist() == [[7, 7], [7, 7]]


def test_text_and_resources_are_skipped_and_counted(small):
    _, output, run, count = small
    found = golden(output)
    assert ('text', 0) not in found and ('w', 0) not in found and ('h', 0) in found
    dumped = sum(len(names) for _, _, names in os.walk(os.path.join(run, RUN)))
    assert count.skipped >= 2 and count.written + count.skipped <= dumped


def test_loops_keep_each_turn(small):
    values, output, _, _ = small
    turns = sorted(Path(output).glob('loop_Identity.0.*.npy'))
    assert [int(np.load(str(path))) for path in turns] == [0, 1, 2]


def test_graph_edges(small):
    _, output, _, _ = small
    edges = tf_dump.graph_edges(output)
    assert edges['h'][0] == ('in/x', 0) and edges['sum'] == [('split', 0), ('split', 1)]
    assert edges['split'][1] == ('h', 0)
    assert not [name for name in edges if name.startswith(('_arg', '_retval'))]
    for inputs in edges.values():
        assert all(isinstance(name, str) and index >= 0 for name, index in inputs)


def test_only_the_newest_run_is_converted(tmp_path):
    for number in (1, 2):
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float32, [], 'x')
            y = tf.multiply(x, 2, name=f'y{number}')
            _, folder = debugged(str(tmp_path), y, {x: number}, plain_config(), runs=2,
                                 prepare=tf.no_op())
    runs = sorted(str(path) for path in Path(folder).glob('*/run_*'))
    assert len(runs) == 4 and tf_dump.newest_run(folder) == max(runs)
    output = str(tmp_path / 'golden')
    tf_dump.convert(tf_dump.newest_run(folder), output)
    found = golden(output)
    assert found['y2', 0] == 4 and ('y1', 0) not in found
    # Another run over it leaves nothing of the last.
    tf_dump.convert(min(runs), output)
    found = golden(output)
    assert found['y1', 0] == 2 and ('y2', 0) not in found
    assert len(list(Path(output).glob('y1.0.*.npy'))) == 1


def test_runs_are_ordered_by_numbers(tmp_path):
    for name in ('run_9_0', 'run_10_2', 'run_10_10', 'run_x_1', 'run_11', 'other'):
        (tmp_path / name).mkdir()
    assert tf_dump.newest_run(str(tmp_path)) == str(tmp_path / 'run_10_10')
    (tmp_path / 'session_5' / 'run_12_0').mkdir(parents=True)
    assert os.path.basename(tf_dump.newest_run(str(tmp_path))) == 'run_12_0'


@pytest.mark.parametrize('make', [lambda path: None, os.mkdir, lambda path: Path(path).touch()])
def test_no_runs(tmp_path, make):
    make(str(tmp_path / 'tf_debug'))
    with pytest.raises(UserError, match='tf_debug: .*sess_dump'):
        tf_dump.newest_run(str(tmp_path / 'tf_debug'))


def test_two_devices_are_one_graph(tmp_path):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2], 'x')
        with tf.device('/cpu:0'):
            first = tf.square(x, name='first')
        with tf.device('/cpu:1'):
            second = tf.negative(first, name='second')
        _, folder = debugged(str(tmp_path), second, {x: [1, 2]},
                             plain_config(device_count={'CPU': 2}), prepare=tf.no_op())
    output = str(tmp_path / 'golden')
    tf_dump.convert(tf_dump.newest_run(folder), output)
    found = golden(output)
    assert found['first', 0].tolist() == [1, 4] and found['second', 0].tolist() == [-1, -4]
    edges = tf_dump.graph_edges(output)
    assert edges['second'] == [('first', 0)] and edges['first'] == [('x', 0)]


def test_names_that_files_cannot_tell_apart_are_warned_about(tmp_path, capsys):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [], 'x')
        both = [tf.square(x, name='a/b'), tf.negative(x, name='a_b'),
                tf.square(x, name='/'.join(['long' * 20] * 3))]
        _, folder = debugged(str(tmp_path), both, {x: 1}, plain_config(), prepare=tf.no_op())
    count = tf_dump.convert(tf_dump.newest_run(folder), str(tmp_path / 'golden'))
    err = capsys.readouterr().err
    assert 'a/b and a_b share the file name a_b' in err and 'name is too long' in err
    assert count.skipped == 1 and len(err.splitlines()) == 2


def test_a_generator(tmp_path):
    config = RunConfig(experiment_name='x', img_size=32, enc_dim=4, dec_dim=4, stu_dim=4)
    random = np.random.RandomState(0)
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        graph = editing.EditGraph(config)
        image = tf.identity(graph.edited, name='edited')
        feeds = {graph._images: random.uniform(-1, 1, [1, 32, 32, 3]),
                 graph._labels: random.uniform(-1, 1, [1, 2, config.n_att])}
        value, folder = debugged(str(tmp_path), image, feeds, plain_config())
        names = {operation.name for operation in tf.get_default_graph().get_operations()}
    output = str(tmp_path / 'golden')
    count = tf_dump.convert(tf_dump.newest_run(folder), output)
    found, edges = golden(output), tf_dump.graph_edges(output)
    assert np.array_equal(found['edited', 0], value)
    assert found['Genc_Conv_Conv2D', 0].shape == (1, 16, 16, 4)
    assert count.written == len(list(Path(output).glob('*.npy'))) and count.skipped
    assert not list(Path(output).glob('.writing*'))
    # From the result one gets to the image and to a weight, all by names of the graph.
    reached, pending = set(), ['edited']
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += [producer for producer, _ in edges.get(name, ())]
    assert reached <= names and graph._images.op.name in reached
    assert 'Genc/Conv/Conv2D' in reached and len(reached) > 50


@pytest.fixture
def copy(small, tmp_path):
    """A copy of the small run, to damage."""
    run = str(tmp_path / os.path.basename(small[2]))
    shutil.copytree(small[2], run)
    return run


def dumps(run, name):
    return sorted(Path(run, RUN).glob(f'{name}_0_DebugIdentity_*'))


def test_one_damaged_tensor_is_left_out_with_a_warning(copy, tmp_path, capsys):
    path, = dumps(copy, 'h')
    path.write_bytes(path.read_bytes()[:-5])
    count = tf_dump.convert(copy, str(tmp_path / 'golden'))
    line, = capsys.readouterr().err.splitlines()
    assert str(path) in line and 'damaged' in line and count.written > 10
    assert ('h', 0) not in golden(str(tmp_path / 'golden'))


def event(*sizes, **fields):
    """A dump file's content: a tensor of the shape `sizes`."""
    result = tf.Event()
    tensor = result.summary.value.add().tensor
    tensor.MergeFrom(type(tensor)(**fields))
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    return result.SerializeToString()


HOSTILE = {
    'huge': event(1 << 62, dtype=1, tensor_content=b'1234'),
    'huge text': event(1 << 40, dtype=1, string_val=[b'x'], float_val=[1]),
    'negative': event(-1, 0, -7, dtype=1, tensor_content=b'1234'),
    'empty and huge': event(0, 1 << 62, 1 << 62, dtype=1),
    'no type': event(1, tensor_content=b'1234'),
    'unknown type': event(1, dtype=120, tensor_content=b'1234'),
    'odd size': event(1, dtype=1, tensor_content=b'123'),
    'no tensor': tf.Event().SerializeToString(), 'nothing': b'', 'garbage': b'\xff' * 100}


@pytest.mark.parametrize('name', sorted(HOSTILE))
def test_hostile_tensors(copy, tmp_path, capsys, name):
    path, = dumps(copy, 'h')
    path.write_bytes(HOSTILE[name])
    count = tf_dump.convert(copy, str(tmp_path / 'golden'))
    assert ('h', 0) not in golden(str(tmp_path / 'golden')) and count.written > 10
    assert len(capsys.readouterr().err.splitlines()) <= 1


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_ends_in_a_warning_or_a_user_error(small, tmp_path_factory, data):
    run = str(tmp_path_factory.mktemp('run') / 'run_1_0')
    shutil.copytree(small[2], run)
    files = sorted(str(path) for path in Path(run).rglob('*') if path.is_file())
    path = data.draw(st.sampled_from([files[0]] + [f for f in files if '_graph_' in f] + files))
    with open(path, 'rb') as stream:
        content = bytearray(stream.read())
    for _ in range(data.draw(st.integers(1, 4))):
        if content:
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] = data.draw(st.integers(0, 255))
    with open(path, 'wb') as stream:
        stream.write(content[:data.draw(st.integers(0, len(content)))])
    try:
        tf_dump.convert(run, os.path.join(run, 'golden'))
        tf_dump.graph_edges(os.path.join(run, 'golden'))
    except UserError as error:
        assert run in str(error) and '\n' not in str(error)


def test_what_is_no_run(tmp_path, copy):
    output = str(tmp_path / 'golden')
    with pytest.raises(UserError, match='nowhere: no such folder'):
        tf_dump.convert(str(tmp_path / 'nowhere'), output)
    (tmp_path / 'run_1_0').mkdir()
    with pytest.raises(UserError, match='run_1_0: no tensors'):
        tf_dump.convert(str(tmp_path / 'run_1_0'), output)
    (Path(copy) / RUN / 'notes.txt').write_text('')
    with pytest.raises(UserError, match='not a whole run.*notes.txt'):
        tf_dump.convert(copy, output)
    assert not os.path.exists(output)


def test_a_run_without_a_graph_gives_tensors_and_a_warning(copy, tmp_path, capsys):
    next(Path(copy, RUN).glob('_tfdbg_graph_*')).unlink()
    output = str(tmp_path / 'golden')
    assert tf_dump.convert(copy, output).written > 10
    assert 'has no graph' in capsys.readouterr().err
    assert tf_dump.graph_edges(output) == {}


@pytest.mark.parametrize('name', ['notes.npy', 'a.0.5.npy'])
def test_tensors_of_other_origin_are_not_removed(small, tmp_path, name):
    (tmp_path / name).write_text('mine')
    with pytest.raises(UserError, match=f'tensors of other origin .{name}'):
        tf_dump.convert(small[2], str(tmp_path))
    assert os.listdir(str(tmp_path)) == [name]


def test_a_bad_graph_file_is_named(tmp_path):
    with pytest.raises(UserError, match='graph.pb: No such file.*convert'):
        tf_dump.graph_edges(str(tmp_path))
    (tmp_path / 'graph.pb').write_bytes(b'\xff' * 50)
    with pytest.raises(UserError, match='graph.pb: not a GraphDef'):
        tf_dump.graph_edges(str(tmp_path))
