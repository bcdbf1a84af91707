"""Stands for npu_bridge as converted to TF 2: the same modules but the two for loss scaling."""

import os

import fake_npu
import tensorflow.compat.v1 as tf
from fake_npu import recorder

if recorder.version == 'r1.5':
    raise ImportError('the adapter r1.5 has no npu_device.compat.v1')
__path__.append(os.path.join(os.path.dirname(os.path.abspath(fake_npu.__file__)), 'adapter'))


class SessionConfigBuilder:
    """A ConfigProto for NPU sessions, and the parameter map of its NpuOptimizer entry."""

    def __init__(self, config=None):
        self.session_config = tf.ConfigProto() if config is None else config
        self.session_config.allow_soft_placement = True
        rewriting = self.session_config.graph_options.rewrite_options
        rewriting.remapping = type(rewriting).OFF
        entries = [entry for entry in rewriting.custom_optimizers if entry.name == 'NpuOptimizer']
        entry = entries[0] if entries else rewriting.custom_optimizers.add()
        entry.name = 'NpuOptimizer'
        self.parameter_map = entry.parameter_map
