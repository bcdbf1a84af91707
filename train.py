"""Train STGAN in high precision. Repeating the command resumes.

Examples:
    python train.py --dataroot DATAROOT --experiment_name 128
    python train.py --dataroot DATAROOT --experiment_name attgan \\
        --use_stu false --shortcut_layers 1 --inject_layers 1
"""

from pylib import run_command
from stgan.config import parse_training


def main():
    config, options = parse_training(__doc__)

    # Only now: TensorFlow takes seconds to load, a bad flag should not.
    from stgan.training import run  # noqa: PLC0415
    run(config, **options)


if __name__ == '__main__':
    run_command(main)
