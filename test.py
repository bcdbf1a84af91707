"""Edit test images with a trained experiment: one PNG sheet per image.

Every attribute by itself, or with --test_atts several at once, or with --test_slide one attribute
at growing intensities.

Examples:
    python test.py --experiment_name 128 --test_int 2
    python test.py --experiment_name 128 --test_atts Pale_Skin Male
    python test.py --experiment_name 128 --test_slide --test_att Male
"""

from pylib import ArgumentParser, run_command
from stgan.config import TestConfig, add_options, from_args, given, load_config
from stgan.sheets import plan_test


def main():
    parser = ArgumentParser(description=__doc__)
    add_options(parser, TestConfig)
    parser.add_argument('--show_session', action='store_true',
                        help='print how the session would be configured, and exit')
    args = parser.parse_args()
    options = from_args(TestConfig, args)
    if args.show_session:
        from stgan.testing import show_session
        show_session(options)
        return
    options.check_used(given(parser, args))
    config, _ = load_config(options.folder)
    plan = plan_test(config, options)

    from stgan.testing import make_sheets
    from tflib import faults
    with faults.one_line(options.folder, 'lower --edit_batch', 'the same command goes on'):
        make_sheets(options, config, plan)


if __name__ == '__main__':
    run_command(main)
