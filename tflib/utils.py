"""Devices and sessions."""

import os

from pylib import UserError, usable_cores
from tflib import quiet_native_code, tf

try:
    from importlib import metadata
except ImportError:  # Python 3.7
    import importlib_metadata as metadata

# Any of these provides the module `tensorflow`; installed together they overwrite each other.
DISTRIBUTIONS = ('tensorflow', 'tensorflow-cpu', 'tensorflow-gpu', 'intel-tensorflow',
                 'tensorflow-rocm', 'tensorflow-macos')


def select_gpus(gpus):
    """Hide all GPUs but these ('0', '1,2', ...; 'all': hide none). Call before any session."""
    if gpus != 'all':
        os.environ['CUDA_VISIBLE_DEVICES'] = gpus


def resolve_device(device):
    """Return 'gpu' or 'cpu' for 'auto', 'gpu' or 'cpu'.

    Raises:
        UserError: a GPU is asked for and TensorFlow sees none.
    """
    # For the CPU too: who looks for GPUs first makes 2.x complain of absent CUDA libraries.
    with quiet_native_code():
        gpus = tf.config.experimental.list_physical_devices('GPU')
    if device == 'cpu':
        return 'cpu'
    if device == 'gpu' and not gpus:
        raise UserError(f'--device gpu: {tensorflow_version()} sees no GPU; check driver and CUDA '
                        'libraries (TF_CPP_MIN_LOG_LEVEL=0 shows what is missing) or take '
                        '--device cpu')
    return 'gpu' if gpus else 'cpu'


def session_config(device, threads=-1):
    """Return the ConfigProto of every session of this project.

    Args:
        device: 'cpu' or 'gpu'.
        threads: threads within and between operations; -1: the cores this process may use.
    """
    threads = threads if threads > 0 else usable_cores()
    config = tf.ConfigProto(intra_op_parallelism_threads=threads,
                            inter_op_parallelism_threads=threads,
                            allow_soft_placement=True)
    if device == 'cpu':
        config.device_count['GPU'] = 0
    config.gpu_options.allow_growth = True
    # On 2.x the remapper fuses batch norm with tanh, which has no kernel (stu_norm='bn'), and
    # logs an error for each gradient of a leaky ReLU.
    config.graph_options.rewrite_options.remapping = (
        config.graph_options.rewrite_options.OFF)
    return config


def session(device='cpu', threads=-1, graph=None):
    """Open a session on `graph` (default: the current graph)."""
    with quiet_native_code():
        return tf.Session(graph=graph, config=session_config(device, threads))


def tensorflow_version():
    """Name and version of the TensorFlow distribution that runs, e.g. 'tensorflow 1.15.5'."""
    installed = []
    for name in DISTRIBUTIONS:
        try:
            installed.append(f'{name} {metadata.version(name)}')
        except metadata.PackageNotFoundError:
            continue
    return ' + '.join(installed) or f'TensorFlow {tf.__version__}'


def iteration_counter():
    """The int64 variable `counter/counter`, as the published code names it."""
    with tf.variable_scope('counter'):
        return tf.get_variable('counter', [], tf.int64, tf.zeros_initializer(), trainable=False)


def trainable_variables(*scopes):
    """Trainable variables of the given top scopes, e.g. trainable_variables('Genc', 'Gdec')."""
    return [v for v in tf.trainable_variables() if v.op.name.split('/')[0] in scopes]
