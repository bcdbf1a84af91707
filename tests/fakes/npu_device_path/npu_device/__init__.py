"""Stands for the adapter of TF 2 to Ascend devices, as far as graphs and sessions go."""

import os
import sys

_FAKES = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
if _FAKES not in sys.path:
    sys.path.append(_FAKES)

from fake_npu import recorder  # noqa: E402
from fake_npu.float_status import gen_npu_ops as _gen_npu_ops  # noqa: E402

from npu_device import compat  # noqa: E402

gen_npu_ops = _gen_npu_ops()

if recorder.version == 'r1.15':
    is_inf_nan_enabled = recorder.is_inf_nan

__all__ = ['compat', 'gen_npu_ops']
