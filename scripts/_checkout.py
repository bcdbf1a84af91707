"""Finds this project's packages for commands run as files: importing it puts the checkout first.

`python scripts/bench/chaos.py` makes Python look for packages in scripts/bench only. Each folder
of such commands has a link to this file.
"""

import os
import sys

ROOT = os.path.dirname(os.path.realpath(__file__))
while not os.path.exists(os.path.join(ROOT, 'psnr_ssim.py')) and os.path.dirname(ROOT) != ROOT:
    ROOT = os.path.dirname(ROOT)
if sys.path[0] != ROOT:
    sys.path.insert(0, ROOT)
