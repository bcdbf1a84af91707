"""Draw the pictures of a trained toy model: sheets, an attribute from weak to strong, its curve.

Examples:
    python scripts/toy/pictures.py --output_dir output/pictures
    python scripts/toy/pictures.py --experiment_name models/toy \\
        --sheets output/demo_model/sample_testing --output_dir output/pictures
"""

import os

import numpy as np

if not __package__:
    import _checkout

import imlib
from pylib import ArgumentParser, UserError, atomic_path, read_json_lines, run_command
from stgan import sheets
from stgan.config import METRICS, experiment_folder, load_config

SLIDE_STEPS = 9    # from -2 to 2 by halves


def draw_sheets(folder, path, rows=6, names=None):
    """Draw sheets below each other, with the names of the columns above them.

    Args:
        folder: a `sheets.SheetFolder`; names: of the sheets; default: `rows` at equal distances.
    """
    names = names or list(folder.labels)[::max(1, len(folder.labels) // rows)][:rows]
    columns = ['source', 'reconstruction', *(column.attributes[0] for column in folder.columns[1:])]
    read = [folder.read(name) for name in names]
    draw_grid(path, np.array([[source, *results] for source, results in read]), columns)


def draw_slide(editor, folder, path, rows):
    """Draw edits of one attribute a row, each of another face, at intensities from -2 to 2.

    Args:
        editor: a `stgan.editing.Editor`; folder: the `sheets.SheetFolder` that has the faces.
        rows: [(sheet name, attribute)].
    """
    config, images = editor.config, []
    intensities = np.linspace(-2, 2, SLIDE_STEPS)
    for name, att in rows:
        source = imlib.to_float(folder.read(name)[0])
        # Difference labels: what is edited is the target less the source.
        own = np.zeros(config.n_att)
        targets = np.zeros([SLIDE_STEPS, config.n_att])
        targets[:, config.atts.index(att)] = 2 * config.thres_int * intensities
        edits = editor.edit(source, targets, own)
        images.append([imlib.to_uint8(edit) for edit in edits])
    draw_grid(path, np.array(images), [f'{value:+.1f}' if value else '0' for value in intensities],
              [att for _, att in rows], slope=0)


def face_without(folder, att, number):
    """Name of sheet `number` of those whose face lacks an attribute."""
    column = folder.atts.index(att)
    names = [name for name, label in folder.labels.items() if label and not label[1][column]]
    return (names or list(folder.labels))[number % len(names or folder.labels)]


def draw_grid(path, images, columns, rows=None, slope=35):
    """Draw uint8 images [R,C,S,S,3], crisp, under the names of their columns.

    Args:
        rows: names beside the rows; slope: of the column names, in degrees.
    """
    from matplotlib.figure import Figure

    count, across, size = images.shape[:3]
    gap = max(1, size // 32)
    canvas = np.full([count * (size + gap) - gap, across * (size + gap) - gap, 3], 255, np.uint8)
    for row, line in enumerate(images):
        for column, image in enumerate(line):
            top, left = row * (size + gap), column * (size + gap)
            canvas[top:top + size, left:left + size] = image
    figure = Figure(figsize=(canvas.shape[1] / 72, canvas.shape[0] / 72))
    axes = figure.add_axes([0, 0, 1, 1])
    axes.imshow(canvas, interpolation='lanczos')
    axes.xaxis.tick_top()
    axes.set_xticks([size / 2 + index * (size + gap) for index in range(across)])
    turned = {'rotation': slope, 'ha': 'left', 'rotation_mode': 'anchor'} if slope else {}
    axes.set_xticklabels(columns, fontsize=12, **turned)
    axes.set_yticks([size / 2 + index * (size + gap) for index in range(count if rows else 0)])
    axes.set_yticklabels(rows or [], fontsize=12)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, bbox_inches='tight', pad_inches=.08)


def draw_curve(log, path):
    """Draw the losses of a training over its iterations.

    Args:
        log: records of metrics.jsonl.
    """
    from matplotlib.figure import Figure

    iterations = [record['iteration'] for record in log]
    figure = Figure(figsize=(9, 3), constrained_layout=True)
    panels = (('g_loss_rec', 'reconstruction, mean |difference|'),
              ('g_loss_att', 'attributes of edits, cross entropy'),
              ('d_loss_gan', 'adversarial loss of D'))
    for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels):
        values = [record[name] for record in log]
        axes.plot(iterations, values, linewidth=1.2)
        if name != 'd_loss_gan':
            axes.set_yscale('log')
        for before, after in zip(log, log[1:]):
            if after['lr'] != before['lr']:
                axes.axvline(after['iteration'], color='0.6', linestyle=':', linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel('iteration', fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=.25)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--experiment_name', default='models/toy',
                        help='the model, whose test sheets exist (default: %(default)s)')
    parser.add_argument('--sheets', metavar='DIR',
                        help='folder of its test sheets; default: sample_testing in the experiment')
    parser.add_argument('--output_dir', required=True, metavar='DIR', help='folder of the pictures')
    parser.add_argument('--slide', nargs='+', metavar='ATTRIBUTE',
                        default=['Eyeglasses', 'Pale_Skin', 'Blond_Hair', 'Young'],
                        help='attributes to draw from weak to strong (default: %(default)s)')
    args = parser.parse_args()
    experiment = experiment_folder(args.experiment_name)
    config, _ = load_config(experiment)
    for att in args.slide:
        if att not in config.atts:
            raise UserError(f'--slide {att}: the model edits {" ".join(config.atts)}')
    if config.label != 'diff':
        raise UserError(f'{experiment}: trained with target labels, expected difference labels')
    folder = sheets.open_folder(args.sheets or os.path.join(experiment, 'sample_testing'))
    from stgan.editing import Editor

    os.makedirs(args.output_dir, exist_ok=True)
    draw_sheets(folder, os.path.join(args.output_dir, 'sheets.png'))
    with Editor(experiment, 'cpu') as editor:
        draw_slide(editor, folder, os.path.join(args.output_dir, 'slide.png'),
                   [(face_without(folder, att, row), att) for row, att in enumerate(args.slide)])
    log = list(read_json_lines(os.path.join(experiment, METRICS)))
    if log:
        draw_curve(log, os.path.join(args.output_dir, 'curve.png'))
    print(f'wrote pictures to {args.output_dir}')


if __name__ == '__main__':
    run_command(main)
