"""The fakes in tests/fakes behave like the Ascend adapters they stand for."""

import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest
from conftest import FAKES

from tflib import tf

NPU = {'npu_bridge': 'npu_bridge', 'npu_device': 'npu_device.compat.v1'}


@pytest.fixture
def fake(monkeypatch):
    """Activate a fake adapter: returns a function that imports its modules, and the recorder."""
    for name in ('FAKE_NPU_VERSION', 'FAKE_NPU_INF_NAN', 'FAKE_NPU_OVERFLOW_AT',
                 'FAKE_NPU_NO_HCCL', 'RANK_SIZE',
                 'RANK_ID', 'CM_WORKER_SIZE'):
        monkeypatch.delenv(name, raising=False)
    recorders = []

    def activate(package, version, **switches):
        for name, value in switches.items():
            monkeypatch.setenv(f'FAKE_NPU_{name.upper()}', value)
        monkeypatch.setenv('FAKE_NPU_VERSION', version)
        monkeypatch.syspath_prepend(str(FAKES / f'{package}_path'))
        importlib.import_module(package)
        recorder = importlib.import_module('fake_npu').recorder
        if not recorders:
            recorders.append(recorder)
            recorder.reset()
        return (lambda name: importlib.import_module(f'{NPU[package]}.{name}')), recorder
    with tf.Graph().as_default():
        yield activate
    for recorder in recorders:
        recorder.reset()
    tf.enable_resource_variables()    # which enable_v1() of npu_device switches off, for all tests


def managers(module):
    return module('estimator.npu.npu_loss_scale_manager')


def loss_scale_optimizer(module, manager, base=None, **kwargs):
    optimizer = module('estimator.npu.npu_loss_scale_optimizer').NPULossScaleOptimizer
    return optimizer(base or tf.train.GradientDescentOptimizer(1.), manager, **kwargs)


def weight_and_loss():
    weight = tf.get_variable('weight', initializer=[1., 2.])
    return weight, tf.reduce_sum(weight * [3., 4.])


@pytest.fixture
def session():
    sessions = []

    def start(**kwargs):
        sessions.append(tf.Session(**kwargs))
        sessions[-1].run(tf.global_variables_initializer())
        return sessions[-1]
    yield start
    for each in sessions:
        each.close()


G, B = True, False     # steps without and with an overflow
RULE = {
    'growth': ((8, 2, 2, 2, .5), (G, G, G, G, G), (8, 16, 16, 32, 32), (1, 0, 1, 0, 1), (0,) * 5),
    'a finite step keeps the bad ones': (
        (8, 9, 2, 2, .5), (G, B, G, B, G), (8, 8, 8, 4, 4), (1, 0, 1, 0, 1), (0, 1, 1, 0, 0)),
    'growth forgets the bad ones': (
        (8, 2, 3, 2, .5), (B, G, G, B, B, B), (8, 8, 16, 16, 16, 8), (0, 1, 0, 0, 0, 0),
        (1, 1, 0, 1, 2, 0)),
    'cap': ((2. ** 126, 1, 2, 2, .5), (G, G, B, G), (2. ** 127,) * 4, (0,) * 4, (0, 0, 1, 0)),
    'cap below the largest float': ((1.7005e38, 1, 1, 2, .5), (G,), (np.float32(1.7005e38),), (0,),
                                    (0,)),
    'floor': ((1.5, 9, 1, 2, .5), (B, B), (1, 1), (0, 0), (0, 0)),
}


@pytest.mark.parametrize('name', RULE)
def test_rule_of_the_loss_scale(fake, session, name):
    module, _ = fake('npu_bridge', 'r1.15')
    arguments, steps, scales, goods, bads = RULE[name]
    manager = managers(module).ExponentialUpdateLossScaleManager(*arguments)
    assert [each.op.name for each in tf.global_variables()] == ['loss_scale', 'good_steps',
                                                                'bad_steps']
    finite = tf.placeholder(tf.bool, [])
    update = manager.update_loss_scale(finite)
    sess = session()
    seen = []
    for step in steps:
        sess.run(update, {finite: step})
        seen.append(tuple(sess.run(tf.global_variables())))
    assert seen == list(zip(scales, goods, bads))


