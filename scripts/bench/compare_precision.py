"""What mixed precision costs and gains: toy models trained in both, from equal seeds.

Trains with the demo's recipe, once per precision and seed, edits and measures all runs in float32,
and times both training graphs in one process, taking turns. Repeating it resumes. Flags not listed
go to train.py.

Examples:
    python scripts/bench/compare_precision.py --seeds 0 1 2
    python scripts/bench/compare_precision.py --seeds 0 --device cpu
"""

import dataclasses
import os
import shlex
import shutil

import numpy as np

if not __package__:
    import _checkout

from pylib import ArgumentParser, UserError, read_json, run_command, write_json
from scripts.bench.benchmark import matrix_product, seconds_taking_turns, training_iteration
from scripts.demo import DATA, TRAINING, classifier_command, data_command, run_all
from stgan.config import CHECKPOINTS, experiment_folder, load_config
from stgan.sheets import DESCRIPTION

PRODUCT_SIZE = 2048
PRECISIONS = ('high', 'mixed')
# (title, name, factor to show it with)
MEASURES = (('PSNR in dB', 'psnr', 1), ('SSIM', 'ssim', 1),
            ('attribute accuracy in %', 'accuracy', 100),
            ('error of other attributes in %', 'error', 100))


def experiment(name, precision, seed):
    """Name of the experiment that trains with a precision and a seed."""
    return f'{name}_{precision}_{seed}'


def train_and_measure(args, device, flags):
    """Train and measure all runs, or what is missing of it; `flags`: those of train.py."""
    folder = os.path.join('output', f'{args.name}_classifier')
    classifier = shlex.quote(folder)
    run_all([classifier_command(args.dataroot, folder)])
    for seed in args.seeds:
        shared = experiment(args.name, 'shared', seed)
        if args.shared_epochs:
            run_all([_training(shared, args.dataroot, device, seed, 'high', flags)
                     + f' --epoch {args.shared_epochs}'])
        for precision in PRECISIONS:
            run = experiment(args.name, precision, seed)
            if args.shared_epochs and not os.path.exists(os.path.join('output', run)):
                shutil.copytree(os.path.join('output', shared), os.path.join('output', run))
            quoted = shlex.quote(run)
            run_all([_training(run, args.dataroot, device, seed, precision, flags)])
            clear = ' --clear' if has_older_sheets(run) else ''
            run_all([f'test.py --experiment_name={quoted} --test_int 2 --device {device}{clear}',
                     f'psnr_ssim.py --experiment_name={quoted}',
                     f'att_classification/test.py --img_dir output/{quoted}/sample_testing '
                     f'--checkpoint {classifier}/checkpoints --device {device}'])


def has_older_sheets(run):
    """Whether the sheets of an experiment were made before it was trained on."""
    from tflib import checkpoint

    folder = experiment_folder(run)
    description = os.path.join(folder, 'sample_testing', DESCRIPTION)
    newest = checkpoint.require_newest(os.path.join(folder, CHECKPOINTS))
    return os.path.exists(description) and (
        read_json(description).get('checkpoint') != os.path.basename(newest))


def _training(run, dataroot, device, seed, precision, flags):
    return (f'train.py --experiment_name={shlex.quote(run)} --dataroot={shlex.quote(dataroot)} '
            f'--device {device} {TRAINING} --precision {precision} --seed {seed} {flags}')


def quality(run):
    """{measure: value} of a measured experiment."""
    folder = os.path.join('output', run)
    reconstruction = read_json(os.path.join(folder, 'psnr_ssim.json'))
    attributes = read_json(os.path.join(folder, 'attribute_accuracy.json'))
    return {'psnr': reconstruction['psnr'], 'ssim': reconstruction['ssim'],
            'accuracy': attributes['mean_accuracy'], 'error': attributes['mean_error']}


