"""The toolkit's package is the same for both adapters."""

import os
import sys

_FAKES = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
if _FAKES not in sys.path:
    sys.path.append(_FAKES)
__path__.append(os.path.join(_FAKES, 'npu_bridge_path', 'hccl'))
