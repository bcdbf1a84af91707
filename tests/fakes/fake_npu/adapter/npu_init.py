"""Stands for the module whose names scripts import all; from r1.9 on it patches tf.Session."""

import tensorflow.compat.v1 as tf
from fake_npu import recorder
from fake_npu.recording import npu_config
from hccl.manage.api import (
    create_group,
    destroy_group,
    get_local_rank_id,
    get_local_rank_size,
    get_rank_id,
    get_rank_size,
)
from hccl.split.api import set_split_strategy_by_idx, set_split_strategy_by_size
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from .estimator import npu_ops
from .estimator.npu import npu_plugin, npu_scope, util
from .estimator.npu.npu_config import DumpConfig
from .estimator.npu.npu_hook import NPUBroadcastGlobalVariablesHook
from .estimator.npu.npu_optimizer import NPUDistributedOptimizer, NPUOptimizer
from .hccl import hccl_ops

__all__ = [
    'DumpConfig', 'NPUBroadcastGlobalVariablesHook', 'NPUDistributedOptimizer', 'NPUOptimizer',
    'RewriterConfig', 'close_session', 'config_pb2', 'create_group', 'destroy_group',
    'get_local_rank_id', 'get_local_rank_size', 'get_npu_local_rank_id',
    'get_npu_local_rank_size', 'get_npu_rank_id', 'get_npu_rank_size', 'get_rank_id',
    'get_rank_size', 'hccl_ops', 'init_resource', 'npu_config_proto', 'npu_ops', 'npu_plugin',
    'npu_scope', 'npu_tf_optimizer', 'rewriter_config_pb2', 'set_split_strategy_by_idx',
    'set_split_strategy_by_size', 'shutdown_resource', 'util']
_ranks = {}

if __name__.startswith('npu_bridge'):
    from .estimator.npu.npu_loss_scale_manager import (
        ExponentialUpdateLossScaleManager,
        FixedLossScaleManager,
    )
    from .estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
    __all__ += ['ExponentialUpdateLossScaleManager', 'FixedLossScaleManager',
                'NPULossScaleOptimizer']

recorder.watch_sessions()
if recorder.version != 'r1.5':
    from .estimator.npu.npu_optimizer import npu_allreduce, npu_distributed_optimizer_wrapper
    __all__ += ['npu_allreduce', 'npu_distributed_optimizer_wrapper']
    recorder.patch_sessions()


def npu_config_proto(config_proto=None):
    return npu_config(tf.ConfigProto() if config_proto is None else config_proto,
                      memory_optimization_always=recorder.version == 'r1.5')


def init_resource(config=None):
    """Open the device in a session of its own, and keep what the get_npu_* functions tell."""
    initialize, shutdown = npu_ops.initialize_system(), npu_ops.shutdown_system()
    sess = tf.Session(config=npu_config_proto(config))
    sess.run(initialize)
    _ranks.update(rank_id=get_rank_id(), rank_size=get_rank_size(),
                  local_rank_id=get_local_rank_id(), local_rank_size=get_local_rank_size())
    return sess, shutdown


def shutdown_resource(sess, shutdown_op):
    sess.run(shutdown_op)


def close_session(sess):
    sess.close()


def get_npu_rank_id():
    return _ranks.get('rank_id', 0)


def get_npu_local_rank_id():
    return _ranks.get('local_rank_id', 0)


def get_npu_rank_size():
    return _ranks.get('rank_size', 1)


def get_npu_local_rank_size():
    return _ranks.get('local_rank_size', 1)


def npu_tf_optimizer(opt):
    """Around an optimizer that averages already, this averages once more."""
    return NPUDistributedOptimizer(opt)
