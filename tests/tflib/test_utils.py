"""Devices and sessions."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from pylib import UserError
from tflib import tf, utils


def test_cpu_sessions_hide_the_gpu():
    config = utils.session_config('cpu', threads=3)
    assert config.device_count['GPU'] == 0
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (3, 3)


def test_the_remapper_is_off():
    """It fuses batch norm with tanh on 2.x, which has no kernel (stu_norm='bn')."""
    rewrite = utils.session_config('gpu').graph_options.rewrite_options
    assert rewrite.remapping == rewrite.OFF


@pytest.mark.parametrize('device, precision, off', [
    ('cpu', 'high', True), ('gpu', 'high', False), ('gpu', 'mixed', False)])
def test_graphs_run_as_built_only_where_no_rewrite_is_needed(device, precision, off):
    for optimize in (True, False):
        config = utils.session_config(device, precision, optimize=optimize)
        rewrite = config.graph_options.rewrite_options
        assert rewrite.disable_meta_optimizer == (off and not optimize)


def test_an_absent_gpu_is_an_error_if_asked_for():
    if tf.config.experimental.list_physical_devices('GPU'):
        pytest.skip('this machine has a GPU')
    assert utils.resolve_device('auto') == utils.resolve_device('cpu') == 'cpu'
    with pytest.raises(UserError, match='--device gpu: .* sees no GPU'):
        utils.resolve_device('gpu')


@pytest.fixture
def tf32(monkeypatch):
    """A function that tells whether TensorFlow lets GPUs take TF32."""
    experimental = tf.config.experimental
    if not hasattr(experimental, 'enable_tensor_float_32_execution'):    # before 2.4
        monkeypatch.delenv('NVIDIA_TF32_OVERRIDE', raising=False)
        yield lambda: os.environ.get('NVIDIA_TF32_OVERRIDE') != '0'
        return
    before = experimental.tensor_float_32_execution_enabled()
    experimental.enable_tensor_float_32_execution(True)    # as TensorFlow has it
    yield experimental.tensor_float_32_execution_enabled
    experimental.enable_tensor_float_32_execution(before)


@pytest.mark.parametrize('precision, allowed', [('high', False), ('tf32', True), ('mixed', True)])
def test_high_precision_is_float32_on_gpus(tf32, precision, allowed):
    with tf.Graph().as_default():
        utils.session('cpu').close()
        assert tf32()    # a session on the CPU says nothing about GPUs
        utils.session('gpu', precision=precision).close()
        utils.session('cpu').close()
    assert tf32() == allowed


@pytest.mark.parametrize('device', ['cpu', 'npu'])
def test_only_gpus_have_tf32(device):
    with pytest.raises(UserError, match=f'--precision tf32: only GPUs .* on the {device.upper()}; '
                                        'take --precision high'):
        utils.session_config(device, 'tf32')


def test_xla_compiles_where_it_is_asked_to(monkeypatch):
    monkeypatch.delenv('TF_XLA_FLAGS', raising=False)

    def level(*arguments, **options):
        config = utils.session_config(*arguments, **options)
        return config.graph_options.optimizer_options.global_jit_level
    on = tf.OptimizerOptions.ON_1
    assert level('gpu', xla=True) == on != level('gpu')
    with pytest.raises(UserError, match='--xla: on CPUs needs TF_XLA_FLAGS=--tf_xla_cpu_global_'):
        level('cpu', xla=True)
    monkeypatch.setenv('TF_XLA_FLAGS', '--tf_xla_auto_jit=1 --tf_xla_cpu_global_jit')
    assert level('cpu', xla=True) == on != level('cpu')
    lines = utils.describe_session(utils.session_config('gpu', xla=True), 'gpu', 'high')
    assert 'XLA           compiles clusters of operations' in lines
    with pytest.raises(UserError, match='--xla: compiles for GPUs and CPUs'):
        utils.session_config('npu', xla=True)


def test_select_gpus(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', 'x')
    utils.select_gpus('all')
    assert os.environ['CUDA_VISIBLE_DEVICES'] == 'x'
    utils.select_gpus('0,1')
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '0,1'


def test_a_command_takes_no_more_of_a_gpu_than_it_needs():
    """Not even by what TensorFlow opens by itself; a library user's process is left alone."""
    show = ('import os; from tflib import utils; utils.resolve_device("cpu"); '
            'print([os.environ.get(name) for name in ("TF_FORCE_GPU_ALLOW_GROWTH", '
            '"CUDA_VISIBLE_DEVICES")])')
    bare = {name: value for name, value in os.environ.items()
            if name not in ('TF_FORCE_GPU_ALLOW_GROWTH', 'CUDA_VISIBLE_DEVICES')}
    for code, wanted in ((show, [None, None]), (f'import pylib; pylib.run_command(lambda: '
                                                f'exec({show!r}, {{}}))', ['true', '-1'])):
        done = subprocess.run([sys.executable, '-c', code], env=bare, capture_output=True,
                              text=True, cwd=str(ROOT))
        assert done.stdout.strip() == str(wanted), done.stderr


