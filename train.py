"""Train STGAN. Repeating the command resumes. Example: python train.py --experiment_name 128."""

import datetime

from pylib import ArgumentParser, run_command
from stgan.config import RunConfig, add_options, from_args


def main():
    parser = ArgumentParser(description=__doc__)
    now = datetime.datetime.now().strftime('%Y.%m.%d-%H%M%S')
    add_options(parser, RunConfig, experiment_name=now)
    parser.add_argument('--clear', action='store_true',
                        help='start over, removing what training left in the experiment folder')
    args = parser.parse_args()
    config = from_args(RunConfig, args)

    # Only now: TensorFlow takes seconds to load, a bad flag should not.
    from stgan.training import train  # noqa: PLC0415
    train(config, args.clear)


if __name__ == '__main__':
    run_command(main)
