"""Stands for the scopes that mark nodes for the device's compiler: same attributes, no effect."""

import contextlib

import tensorflow.compat.v1 as tf
from fake_npu import recorder


def keep_dtype_value():
    """The mark of nodes to keep from mixed precision: True, from r1.8 on an integer."""
    return tf.AttrValue(b=True) if recorder.version == 'r1.5' else tf.AttrValue(i=1)


@contextlib.contextmanager
def keep_dtype_scope():
    with tf.get_default_graph()._attr_scope({'_keep_dtype': keep_dtype_value()}):
        yield


@contextlib.contextmanager
def without_npu_compile_scope():
    """Nodes that stay on the host."""
    with tf.get_default_graph()._attr_scope({'_without_npu_compile': tf.AttrValue(b=True)}):
        yield
