"""Train the attribute classifier on the train and val images of a CelebA folder.

Repeating the command resumes. The test images tell how accurate it is.

Examples:
    cd att_classification && python train.py --dataroot DATAROOT
    python att_classification/train.py --dataroot DATAROOT \\
        --output_dir output/classifier
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# Run from this folder, as published, Python would look for packages here only.
sys.path.insert(0, os.path.dirname(HERE))

from att_classification.options import TrainingConfig  # noqa: E402
from pylib import ArgumentParser, run_command  # noqa: E402
from stgan.config import add_options, from_args  # noqa: E402


def main():
    parser = ArgumentParser(description=__doc__)
    add_options(parser, TrainingConfig)
    config = from_args(TrainingConfig, parser.parse_args())

    # Only now: TensorFlow takes seconds to load, a bad flag should not.
    from att_classification.training import train  # noqa: PLC0415
    train(config)


if __name__ == '__main__':
    run_command(main)
