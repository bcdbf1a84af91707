"""Stands for the adapter's helpers: number of ranks, loops on the device, marks on nodes."""

import os

import tensorflow.compat.v1 as tf
from fake_npu import recorder

from .npu_scope import keep_dtype_value

_LOOP = 'npu_runconfig'


if recorder.version == 'r1.15':
    def get_ranksize():
        """A string, as it is in the environment."""
        if 'RANK_SIZE' in os.environ and 'CM_WORKER_SIZE' in os.environ:
            raise ValueError('RANK_SIZE and CM_WORKER_SIZE are both set')
        return os.environ.get('RANK_SIZE', os.environ.get('CM_WORKER_SIZE', '1'))


def ranks():
    """The number of ranks; the fakes' own, as before r1.11 there is no function for it."""
    return int(get_ranksize() if recorder.version == 'r1.15' else os.environ.get('RANK_SIZE', '1'))


class IterationPerLoop:
    """The variables by which the device would repeat `train_op`; a CPU runs it once per call."""

    def __init__(self):
        self._variables = []

    def create_iteration_per_loop_var(self, train_op):
        if not isinstance(train_op, tf.Operation):
            raise ValueError('train_op must be an Operation')
        with tf.init_scope(), tf.variable_scope(_LOOP, reuse=tf.AUTO_REUSE):
            self._variables = [
                tf.get_variable(name, [], tf.int64, tf.zeros_initializer(), trainable=False,
                                use_resource=True,
                                collections=[f'{_LOOP}_{name}', tf.GraphKeys.LOCAL_VARIABLES])
                for name in ('iterations_per_loop', 'loop_cond', 'zero', 'one')]
        return tf.group(train_op, name='IterationOp')

    def load_iteration_per_loop_var(self, sess, iterations_per_loop=1):
        for variable, value in zip(self._variables, (iterations_per_loop - 1, 0, 0, 1)):
            sess.run(variable.initializer, {variable.initializer.inputs[1]: value})


def set_iteration_per_loop(sess, train_op, iterations_per_loop=1):
    if not isinstance(train_op, tf.Operation):
        raise ValueError('train_op must be an Operation')
    if iterations_per_loop == 1:
        return train_op
    loop = IterationPerLoop()
    train_op = loop.create_iteration_per_loop_var(train_op)
    loop.load_iteration_per_loop_var(sess, iterations_per_loop)
    return train_op


def keep_tensors_dtypes(graph, input_tensors):
    """Mark nodes, given by name, like npu_scope.keep_dtype_scope()."""
    for name in input_tensors:
        element = graph.as_graph_element(name)
        getattr(element, 'op', element)._set_attr('_keep_dtype', keep_dtype_value())
