"""Saving a training step and doing it again: real steps, on the CPU and on fake NPUs."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from precision_tool import tf_config, train_analysis
from precision_tool.dump_tree import GoldenDump
from precision_tool.train_analysis import PrecisionTfSession
from precision_tool.workspace import Workspace
from pylib import RunFailed, UserError
from tflib import npu, tf

CLASSIC = tf.__version__.startswith('1.')


def build(dropout=False):
    """A step that pulls `w` towards the mean of what is fed; returns (placeholder, operation)."""
    x = tf.placeholder(tf.float32, [None, 3], 'in/x')
    w = tf.get_variable('w', [3], initializer=tf.zeros_initializer())
    seen = x
    if dropout:
        rate = tf.constant(0.9, name='dropout/rate')
        kept = tf.cast(tf.random.uniform(tf.shape(x), name='dropout/random') >= rate, tf.float32)
        seen = tf.multiply(x, kept, name='dropped')
    difference = tf.subtract(w, tf.reduce_mean(seen, 0), name='difference')
    loss = tf.reduce_sum(tf.square(difference))
    return x, tf.train.GradientDescentOptimizer(0.25).minimize(loss)


def save_step(root, value, steps=1, **options):
    """Train `steps` steps in a PrecisionTfSession; returns the workspace."""
    with tf.Graph().as_default():
        x, step = build(**options)
        with PrecisionTfSession(root=str(root)) as session:
            session.run(tf.global_variables_initializer())
            for _ in range(steps):
                session.run(step, {x: value})
    return Workspace(str(root))


def saved_inputs(root):
    return {path.name: np.load(str(path))
            for path in Path(Workspace(str(root)).checkpoint_input).glob('*')}


def golden(workspace):
    return {key: np.load(path) for key, path in GoldenDump(workspace.tf_dump).tensors.items()}


def test_feeds_and_variables_are_saved(tmp_path):
    workspace = save_step(tmp_path, np.ones([2, 3]), steps=2)
    inputs = saved_inputs(tmp_path)
    assert list(inputs) == ['in_x_0.npy'] and inputs['in_x_0.npy'].dtype == np.float32
    assert inputs['in_x_0.npy'].tolist() == np.ones([2, 3]).tolist()
    reader = tf.train.NewCheckpointReader(workspace.checkpoint)
    assert reader.get_tensor('w').tolist() == [0.75] * 3    # half the way, twice
    assert os.path.exists(workspace.checkpoint + '.meta')


def test_all_feeds_are_saved_whatever_the_kind_of_key(tmp_path):
    with tf.Graph().as_default(), PrecisionTfSession(root=str(tmp_path)) as session:
        a, b, c, d, e = (tf.placeholder(tf.float32, [], name) for name in 'abcde')
        text = tf.placeholder(tf.string, [2], 'scope/text')
        brain = tf.placeholder(tf.bfloat16, [], 'brain')
        sparse = tf.sparse.placeholder(tf.float32, [2, 2], 'sparse')
        slices = tf.IndexedSlices(d, tf.placeholder(tf.int32, [], 'index'))
        inner = tf.multiply(a, 2, name='inner')
        fetches = [inner + b + c + e, text, brain, tf.sparse.to_dense(sparse), d, slices.indices]
        session.run(fetches, {
            'c:0': 3, sparse: tf.SparseTensorValue([[0, 1]], [5.], [2, 2]), (b, e): (2, 9),
            slices: (4, 1), text: ['x', 'ü'], brain: 1.5, a: 1, inner: 7})
    inputs = saved_inputs(tmp_path)
    assert {name: value.tolist() for name, value in inputs.items() if 'sparse' not in name} == {
        'a_0.npy': 1, 'b_0.npy': 2, 'c_0.npy': 3, 'd_0.npy': 4, 'e_0.npy': 9, 'index_0.npy': 1,
        'inner_0.npy': 7, 'brain_0.npy': 1.5, 'scope_text_0.npy': [b'x', 'ü'.encode()]}
    parts = [value.tolist() for name, value in sorted(inputs.items()) if 'sparse' in name]
    assert len(parts) == 3 and all(part in parts for part in ([[0, 1]], [5], [2, 2]))


def test_it_is_a_session_of_this_tensorflow(tmp_path):
    with tf.Graph().as_default() as graph:
        y = tf.constant(2) + 3
        config = tf.ConfigProto(allow_soft_placement=True)
        with PrecisionTfSession('', graph, config, str(tmp_path)) as session:
            assert isinstance(session, tf.Session) and session.graph is graph
            assert session.run(y) == y.eval() == 5


def test_saving_happens_after_the_outermost_run_only(tmp_path, monkeypatch):
    saves, inside = [], []
    save = PrecisionTfSession._save

    def counting(self, feed_dict):
        saves.append(dict(feed_dict))
        save(self, feed_dict)
    monkeypatch.setattr(PrecisionTfSession, '_save', counting)
    with tf.Graph().as_default():
        x, step = build()
        probe = tf.numpy_function(lambda: inside.append(len(saves)), [], [], name='probe')
        with PrecisionTfSession(root=str(tmp_path)) as session:
            session.run(tf.global_variables_initializer())
            session.run([step, probe], {x: np.zeros([1, 3])})
            with pytest.raises(ValueError):
                session.run(step, {x: np.zeros([1, 4])})
    # Saving runs operations of the session too; a run that fails saves nothing.
    assert inside == [1] and [len(feeds) for feeds in saves] == [0, 1]


def test_variables_are_saved_once_all_are_initialized(tmp_path):
    with tf.Graph().as_default():
        x, step = build()
        with PrecisionTfSession(root=str(tmp_path)) as session:
            session.run(tf.shape(x), {x: np.ones([1, 3])})
            assert not (tmp_path / 'tf' / 'checkpoints' / 'ckpt.index').exists()
            session.run(tf.global_variables_initializer())
            session.run(step, {x: np.ones([1, 3])})
            nodes = len(session.graph.get_operations())
            session.run(step, {x: np.ones([1, 3])})
            assert len(session.graph.get_operations()) == nodes
            extra = tf.get_variable('extra', [], initializer=tf.ones_initializer())
            session.run(extra.initializer)
    reader = tf.train.NewCheckpointReader(Workspace(str(tmp_path)).checkpoint)
    assert reader.has_tensor('w') and reader.has_tensor('extra')


def test_a_finalized_graph(tmp_path):
    with tf.Graph().as_default() as graph:
        build()
        initializer = tf.global_variables_initializer()
        with PrecisionTfSession(root=str(tmp_path)) as session:
            graph.finalize()
            with pytest.raises(UserError, match='finalize it after the first run'):
                session.run(initializer)


def test_a_disk_that_refuses(tmp_path):
    (tmp_path / 'tf').write_text('')
    with pytest.raises(RunFailed, match='checkpoints: could not be saved'):
        save_step(tmp_path, np.ones([1, 3]))


def test_text_that_files_cannot_hold_is_warned_about(tmp_path, capsys):
    with tf.Graph().as_default(), PrecisionTfSession(root=str(tmp_path)) as session:
        text = tf.placeholder(tf.string, [], 'text')
        assert session.run(tf.strings.length(text), {text: b'a\0'}) == 2
    assert 'text:0: what is fed to it is not saved' in capsys.readouterr().err
    assert not saved_inputs(tmp_path)


def test_the_step_is_done_again_on_the_cpu(tmp_path):
    workspace = save_step(tmp_path, np.ones([2, 3]))
    count = train_analysis.train(workspace, 'cpu')
    tensors = golden(workspace)
    assert count.written >= len(tensors) > 10
    assert tensors['in_x', 0].tolist() == np.ones([2, 3]).tolist()
    assert tensors['difference', 0].tolist() == [-0.5] * 3     # w was halfway there
    train_analysis.train(workspace, 'cpu')
    again = golden(workspace)
    assert sorted(again) == sorted(tensors)
    assert np.array_equal(again['difference', 0], tensors['difference', 0])


def test_all_operations_run_under_their_names(tmp_path):
    with tf.Graph().as_default():
        folded = tf.multiply(tf.constant([2.]), 3, name='folded')
        w = tf.get_variable('w', [1])
        tf.add_to_collection(tf.GraphKeys.TRAIN_OP, tf.assign_add(w, folded))
        with PrecisionTfSession(root=str(tmp_path)) as session:
            session.run(tf.global_variables_initializer())
    train_analysis.train(Workspace(str(tmp_path)), 'cpu')
    assert golden(Workspace(str(tmp_path)))['folded', 0].tolist() == [6]


def test_dropout_is_off_and_random_numbers_are_seeded(tmp_path):
    workspace = save_step(tmp_path, np.ones([50, 3]), dropout=True)
    drawn = []
    for _ in range(2):
        train_analysis.train(workspace, 'cpu')
        tensors = golden(workspace)
        assert tensors['dropout_rate', 0] == 0 and tensors['dropped', 0].all()
        drawn.append([value for (name, _), value in sorted(tensors.items())
                      if name.endswith('RandomUniform')])
    assert len(drawn[0]) == 1 and np.array_equal(drawn[0], drawn[1])


def test_missing_inputs_are_random_with_a_warning(tmp_path, capsys):
    workspace = save_step(tmp_path, np.ones([2, 3]))
    os.unlink(os.path.join(workspace.checkpoint_input, 'in_x_0.npy'))
    train_analysis.train(workspace, 'cpu')
    warning = capsys.readouterr().err
    assert 'nothing saved for in/x:0' in warning and 'in_x_0.npy' in warning
    first = golden(workspace)['in_x', 0]
    train_analysis.train(workspace, 'cpu')
    assert first.shape == (1, 3) and first.std() > 0 and np.array_equal(
        first, golden(workspace)['in_x', 0])


@pytest.mark.parametrize('dtype', ['float16', 'int64', 'uint8', 'bool', 'string', 'complex64'])
def test_data_sets_are_replaced_by_random_values(tmp_path, dtype):
    with tf.Graph().as_default():
        data = tf.data.Dataset.from_tensors(np.zeros([5], dtype if dtype != 'string' else 'S1'))
        iterator = tf.data.make_initializable_iterator(data)
        tf.add_to_collection(tf.GraphKeys.TRAIN_OP, tf.identity(iterator.get_next(), 'fed').op)
        with PrecisionTfSession(root=str(tmp_path)) as session:
            session.run(iterator.initializer)
    count = train_analysis.train(Workspace(str(tmp_path)), 'cpu') if dtype != 'string' else None
    if dtype == 'string':
        with pytest.raises(UserError, match='none of its . tensors'):
            train_analysis.train(Workspace(str(tmp_path)), 'cpu')
    else:
        value = golden(Workspace(str(tmp_path)))['fed', 0]
        assert (value.shape, value.dtype) == ((5,), dtype) and count.written == 2


def test_inputs_nobody_can_make_up(tmp_path):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [1 << 20, 1 << 20], 'x')
        tf.add_to_collection(tf.GraphKeys.TRAIN_OP, tf.identity(x).op)
        with PrecisionTfSession(root=str(tmp_path)) as session:
            session.run(tf.constant(1))
    with pytest.raises(UserError, match=r'x:0 \(float32 .*cannot be made up'):
        train_analysis.train(Workspace(str(tmp_path)), 'cpu')


def test_what_is_missing_is_named(tmp_path):
    workspace = Workspace(str(tmp_path))
    with pytest.raises(UserError, match="device 'tpu': unknown; choose from cpu, npu, all"):
        train_analysis.train(workspace, 'tpu')
    with pytest.raises(UserError, match='checkpoints: no graph'):
        train_analysis.train(workspace, 'cpu')
    with tf.Graph().as_default(), PrecisionTfSession(root=str(tmp_path)) as session:
        session.run(tf.constant(1))
    with pytest.raises(UserError, match='ckpt.meta: no operations in its collection train_op'):
        train_analysis.train(workspace, 'cpu')


def test_the_newest_graph_is_taken(tmp_path):
    workspace = save_step(tmp_path, np.ones([2, 3]))
    other = Path(workspace.checkpoints, 'old.meta')
    other.write_bytes(b'\xff')
    os.utime(str(other), (1, 1))
    train_analysis.train(workspace, 'cpu')
    os.utime(str(other))
    os.utime(workspace.checkpoint + '.meta', (1, 1))
    with pytest.raises(UserError, match='old.meta: not a graph'):
        train_analysis.train(workspace, 'cpu')


@pytest.mark.parametrize('name, content, complaint', [
    ('ckpt.index', b'', 'ckpt: not a whole checkpoint'),
    ('ckpt.data-00000-of-00001', b'', 'ckpt: not a whole checkpoint'),
    ('ckpt.meta', b'\xff' * 9, 'ckpt.meta: not a graph'),
    ('input/in_x_0.npy', b'\x93NUMPY', 'in_x_0.npy: '),
    ('input/in_x_0.npy', None, r'in_x_0.npy: not of shape .*, which in/x:0 has')])
def test_damaged_files_are_named(tmp_path, name, content, complaint):
    workspace = save_step(tmp_path, np.ones([2, 3]))
    path = os.path.join(workspace.checkpoints, *name.split('/'))
    if content is None:
        np.save(path, np.ones([2, 4], np.float32))
    else:
        Path(path).write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught:
        train_analysis.train(workspace, 'cpu')
    assert '\n' not in str(caught.value)


def test_a_graph_of_unknown_operations_is_named(tmp_path):
    workspace = save_step(tmp_path, np.ones([2, 3]))
    proto = tf.MetaGraphDef.FromString(Path(workspace.checkpoint + '.meta').read_bytes())
    proto.graph_def.node.add(name='status', op='NpuGetFloatStatus')
    Path(workspace.checkpoint + '.meta').write_bytes(proto.SerializeToString())
    with pytest.raises(UserError, match='ckpt.meta: cannot be imported .*NpuGetFloatStatus'):
        train_analysis.train(workspace, 'cpu')


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_of_the_graph_is_survived_or_named(saved_meta, data):
    folder, content = saved_meta
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = os.path.join(folder, 'damaged.meta')
    Path(path).write_bytes(content[:data.draw(st.integers(0, len(content)))])
    with tf.Graph().as_default():
        try:
            train_analysis._import(path)
        except UserError as error:
            assert path in str(error) and '\n' not in str(error)


@pytest.fixture(scope='module')
def saved_meta(tmp_path_factory):
    folder = tmp_path_factory.mktemp('meta')
    workspace = save_step(folder, np.ones([2, 3]))
    return str(folder), Path(workspace.checkpoint + '.meta').read_bytes()


@pytest.fixture
def adapter(fake, monkeypatch):
    monkeypatch.setattr(os, 'environ', os.environ.copy())
    return fake()


def test_the_step_is_done_again_on_the_npu(tmp_path, adapter):
    workspace = save_step(tmp_path, np.ones([2, 3]))
    assert train_analysis.train(workspace, 'npu', 'dump|fusion_off') is None
    options = npu.options_in(adapter.sessions[-1])
    assert options['dump_path'] == os.path.abspath(workspace.npu_dump())
    assert options['fusion_switch_file'].endswith('fusion_off.json') and options['use_off_line']
    assert os.path.isdir(workspace.npu_dump()) and not os.path.exists(workspace.tf_debug)
    assert os.environ['DUMP_GRAPH_PATH'] == os.path.abspath(workspace.npu_graph())


def test_both_devices(tmp_path, adapter):
    workspace = save_step(tmp_path, np.ones([2, 3]))
    count = train_analysis.train(workspace, 'all')
    assert count.written > 10 and os.path.isdir(workspace.npu_dump())
    # With the adapter loaded, the golden run still stays off the NPU.
    train_analysis.train(workspace, 'cpu')
    assert npu.options_in(adapter.sessions[-1])['use_off_line'] is False


def test_without_an_adapter_nothing_is_begun(tmp_path):
    workspace = save_step(tmp_path, np.ones([2, 3]))
    with pytest.raises(UserError, match='looked for npu_'):
        train_analysis.train(workspace, 'npu')
    assert not os.path.exists(workspace.npu_debug(0))
    with pytest.raises(UserError, match="action 'dumps': unknown"):
        tf_config.session_dump_config(action='dumps', root=workspace.root)


def test_a_step_that_fails_is_named(tmp_path):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2], 'x')
        tf.add_to_collection(tf.GraphKeys.TRAIN_OP, tf.check_numerics(x / 0, 'endless').op)
        with PrecisionTfSession(root=str(tmp_path)) as session:
            session.run(tf.shape(x), {x: [1, 2]})
    with pytest.raises(RunFailed, match='the step failed on the cpu .*endless'):
        train_analysis.train(Workspace(str(tmp_path)), 'cpu')
