"""Stands for the hooks of an NPU estimator: those that make ranks start alike."""

import tensorflow.compat.v1 as tf
from fake_npu import recorder

from ...hccl import hccl_ops
from . import util


def _broadcast(root_rank):
    return tf.group(*[tf.assign(variable, hccl_ops.broadcast([variable], root_rank)[0])
                      for variable in tf.trainable_variables()])


if recorder.version == 'r1.5':
    def broadcast_global_variables(root_rank, index):
        """As below; the second argument is not used."""
        del index
        return _broadcast(root_rank)
else:
    def broadcast_global_variables(root_rank):
        """Despite its name, one broadcast and one assignment for each *trainable* variable."""
        return _broadcast(root_rank)


class NPUBroadcastGlobalVariablesHook(tf.train.SessionRunHook):
    """Broadcasts once there is a session, if there are several ranks."""

    def __init__(self, root_rank=None, index=None):
        del index
        self._root_rank = root_rank
        self._broadcast = None

    def begin(self):
        if util.ranks() > 1:
            self._broadcast = _broadcast(self._root_rank)

    def after_create_session(self, session, coord):
        del coord
        if self._broadcast is not None:
            session.run(self._broadcast)
