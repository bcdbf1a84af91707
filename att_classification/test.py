"""Attribute accuracy of an experiment's test sheets, measured by the classifier.

Examples:
    cd att_classification && python test.py --img_dir ../output/128/sample_testing
    python att_classification/test.py --img_dir output/128/sample_testing \\
        --checkpoint output/classifier/checkpoints
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# Run from this folder, as published, Python would look for packages here only.
sys.path.insert(0, os.path.dirname(HERE))

from att_classification.options import EvaluationConfig  # noqa: E402
from pylib import ArgumentParser, run_command  # noqa: E402
from stgan.config import add_options, from_args  # noqa: E402
from stgan.sheets import open_folder  # noqa: E402


def main():
    parser = ArgumentParser(description=__doc__)
    add_options(parser, EvaluationConfig)
    config = from_args(EvaluationConfig, parser.parse_args())
    folder = open_folder(config.img_dir, allow_incomplete=config.allow_incomplete)

    # Only now: TensorFlow takes seconds to load, a bad flag should not.
    from att_classification.evaluation import measure  # noqa: PLC0415
    measure(folder, config)


if __name__ == '__main__':
    run_command(main)
