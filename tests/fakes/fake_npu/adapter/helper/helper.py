"""Stands for the helper that gives access to the adapter's library of ops."""

from fake_npu.float_status import gen_npu_ops


def get_gen_ops():
    return gen_npu_ops()
