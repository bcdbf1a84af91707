"""Train the attribute classifier on the train and val images of a CelebA folder.

Repeating the command resumes. The test images tell how accurate it is.

Examples:
    cd att_classification && python train.py --dataroot DATAROOT
    python att_classification/train.py --dataroot DATAROOT \\
        --output_dir output/classifier
"""

if not __package__:
    import _checkout

from att_classification.options import TrainingConfig
from pylib import ArgumentParser, run_command
from stgan.config import add_options, from_args


def main():
    parser = ArgumentParser(description=__doc__)
    add_options(parser, TrainingConfig)
    config = from_args(TrainingConfig, parser.parse_args())

    from att_classification.training import train
    train(config)


if __name__ == '__main__':
    run_command(main)
