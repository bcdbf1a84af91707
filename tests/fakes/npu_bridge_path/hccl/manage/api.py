"""Stands for the rank getters: RANK_SIZE and RANK_ID, all ranks on one server.

Like the real ones they fail unless a session ran npu_ops.initialize_system() before, and the
import fails, with a ValueError too, where the toolkit's library does not load.
"""

import os

from fake_npu import recorder

if recorder.no_hccl:
    raise ValueError('load hccl lib error')

GROUP = 'hccl_world_group'


def _number(name, default):
    if not recorder.initialized:
        raise ValueError('HCCL is not initialized: no session ran initialize_system')
    return int(os.environ.get(name, default))


def get_rank_size(group=GROUP):
    del group
    return _number('RANK_SIZE', 1)


def get_rank_id(group=GROUP):
    del group
    return _number('RANK_ID', 0)


def get_local_rank_size(group=GROUP):
    return get_rank_size(group)


def get_local_rank_id(group=GROUP):
    return get_rank_id(group)


def create_group(group, rank_num, rank_ids):
    recorder.note('create_group', group=group, rank_num=rank_num, rank_ids=rank_ids)


def destroy_group(group):
    recorder.note('destroy_group', group=group)
