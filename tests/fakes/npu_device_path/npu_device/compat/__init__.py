"""Stands for the way back to TF 1 graphs and sessions."""

import tensorflow.compat.v1 as tf
from fake_npu import recorder


def enable_v1():
    """To be called before any graph is built."""
    recorder.note('enable_v1', nodes=len(tf.get_default_graph().get_operations()))
    tf.disable_v2_behavior()
