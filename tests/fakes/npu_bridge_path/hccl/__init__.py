"""Stands for the collective communication package of the device's toolkit."""

import os
import sys

_FAKES = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
if _FAKES not in sys.path:
    sys.path.append(_FAKES)
