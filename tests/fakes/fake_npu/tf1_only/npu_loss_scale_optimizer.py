"""Stands for the adapter's loss-scaling optimizer, and what it inherits from tf.contrib."""

import tensorflow.compat.v1 as tf
from fake_npu import recorder

from . import npu_plugin
from .npu_optimizer import apply_if, compute_unscaled, no_overflow


class NPULossScaleOptimizer(tf.train.Optimizer):
    """Scales the loss, returns unscaled gradients, and skips the update of an overflowing step.

    Like the real one it never initialises its base class: what it lacks it takes from `opt`.
    """

    def __init__(self, opt, loss_scale_manager, is_distributed=False):
        self._opt = opt
        self._loss_scale_manager = loss_scale_manager
        self._is_distributed = is_distributed
        # Meant to end with the type of `opt`, the real name ends with the type of a module.
        self._name = 'NPULossScaleOptimizermodule'
        recorder.note_optimizer(self, manager=loss_scale_manager, is_distributed=is_distributed)

    def __getattr__(self, name):
        if name == '_opt':
            raise AttributeError(name)
        return getattr(self._opt, name)

    def compute_gradients(self, loss, var_list=None, gate_gradients=tf.train.Optimizer.GATE_OP,
                          aggregation_method=None, colocate_gradients_with_ops=False,
                          grad_loss=None):
        return compute_unscaled(
            self._opt.compute_gradients, self._loss_scale_manager.get_loss_scale(), loss, var_list,
            gate_gradients, aggregation_method, colocate_gradients_with_ops, grad_loss)

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        grads = [grad for grad, _ in grads_and_vars]
        check = getattr(self._loss_scale_manager, 'get_enable_overflow_check', lambda: True)
        if recorder.version == 'r1.15' and npu_plugin.is_inf_nan_enabled():
            # tf.contrib's way: no flag, no ranks, and a gradient of None is an error.
            finite = tf.reduce_all([tf.reduce_all(tf.is_finite(grad)) for grad in grads])
        elif check():
            with tf.name_scope(self._name):
                finite = no_overflow(grads, self._is_distributed)
        else:
            finite = tf.constant(True)
        return apply_if(finite, self._loss_scale_manager, self._opt, grads_and_vars, global_step,
                        name)
