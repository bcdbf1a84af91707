"""Stands for the adapter of TF 1.15 to Ascend devices: its modules are those of fake_npu."""

import os
import sys

_FAKES = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
if _FAKES not in sys.path:
    sys.path.append(_FAKES)
__path__.append(os.path.join(_FAKES, 'fake_npu', 'adapter'))