def test_managers_have_their_own_variables_and_bounds(fake):
    module, _ = fake('npu_bridge', 'r1.15')
    for _ in range(2):
        managers(module).ExponentialUpdateLossScaleManager(4, 2)
    assert [each.op.name for each in tf.global_variables()][3:] == ['loss_scale_1', 'good_steps_1',
                                                                    'bad_steps_1']
    assert not tf.trainable_variables()
    with pytest.raises(ValueError, match='at least 1'):
        managers(module).FixedLossScaleManager(.5)


@pytest.mark.parametrize('version', ['r1.5', 'r1.9', 'r1.15'])
def test_an_overflow_skips_exactly_its_update(fake, session, version):
    module, recorder = fake('npu_bridge', version, inf_nan='0', overflow_at='1')
    manager = managers(module).ExponentialUpdateLossScaleManager(1024, 100, 1, 2, .5)
    optimizer = loss_scale_optimizer(module, manager, tf.train.AdamOptimizer(.1))
    weight, loss = weight_and_loss()
    unused = tf.get_variable('unused', initializer=1.)
    step = tf.train.get_or_create_global_step()
    gradients = optimizer.compute_gradients(loss, [weight, unused])
    assert gradients[1][0] is None
    train = optimizer.apply_gradients(gradients, step)
    state = [each for each in tf.global_variables() if 'Adam' in each.name or 'power' in each.name]
    assert len(state) == 4
    state += [weight, step]
    sess = session()
    np.testing.assert_allclose(sess.run(gradients[0][0]), [3., 4.], rtol=1e-6)
    changes, scales = [], []
    for _ in range(3):
        before = [value.tobytes() for value in sess.run(state)]
        sess.run(train)
        changes.append([old != new.tobytes() for old, new in zip(before, sess.run(state))])
        scales.append(sess.run(manager.get_loss_scale()))
    assert changes == [[True] * 6, [False] * 6, [True] * 6]
    assert scales == [1024, 512, 512]
    suffix = '_v2' if version == 'r1.15' else ''
    assert recorder.ran == [f'npu_get_float_status{suffix}',
                            f'npu_clear_float_status{suffix}'] * 3
    assert recorder.reads == 3
    assert recorder.named('optimizer') == [{
        'nesting': ['NPULossScaleOptimizer', 'AdamOptimizer'], 'manager': manager,
        'is_distributed': False}]


def test_the_flag_is_sticky_until_cleared(fake, session):
    module, recorder = fake('npu_bridge', 'r1.15', inf_nan='0')
    weight, loss = weight_and_loss()
    manager = managers(module).FixedLossScaleManager(8.)
    train = loss_scale_optimizer(module, manager).minimize(loss)
    sess = session()
    recorder.overflow = True
    sess.run(train)
    np.testing.assert_array_equal(sess.run(weight), [1., 2.])
    assert not recorder.overflow
    sess.run(train)
    np.testing.assert_array_equal(sess.run(weight), [-2., -2.])


def test_no_check_with_a_fixed_scale_that_wants_none(fake, session):
    module, recorder = fake('npu_bridge', 'r1.5')
    weight, loss = weight_and_loss()
    manager = managers(module).FixedLossScaleManager(8., enable_overflow_check=False)
    train = loss_scale_optimizer(module, manager).minimize(loss)
    sess = session()
    recorder.overflow = True
    sess.run(train)
    np.testing.assert_array_equal(sess.run(weight), [-2., -2.])
    assert recorder.ran == []


def test_devices_that_keep_infinities_look_at_the_gradients(fake, session):
    module, recorder = fake('npu_bridge', 'r1.15')
    assert module('estimator.npu.npu_plugin').is_inf_nan_enabled()
    manager = managers(module).FixedLossScaleManager(8.)
    optimizer = loss_scale_optimizer(module, manager)
    weight, _ = weight_and_loss()
    gradient = tf.placeholder(tf.float32, [2])
    train = optimizer.apply_gradients([(gradient, weight)])
    with pytest.raises(ValueError, match='None'):
        optimizer.apply_gradients([(gradient, weight), (None, weight)])
    sess = session()
    recorder.overflow = True
    sess.run(train, {gradient: [1., np.inf]})
    np.testing.assert_array_equal(sess.run(weight), [1., 2.])
    sess.run(train, {gradient: [1., 1.]})
    np.testing.assert_array_equal(sess.run(weight), [0., 1.])
    assert recorder.ran == []


