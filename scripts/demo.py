"""The whole job on toy data, with the trained model in the box: edit, measure, train on.

Runs the commands of the README one after another: draws faces, edits and measures those that no
model has seen, trains the model on for a hundred iterations and measures again. Ends with a table
and a picture. Repeating it goes on where it was.

--scratch trains a model from nothing instead, for minutes; the one in the box took hours.

Examples:
    make demo
    make demo-scratch
    python scripts/demo.py --scratch
"""

import os
import shlex
import sys
import time

import numpy as np

if not __package__:
    import _checkout

from pylib import (
    ArgumentParser,
    RunFailed,
    child,
    read_json,
    read_json_lines,
    run_command,
)
from scripts._checkout import ROOT
from scripts.toy import pictures
from stgan import sheets
from stgan.config import METRICS

MODEL, CLASSIFIER = os.path.join('models', 'toy'), os.path.join('models', 'toy_classifier')
FIGURES = os.path.join(MODEL, 'demo.json')    # what this prints of the model in the box
PSNR_SSIM, ACCURACY, SHEETS = 'psnr_ssim.json', 'attribute_accuracy.json', 'sample_testing'

# More than rounding differs by: one verdict on one of 2,600 edits, and some.
ALIKE = {'psnr': .02, 'ssim': .001, 'accuracy': .002, 'error': .001}

DIMS = '--img_size 64 --enc_dim 16 --dec_dim 16 --stu_dim 16 --dis_dim 16'
# From the model, which has no discriminator: a hundred iterations at a rate that does no harm while
# a new one learns.
TRAIN_ON = (f'{DIMS} --dis_fc_dim 256 --batch_size 16 --n_d 1 --epoch 2 --lr 1e-5 --bn_decay 0.99 '
            f'--n_sample 6 --test_int 2 --init_checkpoint {MODEL}')
# Published is 200 epochs of 947 iterations. A short run wants a higher learning rate, less weight
# on reconstruction and batch norm averages over fewer updates.
FROM_NOTHING = (f'{DIMS} --dis_fc_dim 128 --batch_size 8 --n_d 1 --epoch 10 --init_epoch 8 '
                '--lr 0.001 --rec_loss_weight 50 --bn_decay 0.99 --n_sample 6 --test_int 2')


def data_command(folder, images=2000):
    """The command that draws the toy data set."""
    return f'scripts/toy/make_toy_celeba.py {shlex.quote(folder)} --images {images}'


def measure_commands(experiment, folder, dataroot):
    """The commands that edit the test images with an experiment and measure, into a folder."""
    edited = os.path.join(folder, SHEETS)
    return (f'test.py --experiment_name {experiment} --dataroot {dataroot} --test_int 2 '
            f'--output_dir {edited}',
            f'psnr_ssim.py --img_dir {edited}',
            f'att_classification/test.py --img_dir {edited} --checkpoint {CLASSIFIER}/checkpoints')


def run_all(commands):
    """Run commands of this checkout, each in a process of its own, and say so.

    Raises:
        RunFailed: one failed. Interrupted: by a signal, after the command has ended.
    """
    for command in commands:
        print(f'\n$ python {command}', flush=True)
        script, *flags = shlex.split(command)
        with child([sys.executable, os.path.join(ROOT, script), *flags]) as process:
            pass
        if process.returncode:
            raise RunFailed(f'`python {command}` ended with status {process.returncode}')


def figures(folder):
    """What the reports in a folder say, {name: fraction or dB}, and {attribute: accuracy}."""
    quality = read_json(os.path.join(folder, PSNR_SSIM))
    accuracy = read_json(os.path.join(folder, ACCURACY))
    return {'images': quality['images'], 'psnr': quality['psnr'], 'ssim': quality['ssim'],
            'accuracy': accuracy['mean_accuracy'], 'error': accuracy['mean_error'],
            'attributes': accuracy['accuracy']}


def unlike(measured, documented):
    """Names of the figures that are further from the documented ones than rounding goes."""
    return [name for name, tolerance in ALIKE.items()
            if abs(measured[name] - documented[name]) > tolerance]


