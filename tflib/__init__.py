"""TensorFlow helpers that know nothing of STGAN.

`from tflib import tf` is how every module of this project gets TensorFlow: as TF 1 (graphs and
sessions) on 1.15 and on 2.x alike. For the process it changes that alone, unless it is a command's.
"""

import contextlib
import os
import sys
import warnings

from pylib import hidden_native_errors, in_command


def quiet_native_code():
    """Context manager that drops what TensorFlow writes to standard error against its log level.

    TensorFlow 2.x writes before it knows of TF_CPP_MIN_LOG_LEVEL, and reports absent CUDA libraries
    as errors. Commands ask for errors only, unless the environment says otherwise.
    """
    asked_for = os.environ.get('TF_CPP_MIN_LOG_LEVEL') in ('2', '3')
    return hidden_native_errors if asked_for else contextlib.nullcontext()


@contextlib.contextmanager
def _without_optional_modules():
    """Let imports of what TensorFlow can do without fail, as if it were not installed.

    TensorFlow 2.x imports Keras on start-up, if it is there, and Keras imports Matplotlib: a fifth
    of the whole import (docs/performance.md). SciPy and h5py are for its own old copy of Keras,
    which lacks them from then on.
    """
    names = {'keras', 'h5py', 'scipy'}.difference(sys.modules)
    sys.modules.update(dict.fromkeys(names))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


with quiet_native_code(), warnings.catch_warnings(), \
        _without_optional_modules() if in_command() else contextlib.nullcontext():
    # NumPy 1.18 comments on TensorFlow 1.15's dtype definitions, six times.
    warnings.simplefilter('ignore', FutureWarning)
    import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
# disable_v2_behavior() brings back ref variables, with which tf.gradients() may read a weight
# before or after an update of the same run. Names and checkpoints are the same for both kinds.
tf.enable_resource_variables()

__all__ = ['quiet_native_code', 'tf']