@pytest.mark.parametrize('package', NPU)
@pytest.mark.parametrize('version', ['r1.9', 'r1.15'])
def test_npu_optimizer_averages_scales_and_skips(fake, session, monkeypatch, package, version):
    module, recorder = fake(package, version, overflow_at='0')
    monkeypatch.setenv('RANK_SIZE', '4')

    class Manager:
        def get_loss_scale(self):
            return tf.constant(2.)

        def update_loss_scale(self, finite):
            self.finite = finite
            return tf.no_op()

    weight, loss = weight_and_loss()
    manager, optimizer = Manager(), module('estimator.npu.npu_optimizer').NPUOptimizer
    base = tf.train.GradientDescentOptimizer(1.)
    with pytest.raises(ValueError):
        optimizer(base, is_loss_scale=True)
    train = optimizer(base, manager, is_distributed=True, is_loss_scale=True).minimize(loss)
    assert [(each['reduction'], each['fusion']) for each in recorder.named('allreduce')] == [
        ('sum', 1), ('sum', 0)]
    sess = session()
    assert not sess.run([manager.finite, train])[0]
    np.testing.assert_array_equal(sess.run(weight), [1., 2.])
    assert sess.run([manager.finite, train])[0]
    np.testing.assert_array_equal(sess.run(weight), [-2., -2.])


@pytest.mark.parametrize('version', ['r1.5', 'r1.15'])
def test_loss_scaling_over_ranks(fake, session, monkeypatch, version):
    monkeypatch.setenv('RANK_SIZE', '8')
    module, recorder = fake('npu_bridge', version, inf_nan='0', overflow_at='1')
    inner = module('estimator.npu.npu_optimizer').npu_distributed_optimizer_wrapper(
        tf.train.GradientDescentOptimizer(1.))
    manager = managers(module).FixedLossScaleManager(4.)
    weight, loss = weight_and_loss()
    train = loss_scale_optimizer(module, manager, inner, is_distributed=True).minimize(loss)
    assert recorder.named('optimizer')[-1]['nesting'] == [
        'NPULossScaleOptimizer', 'npu_distributed_optimizer_wrapper', 'GradientDescentOptimizer']
    sess = session()
    for _ in range(2):
        sess.run(train)
        np.testing.assert_array_equal(sess.run(weight), [-2., -2.])
    assert recorder.ran[0] == recorder.ran[4] == 'allreduce'    # of the gradient
    assert recorder.ran.count('allreduce') == 4


@pytest.mark.parametrize('package', NPU)
@pytest.mark.parametrize('version', ['r1.5', 'r1.9', 'r1.15'])
def test_sessions_become_npu_sessions_from_r1_9_on(fake, session, package, version):
    if (package, version) == ('npu_device', 'r1.5'):
        with pytest.raises(ImportError):
            fake(package, version)[0]('npu_init')
        return
    original = tf.Session.__init__
    module, recorder = fake(package, version)
    assert tf.Session.__init__ is original
    npu_init = module('npu_init')
    assert hasattr(npu_init, 'NPULossScaleOptimizer') == (package == 'npu_bridge')
    config = tf.ConfigProto(log_device_placement=True)
    session(config=config)
    rewriting = config.graph_options.rewrite_options
    names = [entry.name for entry in rewriting.custom_optimizers]
    if version == 'r1.5':
        assert tf.Session.__init__ is original
        assert (names, recorder.sessions) == ([], [])
        return
    off = npu_init.RewriterConfig.OFF
    assert names == ['NpuOptimizer'] and recorder.sessions == [config]
    assert config.allow_soft_placement and not config.log_device_placement
    assert rewriting.remapping == rewriting.memory_optimization == off
    assert config.graph_options.optimizer_options.global_jit_level == tf.OptimizerOptions.OFF
    session()
    assert len(recorder.sessions) == 2
    recorder.reset()
    assert tf.Session.__init__ is original and 'npu_init' not in sys.modules


