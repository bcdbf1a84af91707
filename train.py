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

    from stgan.training import run
    run(config, **options)


if __name__ == '__main__':
    run_command(main)
