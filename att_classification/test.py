"""Attribute accuracy of an experiment's test sheets, measured by the classifier.

Examples:
    cd att_classification && python test.py --img_dir ../output/128/sample_testing
    python att_classification/test.py --img_dir output/128/sample_testing \\
        --checkpoint output/classifier/checkpoints
"""

if not __package__:
    import _checkout

from att_classification.options import EvaluationConfig
from pylib import ArgumentParser, run_command
from stgan.config import add_options, from_args
from stgan.sheets import open_folder


def main():
    parser = ArgumentParser(description=__doc__)
    add_options(parser, EvaluationConfig)
    config = from_args(EvaluationConfig, parser.parse_args())
    folder = open_folder(config.img_dir, config.allow_lossy, config.allow_incomplete)

    from att_classification.evaluation import measure
    from tflib import faults
    with faults.one_line(config.checkpoint, 'free some, or take a machine with more'):
        measure(folder, config)


if __name__ == '__main__':
    run_command(main)