def test_sessions_keep_the_memory_optimization_of_an_entry_that_was_there(fake, session):
    fake('npu_bridge', 'r1.9')[0]('npu_init')
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.custom_optimizers.add().name = 'NpuOptimizer'
    session(config=config)
    assert len(config.graph_options.rewrite_options.custom_optimizers) == 1
    assert config.graph_options.rewrite_options.memory_optimization == 0


def test_npu_device_has_no_loss_scale_modules(fake):
    module, recorder = fake('npu_device', 'r1.15')
    npu_device = importlib.import_module('npu_device')
    npu_device.compat.enable_v1()
    assert recorder.named('enable_v1') == [{'nodes': 0}]
    for name in ('npu_loss_scale_manager', 'npu_loss_scale_optimizer'):
        with pytest.raises(ImportError):
            module(f'estimator.npu.{name}')
    assert hasattr(npu_device.gen_npu_ops, 'npu_get_float_status_v2')
    assert not hasattr(npu_device.gen_npu_ops, 'npu_get_float_status')
    builder = importlib.import_module('npu_device.compat.v1').SessionConfigBuilder()
    builder.parameter_map['use_off_line'].b = True
    rewriting = builder.session_config.graph_options.rewrite_options
    assert rewriting.custom_optimizers[0].parameter_map['use_off_line'].b


@pytest.mark.parametrize('version, field', [('r1.5', 'b'), ('r1.9', 'i'), ('r1.15', 'i')])
def test_scopes_mark_nodes(fake, version, field):
    module, _ = fake('npu_bridge', version)
    scope = module('estimator.npu.npu_scope')
    with scope.keep_dtype_scope():
        inside = tf.constant(1.)
    with scope.without_npu_compile_scope():
        host = tf.constant(1.)
    outside = tf.constant(1.)
    mark = inside.op.node_def.attr['_keep_dtype']
    assert mark.WhichOneof('value') == field and getattr(mark, field)
    assert host.op.node_def.attr['_without_npu_compile'].b
    assert '_keep_dtype' not in outside.op.node_def.attr
    module('estimator.npu.util').keep_tensors_dtypes(tf.get_default_graph(), [outside.name])
    assert outside.op.node_def.attr['_keep_dtype'] == mark


def test_ranks_answer_once_the_system_is_initialized(fake, session, monkeypatch):
    monkeypatch.setenv('RANK_SIZE', '8')
    monkeypatch.setenv('RANK_ID', '3')
    module, recorder = fake('npu_bridge', 'r1.15')
    api = importlib.import_module('hccl.manage.api')
    npu_init = module('npu_init')
    initialize = npu_init.npu_ops.initialize_system()
    with pytest.raises(ValueError, match='initialize_system'):
        api.get_rank_id()
    session().run(initialize)
    assert (api.get_rank_size(), api.get_rank_id(), npu_init.get_npu_rank_size()) == (8, 3, 1)
    sess, shutdown = npu_init.init_resource()
    assert (npu_init.get_npu_rank_size(), npu_init.get_npu_rank_id()) == (8, 3)
    npu_init.shutdown_resource(sess, shutdown)
    npu_init.close_session(sess)
    assert not recorder.initialized


@pytest.mark.parametrize('version', ['r1.5', 'r1.15'])
def test_the_graph_engine_ends_with_its_last_session(fake, version):
    module, recorder = fake('npu_bridge', version)
    npu_init = module('npu_init')
    initialize = npu_init.npu_ops.initialize_system()
    sessions = [tf.Session(config=npu_init.npu_config_proto()) for _ in range(2)]
    host = tf.ConfigProto()
    host.graph_options.rewrite_options.custom_optimizers.add(name='NpuOptimizer').parameter_map[
        'use_off_line'].b = False
    sessions.append(tf.Session(config=host))
    sessions[0].run(initialize)
    for session, initialized in zip(sessions, (True, False, False)):
        assert recorder.initialized == (session is not sessions[2])
        session.close()
        assert recorder.initialized == initialized
    module('estimator.npu.npu_plugin').npu_resource_init()
    with tf.Session(config=npu_init.npu_config_proto()) as session:
        session.run(initialize)
    assert recorder.initialized    # the engine is the process's now


