"""Stands for the ops of the adapter's library that read and clear the device's overflow flag.

The flag is the recorder's; the ops are Python functions that a session calls.
"""

from types import SimpleNamespace

import numpy as np
import tensorflow.compat.v1 as tf

from fake_npu import recorder


def _read(name, shape, dtype):
    def read():
        recorder.ran.append(name)
        status = np.zeros(shape, dtype)
        status[0] = recorder.read_overflow()
        return status
    recorder.note(name)
    status = tf.numpy_function(read, [], dtype, name=name)
    status.set_shape(shape)
    return status


def npu_alloc_float_status():
    """Memory for a float status, zero. `get` writes to it: read later, it holds the status."""
    recorder.note('npu_alloc_float_status')
    name = tf.get_default_graph().unique_name('float_status')
    memory = tf.raw_ops.TemporaryVariable(shape=[1], dtype=tf.float32, var_name=name)
    return tf.assign(memory, [0.])


def npu_get_float_status(status):
    """Copy the device's flag to `status`, which is also the result."""
    with tf.control_dependencies([status]):
        return tf.assign(status, _read('npu_get_float_status', [1], np.float32))


def npu_clear_float_status(status):
    """Lower the device's flag, after `status` is there; the result is a cleared status."""
    recorder.note('npu_clear_float_status')
    clear = recorder.run_op('npu_clear_float_status', [status], recorder.clear_overflow)
    with tf.control_dependencies([clear]):
        return tf.zeros([1])


def npu_get_float_status_v2():
    """The device's flag: all zero unless there was an overflow."""
    return _read('npu_get_float_status_v2', [8], np.int32)


def npu_get_float_status_v2_of(addr):
    """The same of r1.8 and r1.9, after the float tensors in the list `addr`."""
    if not isinstance(addr, (list, tuple)) or any(each.dtype.base_dtype != tf.float32
                                                  for each in addr):
        raise TypeError('addr: expected a list of float tensors')
    with tf.control_dependencies(addr):
        return npu_get_float_status_v2()


def npu_clear_float_status_v2():
    """Lower the device's flag. An operation without a result, ordered by the caller."""
    recorder.note('npu_clear_float_status_v2')
    return recorder.run_op('npu_clear_float_status_v2', act=recorder.clear_overflow)


def gen_npu_ops():
    """The library: v1 ops (alloc, get and clear of a float[1]) or, on r1.15, v2 (int32[8]).

    A real r1.15 may still know v1 ops; here a wrong choice shows as a missing attribute. On r1.9
    the second version is there already, with an argument.
    """
    ops = ((npu_get_float_status_v2, npu_clear_float_status_v2) if recorder.version == 'r1.15' else
           (npu_alloc_float_status, npu_get_float_status, npu_clear_float_status))
    library = SimpleNamespace(**{op.__name__: op for op in ops})
    if recorder.version == 'r1.9':
        library.npu_get_float_status_v2 = npu_get_float_status_v2_of
        library.npu_clear_float_status_v2 = npu_clear_float_status_v2
    return library
