"""Stands for the choice of which gradients are reduced together; noted only."""

from fake_npu import recorder

GROUP = 'hccl_world_group'


def set_split_strategy_by_idx(idxList, group=GROUP):  # noqa: N803
    recorder.note('set_split_strategy_by_idx', indices=idxList, group=group)


def set_split_strategy_by_size(dataSizeList, group=GROUP):  # noqa: N803
    recorder.note('set_split_strategy_by_size', sizes=dataSizeList, group=group)