@pytest.mark.parametrize('version, parameters', [
    ('r1.5', ['root_rank', 'index']), ('r1.9', ['root_rank']), ('r1.15', ['root_rank'])])
def test_signatures_of_the_versions(fake, version, parameters):
    module, _ = fake('npu_bridge', version)
    hook = module('estimator.npu.npu_hook')
    assert list(inspect.signature(hook.broadcast_global_variables).parameters) == parameters
    assert hasattr(module('estimator.npu.util'), 'get_ranksize') == (version == 'r1.15')
    ops = module('helper.helper').get_gen_ops()
    if version == 'r1.9':
        with pytest.raises(TypeError, match='addr'):
            ops.npu_get_float_status_v2(addr=tf.zeros([]))
    else:
        assert hasattr(ops, 'npu_get_float_status_v2') == (version == 'r1.15')


@pytest.mark.parametrize('package', NPU)
def test_without_the_communication_library_the_import_is_a_value_error(fake, package):
    module, _ = fake(package, 'r1.15', no_hccl='1')
    with pytest.raises(ValueError, match='load hccl lib error'):
        module('npu_init')


def test_collectives_and_broadcast(fake, session, monkeypatch):
    monkeypatch.setenv('RANK_SIZE', '2')
    module, recorder = fake('npu_bridge', 'r1.15')
    ops = module('hccl.hccl_ops')
    weight, _ = weight_and_loss()
    tf.get_variable('moving_mean', initializer=0., trainable=False)
    hook = module('estimator.npu.npu_hook').NPUBroadcastGlobalVariablesHook(0)
    hook.begin()
    assert [each['shapes'] for each in recorder.named('broadcast')] == [[[2]]]
    sess = session()
    hook.after_create_session(sess, None)
    assert recorder.ran == ['broadcast']
    values = sess.run([ops.allreduce(weight, 'sum'), ops.allreduce(weight, 'max'),
                       ops.allreduce(weight, 'prod'), ops.allgather(weight, 2),
                       *ops.broadcast([weight], 0)])
    assert [value.tolist() for value in values] == [[2, 4], [1, 2], [1, 4], [1, 2, 1, 2], [1, 2]]
    with pytest.raises(ValueError, match='reduction'):
        ops.allreduce(weight, 'mean')
    with pytest.raises(TypeError, match='bool'):
        ops.allreduce([True], 'sum')


def test_loop_variables(fake, session):
    util = fake('npu_bridge', 'r1.15')[0]('estimator.npu.util')
    sess = session()
    train = tf.no_op()
    assert util.set_iteration_per_loop(sess, train) is train
    with pytest.raises(ValueError):
        util.set_iteration_per_loop(sess, tf.constant(1.), 5)
    assert util.set_iteration_per_loop(sess, train, 5).name == 'IterationOp'
    assert {each.op.name: sess.run(each) for each in tf.local_variables()} == {
        'npu_runconfig/iterations_per_loop': 4, 'npu_runconfig/loop_cond': 0,
        'npu_runconfig/zero': 0, 'npu_runconfig/one': 1}


@pytest.mark.parametrize('package', NPU)
def test_one_directory_is_enough(package):
    code = (f'from {NPU[package]}.npu_init import *\n'
            'from fake_npu import recorder\n'
            'print(recorder.version, NPUOptimizer.__name__, npu_ops.__name__)')
    environment = {'PYTHONPATH': str(FAKES / f'{package}_path'), 'FAKE_NPU_VERSION': 'r1.9',
                   'PYTHONDONTWRITEBYTECODE': '1', 'TF_CPP_MIN_LOG_LEVEL': '2'}
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=environment,
                          capture_output=True, text=True)
    assert done.stdout == f'r1.9 NPUOptimizer {NPU[package]}.estimator.npu_ops\n', done.stderr