def speeds(config, device, rounds):
    """Median seconds of an iteration and of a matrix product, each in both precisions."""
    from stgan.graph import build

    iterations = [
        training_iteration(dataclasses.replace(config, precision=precision), build, device)
        for precision in PRECISIONS]
    half = 'float16' if device == 'gpu' else 'bfloat16'
    products = [matrix_product(dtype, device, PRODUCT_SIZE) for dtype in ('float32', half)]
    return (np.median(seconds_taking_turns(iterations, rounds), axis=1),
            np.median(seconds_taking_turns(products, 2 * rounds), axis=1))


def print_table(measured, iteration, product, seeds):
    """Print both precisions side by side."""
    from rich.console import Console
    from rich.table import Table

    table = Table('', *PRECISIONS, 'mixed against high', title=f'{len(seeds)} runs each')
    for title, measure, factor in MEASURES:
        high, mixed = (
            [factor * run[measure] for run in measured[precision]] for precision in PRECISIONS)
        # From pairs of equal seeds, as seeds differ more than precisions do.
        difference = np.subtract(mixed, high)
        table.add_row(title, *(f'{np.mean(values):{sign}.3f} ± {np.std(values):.3f}' for
                               values, sign in ((high, ''), (mixed, ''), (difference, '+'))))
    table.add_row('training iterations/s', *(f'{1 / value:.2f}' for value in iteration),
                  f'{iteration[0] / iteration[1]:.2f}x')
    table.add_row('matrix product, GFLOP/s', *(f'{2 * PRODUCT_SIZE ** 3 / value / 1e9:.0f}'
                                               for value in product),
                  f'{product[0] / product[1]:.2f}x')
    Console().print(table)
    print('± is the standard deviation over seeds. Speeds are medians of one process that takes '
          'turns.')
    if product[1] > product[0]:
        print('This processor multiplies 16-bit matrices slower than float32 ones: mixed precision '
              'can not be faster here.')


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--dataroot', default=DATA, metavar='DIR',
                        help='data folder; toy faces, if absent')
    parser.add_argument('--name', default='compare', help='first part of the experiments\' names')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2],
                        help='one pair of runs for each')
    parser.add_argument('--shared_epochs', type=int, default=0, help='first epochs that both '
                        'precisions share, trained in high: chance then matters less')
    parser.add_argument('--rounds', type=int, default=10, help='iterations timed per precision')
    parser.add_argument('--device', default='auto', choices=('auto', 'cpu', 'gpu'),
                        help='where to run')
    args, extra = parser.parse_known_args()
    if experiment_folder(args.name) != os.path.join('output', args.name):
        raise UserError(f'--name {args.name}: expected a name, no path')
    if args.rounds < 1:
        raise UserError(f'--rounds {args.rounds}: expected at least 1')

    from tflib import utils
    device = utils.resolve_device(args.device)
    if device == 'npu':
        raise UserError('--device cpu or gpu: an NPU keeps one precision per process; there compare'
                        ' the runs of train.py and train_mixed.py')
    utils.session_config(device, 'mixed')  # refuses what cannot mix
    if not os.path.exists(args.dataroot):
        run_all([data_command(args.dataroot)])
    train_and_measure(args, device, ' '.join(map(shlex.quote, extra)))

    measured = {precision: [quality(experiment(args.name, precision, seed)) for seed in args.seeds]
                for precision in PRECISIONS}
    config, _ = load_config(os.path.join('output', experiment(args.name, 'high', args.seeds[0])))
    iteration, product = speeds(config, device, args.rounds)
    print_table(measured, iteration, product, args.seeds)
    path = os.path.join('output', f'{args.name}.json')
    write_json(path, {'runs': measured, 'seeds': args.seeds, 'seconds_per_iteration':
                      dict(zip(PRECISIONS, iteration)), 'seconds_per_matrix_product':
                      dict(zip(PRECISIONS, product))})
    print(f'all figures: {path}')


if __name__ == '__main__':
    run_command(main)
