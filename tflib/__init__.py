"""TensorFlow helpers that know nothing of STGAN.

`from tflib import tf` is how every module of this project gets TensorFlow: as TF 1 (graphs and
sessions) on 1.15 and on 2.x alike.
"""

import contextlib
import gc
import os
import sys
import warnings

# TensorFlow's start-up chatter would bury the start banner; an environment setting still wins.
# Our own setting, which worker processes inherit, is none.
_CHATTY = os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2') != '2'


@contextlib.contextmanager
def quiet_native_code():
    """Drop what native code writes to standard error, unless TF_CPP_MIN_LOG_LEVEL says otherwise.

    TensorFlow 2.x reports absent CUDA libraries there, at error level, before its log level counts.
    """
    if _CHATTY:
        yield
        return
    sys.stderr.flush()
    standard_error = os.dup(2)
    with open(os.devnull, 'w') as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)


@contextlib.contextmanager
def _without_optional_modules():
    """Let imports of what TensorFlow can do without fail, as if it were not installed.

    TensorFlow 2.x imports Keras on start-up, if it is there, and Keras imports Matplotlib: a fifth
    of the whole import (docs/performance.md). SciPy and h5py are for its own old copy of Keras.
    `tf.keras` is loaded on first use as ever.
    """
    names = {'keras', 'h5py', 'scipy'}.difference(sys.modules)
    sys.modules.update(dict.fromkeys(names))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@contextlib.contextmanager
def _without_garbage_collection():
    """Keep the collector from what is created here, now and ever, and let it run less often.

    TensorFlow's modules are some 400,000 objects that live as long as the process: looking for
    cycles in them takes a fifth of the import, and more at the end (docs/performance.md). Graphs
    are thousands more, all made at once.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        if was_enabled:
            gc.enable()


with quiet_native_code(), _without_optional_modules(), _without_garbage_collection(), \
        warnings.catch_warnings():
    # NumPy 1.18 comments on TensorFlow 1.15's dtype definitions, six times.
    warnings.simplefilter('ignore', FutureWarning)
    import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)
tf.disable_v2_behavior()
# disable_v2_behavior() brings back ref variables, with which tf.gradients() may read a weight
# before or after an update of the same run. Names and checkpoints are the same for both kinds.
tf.enable_resource_variables()

__all__ = ['quiet_native_code', 'tf']
