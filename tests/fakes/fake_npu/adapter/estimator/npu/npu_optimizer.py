"""Stands for the optimizers that average gradients over ranks, or scale losses, or both."""

import tensorflow.compat.v1 as tf
from fake_npu import recorder

from ...hccl import hccl_ops
from ...helper import helper
from . import util

_OPS = helper.get_gen_ops()


def allreduce(tensor, average=True):
    """Sum or mean over ranks. Slices are gathered instead."""
    size = util.ranks()
    if isinstance(tensor, tf.IndexedSlices):
        values = hccl_ops.allgather(tensor.values, size)
        indices = hccl_ops.allgather(tensor.indices, size)
        return tf.IndexedSlices(values / tf.cast(size, values.dtype) if average else values,
                                indices, tensor.dense_shape)
    total = hccl_ops.allreduce(tensor, 'sum')
    return total / tf.cast(size, total.dtype) if average else total


def reduce(tensor, root_rank, average=True, fusion=0, fusion_id=-1):
    total = hccl_ops.reduce(tensor, 'sum', root_rank, fusion, fusion_id)
    return total / tf.cast(util.ranks(), total.dtype) if average else total


def npu_allreduce(values, reduction='mean', fusion=1, fusion_id=-1, group=hccl_ops.GROUP):
    """Reduce a tensor, or each of a list of them."""
    if isinstance(values, (list, tuple)):
        return [npu_allreduce(value, reduction, fusion, fusion_id, group) for value in values]
    total = hccl_ops.allreduce(values, 'sum' if reduction == 'mean' else reduction, fusion,
                               fusion_id, group)
    mean = reduction == 'mean'
    return total / tf.cast(util.ranks(), total.dtype) if mean else total


def _averaged(grads_and_vars):
    return [(None if grad is None else allreduce(grad), variable)
            for grad, variable in grads_and_vars]


def compute_unscaled(compute_gradients, loss_scale, loss, *args):
    """Gradients of the loss times `loss_scale`, divided by it again."""
    loss = loss() if callable(loss) else loss
    scaled = loss * tf.cast(loss_scale, loss.dtype.base_dtype)
    inverse = tf.reciprocal(loss_scale)
    return [(None if grad is None else grad * tf.cast(inverse, grad.dtype.base_dtype), variable)
            for grad, variable in compute_gradients(scaled, *args)]


def no_overflow(grads, is_distributed):
    """Whether the device's flag is down once `grads` are there, on all ranks; lowers the flag."""
    grads = [grad for grad in grads if grad is not None]
    if recorder.version == 'r1.15':
        with tf.control_dependencies(grads):
            status = _OPS.npu_get_float_status_v2()
        with tf.control_dependencies([status]):
            clear = _OPS.npu_clear_float_status_v2()
        if is_distributed:
            status = hccl_ops.allreduce([status], 'sum', fusion=0)
        with tf.control_dependencies([clear]):
            return tf.reduce_all(tf.equal(status, 0))
    status = _OPS.npu_alloc_float_status()
    with tf.control_dependencies(grads):
        local = _OPS.npu_get_float_status(status)
        cleared = _OPS.npu_clear_float_status(local)
    if is_distributed:
        with tf.control_dependencies([local]):
            status = hccl_ops.allreduce([status], 'sum', fusion=0)
    return tf.reduce_all(tf.equal(status, cleared))


def apply_if(finite, manager, optimizer, grads_and_vars, global_step, name):
    """Apply gradients only if `finite`, and tell the manager in either case."""
    update = tf.cond(
        finite, lambda: optimizer.apply_gradients(grads_and_vars, global_step, name), tf.no_op)
    return tf.group(update, manager.update_loss_scale(finite))


class NPUDistributedOptimizer(tf.train.Optimizer):
    """Averages gradients over the ranks; transparent for one. No sharding of weight updates."""

    def __init__(self, optimizer, is_weight_update_sharding=False, name=None):
        if is_weight_update_sharding:
            raise RuntimeError('the fake does not shard weight updates')
        self._opt = optimizer
        super().__init__(use_locking=False, name=name or f'Distributed{type(optimizer).__name__}')
        recorder.note_optimizer(self)

    def compute_gradients(self, *args, **kwargs):
        grads_and_vars = self._opt.compute_gradients(*args, **kwargs)
        return grads_and_vars if util.ranks() <= 1 else _averaged(grads_and_vars)

    def apply_gradients(self, *args, **kwargs):
        return self._opt.apply_gradients(*args, **kwargs)

    def get_slot(self, *args, **kwargs):
        return self._opt.get_slot(*args, **kwargs)

    def get_slot_names(self, *args, **kwargs):
        return self._opt.get_slot_names(*args, **kwargs)

    def variables(self, *args, **kwargs):
        return self._opt.variables(*args, **kwargs)


def npu_distributed_optimizer_wrapper(optimizer):
    """Patch this TF 1 optimizer to average gradients; the number of ranks is read here."""
    if not isinstance(optimizer, tf.train.Optimizer):
        raise RuntimeError('the fake wraps TF 1 optimizers only')
    original, size = optimizer.compute_gradients, util.ranks()

    def compute_gradients(*args, **kwargs):
        grads_and_vars = original(*args, **kwargs)
        return grads_and_vars if size <= 1 else _averaged(grads_and_vars)
    optimizer.compute_gradients = compute_gradients
    optimizer._npu_wrappers = ['npu_distributed_optimizer_wrapper',
                               *vars(optimizer).get('_npu_wrappers', ())]
    recorder.note_optimizer(optimizer)
    return optimizer


class NPUOptimizer(NPUDistributedOptimizer):
    """Averaging and loss scaling in one. The manager only needs the two methods it uses.

    Gradients are averaged before they are scaled down. It never looks at the gradients instead of
    the flag, as NPULossScaleOptimizer may. is_tailing_optimization is noted only.
    """

    def __init__(self, opt, loss_scale_manager=None, is_distributed=False, is_loss_scale=False,
                 is_tailing_optimization=False, name=None):
        if is_loss_scale and loss_scale_manager is None:
            raise ValueError('is_loss_scale needs a loss_scale_manager')
        self._opt = opt
        self._loss_scale_manager = loss_scale_manager
        self._is_distributed = is_distributed
        self._is_loss_scale = is_loss_scale
        tf.train.Optimizer.__init__(self, use_locking=False,
                                    name=name or f'NPUOptimizer{type(opt).__name__}')
        recorder.note_optimizer(self, manager=loss_scale_manager, is_distributed=is_distributed,
                                is_loss_scale=is_loss_scale,
                                is_tailing_optimization=is_tailing_optimization)

    def compute_gradients(self, loss, var_list=None, gate_gradients=tf.train.Optimizer.GATE_OP,
                          aggregation_method=None, colocate_gradients_with_ops=False,
                          grad_loss=None):
        def compute(*args):
            grads_and_vars = self._opt.compute_gradients(*args)
            return _averaged(grads_and_vars) if self._is_distributed else grads_and_vars
        args = (loss, var_list, gate_gradients, aggregation_method, colocate_gradients_with_ops,
                grad_loss)
        if not self._is_loss_scale:
            return compute(*args)
        return compute_unscaled(compute, self._loss_scale_manager.get_loss_scale(), *args)

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        if not self._is_loss_scale:
            return self._opt.apply_gradients(grads_and_vars, global_step, name)
        finite = no_overflow([grad for grad, _ in grads_and_vars], self._is_distributed)
        return apply_if(finite, self._loss_scale_manager, self._opt, grads_and_vars, global_step,
                        name)
