"""Devices and sessions."""

import gc
import os
import subprocess
import sys

import pytest

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


def test_select_gpus(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', 'x')
    utils.select_gpus('all')
    assert os.environ['CUDA_VISIBLE_DEVICES'] == 'x'
    utils.select_gpus('0,1')
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '0,1'


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


def test_garbage_collection_passes_tensorflow_by():
    """It is on after the import, and does not look through the modules again."""
    assert gc.isenabled() and gc.get_freeze_count() > 100000


def test_importing_and_looking_for_gpus_is_quiet():
    code = 'from tflib import utils; utils.resolve_device("auto")'
    environment = {name: value for name, value in os.environ.items()
                   if name != 'TF_CPP_MIN_LOG_LEVEL'}
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run([sys.executable, '-c', code], cwd=root, env=environment,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
