"""Dynamic loss scaling for mixed precision.

A loss is multiplied by a scale before the backward pass, so that small gradients do not vanish in
16 bits, and the gradients are divided by it again. Where one is not finite the update is skipped
and the scale lowered. One manager per optimizer: D and G overflow at different scales.

Source: Micikevicius et al., "Mixed precision training", 2018; the update rule is that of Ascend's
ExponentialUpdateLossScaleManager.
"""

from tflib import collective, npu, tf

# The top scope of all variables made here; checkpoints of other precisions lack them.
SCOPE = 'loss_scale'
MAX_SCALE = 3.4e38    # of float32


class FixedLossScale:
    """A loss scale that never changes.

    Attributes:
        scale: float32 scalar; skipped: int64 variable, counts the updates that overflowed.
    """

    def __init__(self, name, scale):
        if scale < 1:
            raise ValueError(f'loss scale {scale}: expected at least 1')
        self.scale = tf.constant(scale, tf.float32)
        with tf.variable_scope(f'{SCOPE}/{name}'):
            self.skipped = _variable('skipped', 0, tf.int64)

    def update(self, finite):
        """Return an operation that takes note of an update with (bool scalar) `finite`."""
        return count_skipped(self.skipped, finite)


class ExponentialLossScale:
    """A loss scale that grows after a run of good steps and falls after bad ones.

    Args:
        name: of its variables, `loss_scale/<name>/...`, which are saved in checkpoints.
        start: initial scale.
        grow_every: good steps after which the scale is multiplied by `growth`.
        shrink_every: bad steps after which it is multiplied by `shrinkage`; a good step between
            them does not start the count again.

    Attributes:
        scale: float32 variable; good_steps, bad_steps: int32 variables; skipped: int64 variable,
            counts the updates that overflowed.
    """

    def __init__(self, name, start=2. ** 15, grow_every=1000, shrink_every=2, growth=2.,
                 shrinkage=.5):
        self._grow_every, self._shrink_every = grow_every, shrink_every
        self._growth, self._shrinkage = growth, shrinkage
        with tf.variable_scope(f'{SCOPE}/{name}'):
            self.scale = _variable('loss_scale', float(start), tf.float32)
            self.good_steps = _variable('good_steps', 0, tf.int32)
            self.bad_steps = _variable('bad_steps', 0, tf.int32)
            self.skipped = _variable('skipped', 0, tf.int64)

    def update(self, finite):
        """Return an operation that applies the rule after an update with (bool scalar) `finite`."""
        scale, good, bad = self.scale.read_value(), self.good_steps + 1, self.bad_steps + 1
        grow = tf.logical_and(finite, good >= self._grow_every)
        shrink = tf.logical_and(tf.logical_not(finite), bad >= self._shrink_every)
        reset = tf.logical_or(grow, shrink)
        grown = tf.where(scale < MAX_SCALE / self._growth, scale * self._growth, scale)
        shrunk = tf.maximum(1., scale * self._shrinkage)
        zero = tf.zeros_like(good)
        new_good = tf.where(tf.logical_or(reset, tf.logical_not(finite)), zero, good)
        new_bad = tf.where(reset, zero, tf.where(finite, bad - 1, bad))
        new_scale = tf.where(grow, grown, tf.where(shrink, shrunk, scale))
        with tf.control_dependencies([new_scale, new_good, new_bad]):
            return tf.group(self.scale.assign(new_scale), self.good_steps.assign(new_good),
                            self.bad_steps.assign(new_bad), count_skipped(self.skipped, finite))


def count_skipped(counter, finite):
    """Return an operation that adds 1 to the int64 variable `counter` unless `finite`."""
    return counter.assign_add(tf.cast(tf.logical_not(finite), tf.int64))


def skipped_counts():
    """{'<name>_skipped': variable} of the loss scales in the current graph."""
    places = ((variable, variable.op.name.split('/')) for variable in tf.global_variables())
    return {f'{parts[1]}_skipped': variable for variable, parts in places
            if len(parts) == 3 and (parts[0], parts[2]) == (SCOPE, 'skipped')}


def _variable(name, value, dtype):
    return tf.get_variable(name, [], dtype, tf.constant_initializer(value), trainable=False)


def all_finite(gradients):
    """Bool scalar: whether every value of all gradients that are not None is finite."""
    return tf.reduce_all(tf.stack([tf.reduce_all(tf.is_finite(gradient))
                                   for gradient in gradients if gradient is not None]))


class Adam(tf.train.AdamOptimizer):
    """Adam whose variables have the same names when updates stand in a condition."""

    def apply_gradients(self, *args, **kwargs):
        """See tf.train.Optimizer."""
        # beta1_power and beta2_power take the name scope, which would be that of tf.cond().
        with tf.name_scope(None):
            return super().apply_gradients(*args, **kwargs)


class LossScaleOptimizer:
    """An optimizer that scales the loss, unscales the gradients, and skips updates that overflow.

    Args:
        optimizer: a tf.train.Optimizer; manager: one of the above, of this optimizer only.
        is_finite: function from the list of unscaled gradients to a bool scalar.
    """

    def __init__(self, optimizer, manager, is_finite=all_finite):
        self._optimizer, self._manager, self._is_finite = optimizer, manager, is_finite

    def compute_gradients(self, loss, var_list):
        """[(gradient or None, variable)] of the loss itself: scaled on the way, unscaled here."""
        scale = tf.identity(self._manager.scale)
        pairs = self._optimizer.compute_gradients(loss * scale, var_list)
        return [(None if gradient is None else gradient / scale, variable)
                for gradient, variable in pairs]

    def apply_gradients(self, pairs):
        """Apply gradients if they are all finite; update the manager in either case."""
        finite = self._is_finite([gradient for gradient, _ in pairs])
        apply = tf.cond(finite, lambda: self._optimizer.apply_gradients(pairs), tf.no_op)
        with tf.control_dependencies([apply]):
            return self._manager.update(finite)


def make_optimizer(optimizer, name, start, device, fixed=False, workers=None):
    """Return (optimizer that scales the loss, its manager).

    Ascend's NPULossScaleOptimizer reads the overflow register of the device; it exists in the
    adapter for TensorFlow 1.15 only. Elsewhere the optimizer is this module's, which on the adapter
    for TensorFlow 2 reads the register too.

    Args:
        name: of the manager; start: initial scale; device: 'cpu', 'gpu' or 'npu'.
        fixed: keep the initial scale, else it is adapted by `ExponentialLossScale`'s rule.
        workers: those that train together, see `engines.joined`; their gradients are averaged
            before the optimizer takes them, but each NPU's register is its own.
    """
    workers = workers or collective.Alone()
    if device == 'npu' and npu.has_loss_scale_optimizer():
        with tf.variable_scope(f'{SCOPE}/{name}'):
            skipped = _variable('skipped', 0, tf.int64)
            return npu.loss_scale_optimizer(optimizer, start, fixed, skipped, count_skipped,
                                            is_distributed=workers.size > 1)
    manager = (FixedLossScale if fixed else ExponentialLossScale)(name, start)

    def is_finite(gradients):
        finite = all_finite(gradients)
        if device != 'npu':
            return finite
        overflowed = tf.cast(tf.logical_not(npu.no_overflow(gradients)), tf.float32)
        return tf.logical_and(finite, tf.equal(workers.summed(overflowed), 0))
    return LossScaleOptimizer(optimizer, manager, is_finite), manager
