"""Stands for the ops that open and close the device and the group of ranks."""

from fake_npu import recorder


def _system_op(name, initialized):
    def act():
        recorder.initialized = initialized
    recorder.note(name)
    return recorder.run_op(name, act=act)


def initialize_system(name=None):
    """Once a session ran this, the rank getters of hccl.manage.api answer."""
    del name
    return _system_op('initialize_system', True)


def shutdown_system(name=None):
    del name
    return _system_op('shutdown_system', False)
