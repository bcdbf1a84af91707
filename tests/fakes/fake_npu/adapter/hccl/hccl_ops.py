"""Stands for collective ops, as if all ranks (environment RANK_SIZE) held what this one holds.

Each is noted when built, with the arguments that change its meaning, and noted in each run. With
FAKE_NPU_EXCHANGE, a folder, they are real: the ranks' processes exchange values through files.
"""

import itertools
import os
import time

import numpy as np
import tensorflow.compat.v1 as tf
from fake_npu import recorder

from ..estimator.npu import util

GROUP = 'hccl_world_group'
_DTYPES = (tf.int8, tf.int16, tf.int32, tf.int64, tf.float16, tf.float32, tf.bfloat16)


def _note(name, tensors, **details):
    """Control dependencies on the noted run of collective `name`."""
    recorder.note(name, shapes=[tensor.shape.as_list() for tensor in tensors], **details)
    return tf.control_dependencies([recorder.run_op(name, tensors)])


_numbers = itertools.count()
_PATIENCE = 60    # seconds


def _exchanged(*tensors):
    """What all ranks have of each tensor: [ranks, *its shape]; None: they are only pretended.

    Each waiting exchange takes a thread: a session needs more of them than it has exchanges.
    """
    folder, rank = os.environ.get('FAKE_NPU_EXCHANGE'), os.environ.get('RANK_ID')
    if not folder:
        return None
    number, runs = next(_numbers), itertools.count()

    def exchange(*values):
        place = os.path.join(folder, f'{number}-{next(runs)}-')
        np.savez(f'{place}new-{rank}.npz', *values)
        os.rename(f'{place}new-{rank}.npz', f'{place}{rank}.npz')
        of_all = [_awaited(f'{place}{each}.npz') for each in range(util.ranks())]
        return [np.stack(of_each) for of_each in zip(*of_all)]
    results = tf.numpy_function(exchange, tensors, [tensor.dtype for tensor in tensors])
    for tensor, result in zip(tensors, results):
        result.set_shape([util.ranks(), *tensor.shape])
    return results


def _awaited(path):
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            with np.load(path) as stored:
                return [stored[f'arr_{place}'] for place in range(len(stored.files))]
        except FileNotFoundError:
            time.sleep(.001)
    raise RuntimeError(f'HCCL: timeout, no {path}')


def _reduced(tensor, reduction):
    size = util.ranks()
    values = _exchanged(tensor)
    if values is not None and reduction == 'sum':
        return tf.reduce_sum(values[0], 0)
    if reduction == 'sum':
        return tensor * tf.cast(size, tensor.dtype)
    if reduction == 'prod':
        return tensor ** tf.cast(size, tensor.dtype)
    if reduction not in ('max', 'min'):
        raise ValueError(f"reduction is {reduction!r}, not one of 'max', 'min', 'prod', 'sum'")
    return tf.identity(tensor)


def allreduce(tensor, reduction, fusion=1, fusion_id=-1, group=GROUP):
    """A list of tensors is packed, as by the real op."""
    tensor = tf.convert_to_tensor(tensor)
    if tensor.dtype.base_dtype not in _DTYPES:
        raise TypeError(f'allreduce does not take {tensor.dtype.name}')
    with _note('allreduce', [tensor], reduction=reduction, fusion=fusion, fusion_id=fusion_id,
               group=group):
        return _reduced(tensor, reduction)


def allgather(tensor, rank_size, group=GROUP, fusion=0, fusion_id=-1):
    tensor = tf.convert_to_tensor(tensor)
    with _note('allgather', [tensor], rank_size=rank_size, fusion=fusion, fusion_id=fusion_id,
               group=group):
        values = _exchanged(tensor)
        return tf.concat([tensor] * rank_size if values is None else tf.unstack(values[0]), 0)


def broadcast(tensor, root_rank, fusion=2, fusion_id=0, group=GROUP):
    """`tensor` is a list of tensors or variables; so is the result."""
    if not isinstance(tensor, (list, tuple)):
        raise TypeError('broadcast takes a list of tensors')
    tensors = [tf.convert_to_tensor(each) for each in tensor]
    with _note('broadcast', tensors, root_rank=root_rank, fusion=fusion, fusion_id=fusion_id,
               group=group):
        of_all = _exchanged(*tensors)
        return [tf.identity(each) for each in tensors] if of_all is None else [
            values[root_rank] for values in of_all]


def reduce(tensor, reduction, root_rank, fusion=0, fusion_id=-1, group=GROUP):
    tensor = tf.convert_to_tensor(tensor)
    with _note('reduce', [tensor], reduction=reduction, root_rank=root_rank, fusion=fusion,
               fusion_id=fusion_id, group=group):
        return _reduced(tensor, reduction)