def milliseconds_per_edit(experiment):
    """Median time of one edit: an image encoded once and decoded into the columns of a sheet."""
    from stgan.editing import Editor

    with Editor(experiment) as editor:
        config, random, seconds = editor.config, np.random.RandomState(0), []
        image = random.uniform(-1, 1, [config.img_size, config.img_size, 3])
        targets = random.uniform(-1, 1, [1 + config.n_att, config.n_att])
        for _ in range(20):
            began = time.time()
            editor.edit(image, targets)
            seconds.append(time.time() - began)
    # The first runs warm up.
    return 1000 * np.median(seconds[5:]) / len(targets)


def print_table(columns, experiment, minutes):
    """Print one table of what came out.

    Args:
        columns: {title: figures}; experiment: folder of the one that was trained.
    """
    from rich.console import Console
    from rich.table import Table

    log = read_json_lines(os.path.join(experiment, METRICS))
    table = Table('', *columns, title='toy faces, 64x64, intensity 2')
    several = list(columns.values())

    def row(title, cells):
        table.add_row(title, *cells)

    row('test images', [str(each['images']) for each in several])
    row('reconstruction PSNR in dB', [f'{each["psnr"]:.2f}' for each in several])
    row('reconstruction SSIM', [f'{each["ssim"]:.3f}' for each in several])
    row('attribute accuracy, mean', [f'{each["accuracy"]:.1%}' for each in several])
    for att in several[0]['attributes']:
        row(f'  {att}', [f'{each["attributes"][att]:.1%}' for each in several])
    row('other attributes changed, mean', [f'{each["error"]:.1%}' for each in several])
    Console().print(table)
    iteration = 1000 * np.median([record['seconds'] for record in log])
    print(f'{log[-1]["iteration"]} training iterations, {iteration:.0f} ms each; '
          f'{milliseconds_per_edit(experiment):.1f} ms per edit; {minutes:.1f} minutes in all')


def edit_and_train_on(dataroot, folder):
    """Use the model in the box as it is, then train it on.

    Returns:
        {title: figures} of the documented model, of the same measured here, and after training;
        the folder of the sheets to show; the trained experiment.
    """
    trained = os.path.join('output', 'demo')
    run_all((data_command(dataroot), *measure_commands(MODEL, folder, dataroot),
             f'train.py --experiment_name demo --dataroot {dataroot} {TRAIN_ON}',
             *measure_commands('demo', trained, dataroot)))
    columns = {'documented': read_json(FIGURES), 'measured here': figures(folder),
               'trained on': figures(trained)}
    different = unlike(columns['measured here'], columns['documented'])
    print()
    print('WARNING: further from the documented figures than rounding goes: '
          + ', '.join(different) if different else
          'equal to the documented figures within rounding')
    return columns, os.path.join(folder, SHEETS), trained


def train_from_nothing(dataroot, folder):
    """Train a model for minutes; returns as `edit_and_train_on`."""
    print('Minutes of training teach reconstruction; edits only begin to show, under '
          'checkerboards.\nThe model in the box was trained for hours.')
    name = os.path.basename(folder)
    run_all((data_command(dataroot),
             f'train.py --experiment_name {name} --dataroot {dataroot} {FROM_NOTHING}',
             *measure_commands(name, folder, dataroot)))
    return {'model in the box': read_json(FIGURES), 'from nothing': figures(folder)}, (
        os.path.join(folder, SHEETS)), folder


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--scratch', action='store_true',
                        help='train a model from nothing, for minutes')
    args = parser.parse_args()
    os.chdir(ROOT)
    began = time.time()
    job, name = ((train_from_nothing, 'demo_scratch') if args.scratch else
                 (edit_and_train_on, 'demo_model'))
    columns, edited, trained = job(os.path.join('data', 'demo'), os.path.join('output', name))
    print_table(columns, trained, (time.time() - began) / 60)
    picture = os.path.join('output', f'{name}.png')
    pictures.draw_sheets(sheets.open_folder(edited), picture)
    print(f'sources, reconstructions and edits: {os.path.join(ROOT, picture)}')


if __name__ == '__main__':
    run_command(main)
