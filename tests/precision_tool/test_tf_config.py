"""Dump options of sessions, estimators and npu_device; the fakes stand for the adapters."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from conftest import FAKES, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_tool import tf_config, tf_dump
from precision_tool.workspace import Workspace
from pylib import UserError
from tflib import npu, tf

CLASSIC = tf.__version__.startswith('1.')
GRAPH_VARIABLES = ('DUMP_GE_GRAPH', 'DUMP_GRAPH_LEVEL', 'DUMP_GRAPH_PATH', 'NPU_DUMP_GRAPH')


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """An empty working directory, and an environment that a test may change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, 'environ', os.environ.copy())
    for name in GRAPH_VARIABLES + ('PRECISION_TOOL_DUMP', 'PRECISION_TOOL_OVERFLOW'):
        os.environ.pop(name, None)


def graph_variables():
    return {name: os.environ[name] for name in GRAPH_VARIABLES if name in os.environ}


def made(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*'))


def test_dump(tmp_path):
    config = tf_config.session_dump_config(action='dump', root='data')
    root = str(tmp_path / 'data' / 'npu' / 'debug_0')
    assert npu.options_in(config) == {
        'use_off_line': True, 'enable_dump': True, 'dump_mode': 'all', 'dump_step': '0',
        'dump_path': os.path.join(root, 'dump'), 'op_debug_level': 4, 'debug_dir': root}
    assert graph_variables() == {
        'DUMP_GE_GRAPH': '2', 'DUMP_GRAPH_LEVEL': '3', 'NPU_DUMP_GRAPH': 'true',
        'DUMP_GRAPH_PATH': os.path.join(root, 'graph')}
    assert made(tmp_path / 'data' / 'npu' / 'debug_0') == ['dump', 'graph']


@pytest.mark.parametrize('action', ['overflow', 'dump|overflow', 'overflow | dump'])
def test_overflow_wins_over_dump(tmp_path, action):
    options = npu.options_in(tf_config.session_dump_config(action=action))
    folder = tmp_path / 'precision_data' / 'overflow' / 'dump'
    assert options == {
        'use_off_line': True, 'enable_dump_debug': True, 'dump_debug_mode': 'all',
        'dump_path': str(folder), 'op_debug_level': 4,
        'debug_dir': str(tmp_path / 'precision_data' / 'npu' / 'debug_0')}
    assert folder.is_dir() and len(graph_variables()) == 4


def test_prof(tmp_path):
    options = npu.options_in(tf_config.session_dump_config(action='prof'))
    profiling = json.loads(options.pop('profiling_options'))
    assert options == {'use_off_line': True, 'profiling_mode': True}
    assert profiling == {
        'output': str(tmp_path / 'precision_data' / 'npu' / 'debug_0' / 'prof'),
        'storage_limit': '1000MB', 'training_trace': 'on', 'l2': 'on', 'hccl': 'on',
        'task_trace': 'on', 'aicpu': 'on', 'msproftx': 'on', 'aic_metrics': 'PipeUtilization'}
    assert os.path.isdir(profiling['output']) and not graph_variables()


def test_fusion_off():
    for action in ('fusion_off', 'fusion_off|fusion_switch'):
        options = npu.options_in(tf_config.session_dump_config(action=action))
        with open(options['fusion_switch_file']) as stream:
            switch = json.load(stream)
        assert switch == {'Switch': {'GraphFusion': {'ALL': 'off'}, 'UBFusion': {'ALL': 'off'}}}
    assert not os.listdir('.')


def test_fusion_switch_is_copied_once_and_never_overwritten(tmp_path):
    def switched():
        return npu.options_in(tf_config.session_dump_config(
            action='fusion_switch'))['fusion_switch_file']
    path = tmp_path / 'precision_data' / 'fusion' / 'fusion_switch.json'
    assert switched() == str(path)
    assert json.loads(path.read_text()) == {'Switch': {'GraphFusion': {}, 'UBFusion': {}}}
    path.write_text('edited')
    assert switched() == str(path) and path.read_text() == 'edited'


@pytest.mark.parametrize('action', ['fusion_switch', 'fusion_off', 'prof', None])
def test_graphs_are_dumped_only_where_asked(action):
    tf_config.session_dump_config(action=action)
    assert not graph_variables()
    names = [name for _, folders, names in os.walk('.') for name in folders + names]
    assert 'dump' not in names and 'graph' not in names


def test_importing_changes_nothing(tmp_path):
    code = ('import os, random, sys\n'
            'import numpy as np\n'
            'from tflib import tf\n'
            'random.seed(1), np.random.seed(1)\n'
            'before = random.getstate(), np.random.get_state()[1].tolist(), dict(os.environ)\n'
            'from precision_tool import tf_config\n'
            'after = random.getstate(), np.random.get_state()[1].tolist(), dict(os.environ)\n'
            'assert before == after and tf.get_default_graph().seed is None\n'
            'assert not [m for m in sys.modules if m.split(".")[0] in '
            '("npu_bridge", "npu_device", "hccl", "tfdeterminism")]\n')
    path = os.pathsep.join([str(ROOT), *(str(FAKES / f'{name}_path')
                                         for name in ('npu_bridge', 'npu_device'))])
    done = subprocess.run([sys.executable, '-c', code], cwd=str(tmp_path), capture_output=True,
                          text=True, env=dict(os.environ, PYTHONPATH=path))
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_remapping_and_memory_optimization_are_both_off():
    rewrite = tf_config.session_dump_config(action='dump').graph_options.rewrite_options
    assert rewrite.remapping == rewrite.memory_optimization == rewrite.OFF


def test_an_existing_entry_is_kept_and_extended():
    config = tf.ConfigProto(allow_soft_placement=True)
    npu.add_to_config(config, {'precision_mode': 'allow_mix_precision', 'use_off_line': False})
    assert tf_config.session_dump_config(config, 'overflow') is config
    (entry,) = config.graph_options.rewrite_options.custom_optimizers
    options = npu.options_in(config)
    assert entry.name == 'NpuOptimizer' and config.allow_soft_placement
    assert options['precision_mode'] == 'allow_mix_precision' and options['use_off_line'] is True
    assert options['enable_dump_debug'] is True


def test_an_illegal_existing_entry_is_named():
    config = tf.ConfigProto()
    entry = config.graph_options.rewrite_options.custom_optimizers.add(name='NpuOptimizer')
    entry.parameter_map['sump_mode'].s = b'all'
    with pytest.raises(UserError, match='NPU option sump_mode: unknown'):
        tf_config.session_dump_config(config, 'dump')
    assert not os.listdir('.') and not graph_variables()


def test_update_custom_op_changes_the_entry_alone():
    config = tf.ConfigProto()
    entry = config.graph_options.rewrite_options.custom_optimizers.add(name='NpuOptimizer')
    assert tf_config.update_custom_op(entry, 'dump') is entry
    assert entry.parameter_map['enable_dump'].b is True
    assert entry.parameter_map['dump_mode'].s == b'all'
    assert 'use_off_line' not in entry.parameter_map
    assert not config.graph_options.rewrite_options.remapping and len(graph_variables()) == 4


@pytest.mark.parametrize('variables, keys', [
    ({}, set()), ({'PRECISION_TOOL_DUMP': 'true'}, set()),
    ({'PRECISION_TOOL_DUMP': 'True'}, {'enable_dump', 'dump_mode', 'dump_step'}),
    ({'PRECISION_TOOL_OVERFLOW': 'True'}, {'enable_dump_debug', 'dump_debug_mode'}),
    ({'PRECISION_TOOL_OVERFLOW': 'True', 'PRECISION_TOOL_DUMP': 'True'},
     {'enable_dump_debug', 'dump_debug_mode'})])
def test_the_environment_decides_without_an_action(variables, keys):
    os.environ.update(variables)
    options = npu.options_in(tf_config.session_dump_config())
    common = {'use_off_line', 'dump_path', 'op_debug_level', 'debug_dir'}
    assert set(options) == (keys | common if keys else {'use_off_line'})
    os.environ.update(PRECISION_TOOL_DUMP='True')
    assert npu.options_in(tf_config.session_dump_config(action='prof'))['profiling_mode'] is True
    assert 'enable_dump' not in npu.options_in(tf_config.session_dump_config(action='prof'))


@pytest.mark.parametrize('action', ['', 'dumps', 'no_dump', 'Dump', 'dump,prof', 'dump||prof',
                                    'fusion_off_dump', 'profile'])
def test_unknown_actions_are_named_with_all_there_are(action):
    with pytest.raises(UserError) as caught:
        tf_config.session_dump_config(action=action)
    assert all(name in str(caught.value) for name in tf_config.ACTIONS)
    assert '\n' not in str(caught.value) and not os.listdir('.') and not graph_variables()


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_an_action_or_a_user_error(text):
    words = {word.strip() for word in text.split('|')}
    if words <= set(tf_config.ACTIONS):
        return
    with pytest.raises(UserError):
        tf_config.session_dump_config(action=text)


def test_a_root_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    for action in ('dump', 'prof', 'fusion_switch'):
        with pytest.raises(UserError, match='file.*choose another root'):
            tf_config.session_dump_config(action=action, root='file')


@pytest.fixture
def adapter(fake):
    return fake()


def test_estimators(adapter, tmp_path):
    dump = vars(tf_config.estimator_dump_config('dump'))
    assert dump['_enable_dump'] is True and dump['_dump_mode'] == 'all'
    assert dump['_dump_step'] == '0' and not dump['_enable_dump_debug']
    assert dump['_dump_path'] == os.path.abspath(Workspace().npu_dump())
    overflow = vars(tf_config.estimator_dump_config('overflow'))
    assert overflow['_enable_dump_debug'] is True and not overflow['_enable_dump']
    assert overflow['_dump_debug_mode'] == 'all' and overflow['_dump_mode'] == 'output'
    assert vars(tf_config.estimator_dump_config())['_dump_path'] is None
    with pytest.raises(UserError, match='action fusion_off: not in an estimator'):
        tf_config.estimator_dump_config('dump|fusion_off')


def test_estimators_need_the_adapter():
    with pytest.raises(UserError, match='looked for npu_'):
        tf_config.estimator_dump_config('dump')
    assert not os.listdir('.')


class Options:
    """As those of npu_device: what is not there cannot be set."""

    def __init__(self, **values):
        vars(self).update(values)

    def __setattr__(self, key, value):
        if key not in vars(self):
            raise ValueError(f'no option {key}')
        vars(self)[key] = value


class Device:
    def __init__(self, **others):
        self.options = Options(
            debug_dir=None, fusion_switch_file=None, **others,
            dump_config=Options(enable_dump=False, dump_path=None, dump_step=None,
                                dump_mode='output', enable_dump_debug=False, dump_debug_mode=None),
            profiling_config=Options(enable_profiling=False, profiling_options=None))

    def global_options(self):
        return self.options


def test_dump_mode_of_npu_device_is_not_the_debug_mode():
    device = Device(op_debug_level=0)
    assert tf_config.npu_device_dump_config(device, 'dump|fusion_off|prof') is device
    options, dump = device.options, device.options.dump_config
    assert (dump.enable_dump, dump.dump_mode, dump.dump_step) == (True, 'all', '0')
    assert dump.dump_debug_mode is None and not dump.enable_dump_debug
    assert dump.dump_path == os.path.abspath(Workspace().npu_dump())
    assert options.op_debug_level == 4 and options.fusion_switch_file.endswith('fusion_off.json')
    assert options.profiling_config.enable_profiling is True
    assert json.loads(options.profiling_config.profiling_options)['l2'] == 'on'


def test_overflow_of_npu_device():
    device = Device(op_debug_level=0)
    tf_config.npu_device_dump_config(device, 'overflow')
    dump = device.options.dump_config
    assert (dump.enable_dump_debug, dump.dump_debug_mode, dump.dump_mode) == (True, 'all', 'output')


def test_options_that_an_adapter_lacks_are_named():
    with pytest.raises(UserError, match='npu_device op_debug_level=4: refused.*no option'):
        tf_config.npu_device_dump_config(Device(), 'dump')


def test_seeds():
    def draw():
        tf_config.seed_everything(7)
        with tf.Graph().as_default(), tf.Session() as session:
            tf_config.seed_everything(7)
            drawn = session.run(tf.random.uniform([3])).tolist()
        return random.random(), np.random.uniform(), drawn, os.environ['PYTHONHASHSEED']
    assert draw() == draw() and draw()[-1] == '7'


def test_sess_dump_dumps_each_run_and_raises_its_errors():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [2], 'x')
        y = tf.check_numerics(x, 'bad')
        dumping = tf_config.sess_dump(session, 'data')
        assert dumping.run(y, {x: [1, 2]}).tolist() == [1, 2]
        first = tf_dump.newest_run(Workspace('data').tf_debug)
        dumping.run(y, {x: [1, 2]})
        again = tf_config.sess_dump(session, 'data')
        again.run(y, {x: [3, 4]})
        with pytest.raises(tf.errors.InvalidArgumentError):
            again.run(y, {x: [np.nan, 0]})
    runs = [path for path, _, _ in os.walk('data') if os.path.basename(path).startswith('run_')]
    assert len(runs) == 4 and first in runs


def test_estimator_dump_is_a_hook():
    with tf.Graph().as_default():
        y = tf.add(tf.constant([1.]), 1., name='y')
        with tf.train.MonitoredSession(hooks=[tf_config.estimator_dump('data')]) as session:
            assert session.run(y) == 2
    assert os.path.isdir(tf_dump.newest_run(Workspace('data').tf_debug))
