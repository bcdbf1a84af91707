"""Stands for the adapter's loss-scale managers, with the same variables and the same rule."""

import tensorflow.compat.v1 as tf


class FixedLossScaleManager:
    def __init__(self, loss_scale, enable_overflow_check=True):
        if loss_scale < 1:
            raise ValueError('loss scale must be at least 1')
        self._loss_scale = tf.constant(loss_scale, tf.float32)
        self._enable_overflow_check = enable_overflow_check

    def get_loss_scale(self):
        return self._loss_scale

    def update_loss_scale(self, finite_grads):
        del finite_grads
        return tf.no_op()

    def get_enable_overflow_check(self):
        return self._enable_overflow_check


class ExponentialUpdateLossScaleManager:
    """Grows the scale after steps without overflow, shrinks it after steps with one.

    Steps with overflow need not be consecutive: one without does not reset their count. The scale
    stays between 1 and the largest float32, about; reaching the bound resets both counts too.
    """

    def __init__(self, init_loss_scale, incr_every_n_steps, decr_every_n_nan_or_inf=2,
                 incr_ratio=2, decr_ratio=0.8):
        self._incr_every_n_steps = incr_every_n_steps
        self._decr_every_n_nan_or_inf = decr_every_n_nan_or_inf
        self._incr_ratio = incr_ratio
        self._decr_ratio = decr_ratio
        self._loss_scale, self._num_good_steps, self._num_bad_steps = (
            tf.Variable(tf.constant(value, dtype), trainable=False, name=name)
            for name, value, dtype in (('loss_scale', init_loss_scale, tf.float32),
                                       ('good_steps', 0, tf.int32), ('bad_steps', 0, tf.int32)))

    def get_loss_scale(self):
        return self._loss_scale

    def update_loss_scale(self, finite_grads):
        variables = self._loss_scale, self._num_good_steps, self._num_bad_steps
        scale, good, bad = (tf.identity(variable) for variable in variables)
        grow = good + 1 >= self._incr_every_n_steps
        shrink = bad + 1 >= self._decr_every_n_nan_or_inf
        grown = tf.where(scale < 3.4e38 / self._incr_ratio, scale * self._incr_ratio, scale)
        if_finite = (tf.where(grow, grown, scale), tf.where(grow, 0, good + 1),
                     tf.where(grow, 0, bad))
        if_overflow = (tf.where(shrink, tf.maximum(1., scale * self._decr_ratio), scale), 0,
                       tf.where(shrink, 0, bad + 1))
        new = [tf.where(finite_grads, *values) for values in zip(if_finite, if_overflow)]
        with tf.control_dependencies(new):
            return tf.group(*map(tf.assign, variables, new))
