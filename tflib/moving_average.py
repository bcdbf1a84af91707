"""Exponential moving averages of weights, as variables beside them.

Named as by `tf.train.ExponentialMovingAverage`. That class reads weights by way of an operation
that may run before they are updated; this one never does.
"""

from tflib import tf

SUFFIX = '/ExponentialMovingAverage'


def name_of(variable_name):
    """Name of the average of a variable."""
    return variable_name + SUFFIX


def update(variables, decay, count):
    """Add an average for each variable, and return the operation that updates them all.

    Reads the variables after the current control dependencies.

    Args:
        variables: variables with initializers.
        decay: of an average over the last 1/(1-decay) updates; while fewer are done, over those.
        count: scalar, updates done so far.
    """
    averages = [tf.get_variable(name_of(v.op.name), v.shape, v.dtype.base_dtype,
                                tf.zeros_initializer(), trainable=False) for v in variables]
    count = tf.cast(count, tf.float32)
    share = 1. - tf.minimum(decay, count / (count + 9.))    # the first update copies
    return tf.group(*[tf.assign_sub(average, (average.read_value() - v.read_value()) * share)
                      for average, v in zip(averages, variables)])


def get_average(getter, name, *args, **kwargs):
    """As custom_getter of `tf.variable_scope`: averages in the place of variables that have one."""
    averages = {v.op.name: v for v in tf.global_variables()}
    average = averages.get(name_of(name))
    return getter(name, *args, **kwargs) if average is None else average
