"""The whole job on toy data: draw faces, train STGAN and the classifier, edit, measure.

Runs the commands of the README one after another, then prints a table and draws a picture.
Repeating it resumes.

Examples:
    make demo
    python scripts/demo.py
"""

import os
import shlex
import sys
import time

import numpy as np

if not __package__:
    import _checkout

import imlib
from pylib import (
    ArgumentParser,
    RunFailed,
    atomic_path,
    child,
    read_json,
    read_json_lines,
    run_command,
)
from scripts._checkout import ROOT
from stgan import sheets

DATA, NAME = os.path.join('data', 'toy'), 'demo'
EXPERIMENT, CLASSIFIER = os.path.join('output', NAME), os.path.join('output', NAME + '_classifier')
SHEETS = os.path.join(EXPERIMENT, 'sample_testing')
PICTURE = os.path.join(EXPERIMENT, 'demo.png')

# Published is 200 epochs of 947 iterations. A short run wants a higher learning rate, less weight
# on reconstruction and batch norm averages over fewer updates.
TRAINING = ('--img_size 64 --enc_dim 16 --dec_dim 16 --stu_dim 16 --dis_dim 16 --dis_fc_dim 128 '
            '--batch_size 8 --n_d 3 --epoch 10 --init_epoch 8 --lr 0.002 --rec_loss_weight 20 '
            '--bn_decay 0.99 --n_sample 8 --test_int 2')


def data_command(folder):
    """The command that draws the toy data set."""
    return f'scripts/toy/make_toy_celeba.py {shlex.quote(folder)}'


def classifier_command(dataroot, folder):
    """The command that trains the attribute classifier on toy data."""
    return (f'att_classification/train.py --dataroot {shlex.quote(dataroot)} --img_size 64 '
            f'--epoch 5 --batch_size 32 --lr 0.001 --output_dir {shlex.quote(folder)}')


COMMANDS = (
    data_command(DATA),
    f'train.py --experiment_name {NAME} --dataroot {DATA} {TRAINING}',
    classifier_command(DATA, CLASSIFIER),
    f'test.py --experiment_name {NAME} --test_int 2',
    f'psnr_ssim.py --experiment_name {NAME}',
    f'att_classification/test.py --img_dir {SHEETS} --checkpoint {CLASSIFIER}/checkpoints',
)


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


def milliseconds_per_edit():
    """Median time of one edit: an image encoded once and decoded into the columns of a sheet."""
    from stgan.editing import Editor

    with Editor(EXPERIMENT) as editor:
        config, random, seconds = editor.config, np.random.RandomState(0), []
        image = random.uniform(-1, 1, [config.img_size, config.img_size, 3])
        targets = random.uniform(-1, 1, [1 + config.n_att, config.n_att])
        for _ in range(20):
            began = time.time()
            editor.edit(image, targets)
            seconds.append(time.time() - began)
    # The first runs warm up.
    return 1000 * np.median(seconds[5:]) / len(targets)


def print_summary(minutes):
    """Print one table of what came out."""
    from rich.console import Console
    from rich.table import Table

    quality = read_json(os.path.join(EXPERIMENT, 'psnr_ssim.json'))
    accuracy = read_json(os.path.join(EXPERIMENT, 'attribute_accuracy.json'))
    log = read_json_lines(os.path.join(EXPERIMENT, 'metrics.jsonl'))
    iteration = 1000 * np.median([record['seconds'] for record in log])
    table = Table('', 'value', title='demo: toy data, 64x64, dims 16')
    for name, value in (
            ('reconstruction PSNR in dB', f'{quality["psnr"]:.2f}'),
            ('reconstruction SSIM', f'{quality["ssim"]:.3f}'),
            ('attribute accuracy, mean', f'{accuracy["mean_accuracy"]:.1%}'),
            *((f'  {att}', f'{value:.1%}') for att, value in accuracy['accuracy'].items()),
            ('error of other attributes, mean', f'{accuracy["mean_error"]:.1%}'),
            ('test images', quality['images']),
            ('training iterations', log[-1]['iteration']),
            ('ms per training iteration', f'{iteration:.0f}'),
            ('ms per edit', f'{milliseconds_per_edit():.1f}'),
            ('minutes', f'{minutes:.1f}')):
        table.add_row(name, str(value))
    Console().print(table)


def draw_picture(path, rows=6):
    """Draw some sheets below each other, with the names of the columns above them."""
    from matplotlib.figure import Figure

    folder = sheets.open_folder(SHEETS)
    names = list(folder.labels)[::max(1, len(folder.labels) // rows)][:rows]
    size = folder.img_size
    images = np.concatenate([imlib.read(os.path.join(SHEETS, name)) for name in names])
    titles = ['source', 'reconstruction', *(column.attributes[0] for column in folder.columns[1:])]
    first = size + sheets.gap_width(size)
    centres = [size / 2, *(first + size * (i + .5) for i in range(len(folder.columns)))]
    figure = Figure(figsize=(images.shape[1] / 80, images.shape[0] / 80))
    axes = figure.add_axes([0, 0, 1, 1])
    axes.imshow(images, interpolation='bicubic')
    axes.xaxis.tick_top()
    axes.set_xticks(centres)
    axes.set_xticklabels(titles, rotation=35, ha='left', rotation_mode='anchor')
    axes.set_yticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, bbox_inches='tight', pad_inches=.05)


def main():
    ArgumentParser(description=__doc__).parse_args()
    os.chdir(ROOT)
    began = time.time()
    run_all(COMMANDS)
    draw_picture(PICTURE)
    print_summary((time.time() - began) / 60)
    print(f'sources, reconstructions and edits: {os.path.join(ROOT, PICTURE)}')


if __name__ == '__main__':
    run_command(main)