def test_version_names_the_distribution():
    assert tf.__version__ in utils.tensorflow_version()


def test_trainable_variables_by_scope():
    with tf.Graph().as_default():
        for scope in ('D', 'Dense', 'G'):
            with tf.variable_scope(scope):
                tf.get_variable('x', [])
        assert [v.op.name for v in utils.trainable_variables('D', 'G')] == ['D/x', 'G/x']


def test_minimize_leaves_out_what_the_loss_does_not_depend_on():
    """An optimizer that takes no gradient of None is Ascend's, on chips with INF_NAN mode."""
    class Strict(tf.train.GradientDescentOptimizer):
        def apply_gradients(self, pairs):
            assert all(gradient is not None for gradient, _ in pairs)
            return super().apply_gradients(pairs)

    with tf.Graph().as_default(), utils.session() as session:
        used, unused = (tf.get_variable(name, initializer=[1.]) for name in ('used', 'unused'))
        update = utils.minimize(Strict(.5), tf.reduce_sum(used), [used, unused], [])
        session.run(tf.global_variables_initializer())
        session.run(update)
        assert session.run([used, unused]) == [.5, 1]




def printed(code, level=None):
    """(standard output, standard error) of Python code, with TF_CPP_MIN_LOG_LEVEL or without."""
    environment = {name: value for name, value in os.environ.items()
                   if name != 'TF_CPP_MIN_LOG_LEVEL'}
    if level is not None:
        environment['TF_CPP_MIN_LOG_LEVEL'] = level
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


LIBRARY = """
import gc, logging, os, sys
from pylib.native import _HiddenErrors
_HiddenErrors._hide = lambda self: sys.exit("standard error is hidden")
def state():
    return (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), os.fstat(2),
            os.environ.get("TF_CPP_MIN_LOG_LEVEL"))
before = state()
from tflib import utils
utils.resolve_device("auto")
utils.session().close()
assert state() == before, state()
assert logging.getLogger("tensorflow").level < logging.ERROR
"""


def test_a_library_leaves_its_host_alone():
    printed(LIBRARY)


@pytest.mark.slow
def test_a_library_imports_what_tensorflow_does():
    """Modules that are kept from it leave parts of it without them for good."""
    names = ('import sys\n'
             'print(*[name for name in ("h5py", "keras", "scipy") if name in sys.modules])')
    wanted, _ = printed(f'import tensorflow.compat.v1\n{names}')
    assert printed(f'import tflib\n{names}')[0] == wanted


def test_commands_are_quiet():
    """Whatever TensorFlow has to say while it is imported and looks for GPUs."""
    code = ('import pylib\n'
            'def main():\n'
            '    from tflib import utils\n'
            '    utils.resolve_device("auto")\n'
            'pylib.run_command(main)\n')
    assert printed(code) == ('', '')


@pytest.mark.slow
def test_the_environment_decides_what_is_heard():
    """Of native code that does not heed TensorFlow's log level."""
    code = ('import os, pylib\n'
            'def main():\n'
            '    import tflib\n'
            '    with tflib.quiet_native_code():\n'
            '        os.write(2, b"chatter")\n'
            'pylib.run_command(main)\n')
    assert 'chatter' in printed(code, '0')[1]
    assert printed(code, '3')[1] == ''
