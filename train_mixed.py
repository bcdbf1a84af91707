"""Train STGAN in mixed precision with dynamic loss scaling, by Ascend's recipe.

Only defaults differ from train.py. Repeating the command resumes.

Examples:
    python train_mixed.py --dataroot DATAROOT --experiment_name 128_mixed
    python train_mixed.py --device npu --show_session
"""

from pylib import run_command
from stgan.config import MIXED_RECIPE, parse_training


def main():
    config, options = parse_training(__doc__, **MIXED_RECIPE)

    from stgan.training import run
    run(config, **options)


if __name__ == '__main__':
    run_command(main)
