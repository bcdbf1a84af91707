"""Write test images and labels as raw files, the input of an exported network.

Image k (0-based, in the order of the test) and variant i (0: reconstruction, i: attribute i-1
inverted) become three files of the same name, float32 in C order, as msame reads them:

    DIR/input1/<k>_<i>.bin    image [S,S,3] in [-1,1]
    DIR/input2/<k>_<i>.bin    signed target label [n_att]
    DIR/input3/<k>_<i>.bin    signed source label [n_att]

DIR/bins.json tells what they show; bin2img.py turns the results into sheets.

Examples:
    python scripts/ascend/img2bin.py --experiment_name 128 \\
        --output_dir output/128/bins
"""

import os
import shutil
from collections import OrderedDict

import numpy as np

if not __package__:
    import _checkout

from pylib import ArgumentParser, RunFailed, UserError, progress, run_command, write_json
from stgan import attributes, sheets
from stgan.config import CHECKPOINTS, EXPERIMENT, TestConfig, load_config
from stgan.pb import INPUTS

DESCRIPTION = 'bins.json'
BATCH_SIZE = 16  # images decoded at once


def base_name(image, variant):
    """Name, without extension, of the files of one edit of one image, both 0-based."""
    return f'{image}_{variant}'


def check_folder(folder, images, variants):
    """Raise a UserError if `folder` holds files that msame would take for more input."""
    expected = {base_name(k, i) + '.bin' for k in range(images) for i in range(variants)}
    for name in INPUTS:
        path = os.path.join(folder, name)
        others = sorted(set(os.listdir(path)) - expected) if os.path.isdir(path) else []
        if others:
            raise UserError(f'{path}: has other files than those of this test ({others[0]}), '
                            'which msame would run too; remove them or take another --output_dir')


def write_bin(path, values):
    """Write an array as raw float32 in C order, whatever its type is."""
    values = np.ascontiguousarray(values, np.float32)
    values.tofile(path)
    if os.path.getsize(path) != values.nbytes:
        raise RunFailed(f'{path}: {os.path.getsize(path)} bytes written, expected {values.nbytes}')


def copy_bin(source, path):
    """Give a written file another name, where possible without taking its space again."""
    if os.path.exists(path):
        os.unlink(path)
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)
    if os.path.getsize(path) != os.path.getsize(source):
        raise RunFailed(f'{path}: {os.path.getsize(path)} bytes written, expected '
                        f'{os.path.getsize(source)}')


def write_image(folder, number, image, targets, source):
    """Write the bins of one image.

    Args:
        number: k; image: [S,S,3]; targets: signed labels [E,n_att]; source: signed label [n_att].
    """
    images, target_labels, source_labels = (os.path.join(folder, name) for name in INPUTS)
    for variant, target in enumerate(targets):
        name = base_name(number, variant) + '.bin'
        if variant:
            # The same image for each edit: 19,962 of CelebA would take 55 GB instead of 4.
            copy_bin(os.path.join(images, base_name(number, 0) + '.bin'),
                     os.path.join(images, name))
        else:
            write_bin(os.path.join(images, name), image)
        write_bin(os.path.join(target_labels, name), target)
        write_bin(os.path.join(source_labels, name), source)


def describe(options, config, checkpoint_path, chosen, entries):
    """Return what bins.json says.

    Args:
        chosen: of what the images are, see `testing.choice`.
        entries: list of (sheet file name, image file name, {0,1} label [n_att]).
    """
    from tflib import checkpoint

    return OrderedDict(
        experiment=config.experiment_name, img_size=config.img_size, attributes=list(config.atts),
        test_int=options.test_int, thres_int=config.thres_int,
        checkpoint=os.path.basename(checkpoint_path),
        weights=checkpoint.fingerprint(checkpoint_path), chosen=chosen,
        images=[OrderedDict(sheet=sheet, image=image, labels=label.tolist())
                for sheet, image, label in entries])


def write_bins(options, config, folder):
    """Write the bins of the readable test images, and last the file that declares them complete."""
    from stgan import data, testing
    from tflib import checkpoint

    plan = sheets.single_plan(config, options.test_int)
    checkpoint_path = checkpoint.require_latest(os.path.join(options.folder, CHECKPOINTS))
    celeba, indices = testing.selected_images(config, options)
    paths, labels = celeba.paths(indices), celeba.labels[indices]
    check_folder(folder, len(indices), len(plan.columns))
    sources, targets = attributes.signed(labels, config.thres_int), plan.targets(labels)
    batches = data.load_images(paths, config.img_size, celeba.crop, BATCH_SIZE)
    entries = []
    for positions, images in progress(batches, total=-(-len(paths) // BATCH_SIZE), unit='batch'):
        if not entries:
            # Only now: nothing is written before the first images were good.
            for name in INPUTS:
                os.makedirs(os.path.join(folder, name), exist_ok=True)
            if os.path.exists(os.path.join(folder, DESCRIPTION)):
                os.unlink(os.path.join(folder, DESCRIPTION))
        for position, image in zip(positions, images):
            write_image(folder, len(entries), image, targets[position], sources[position])
            index = indices[position]
            entries.append((f'{index + 1:06d}{plan.suffix}.png', celeba.names[index],
                            labels[position]))
    if not entries:
        raise UserError(f'{paths[0]}: unusable image, as are all others of this test')
    write_json(os.path.join(folder, DESCRIPTION),
               describe(options, config, checkpoint_path, testing.choice(celeba, indices), entries))
    print(f'wrote {folder}: {len(entries)} images, {len(plan.columns)} variants each')


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--experiment_name', required=True, help=EXPERIMENT)
    add('--output_dir', required=True, metavar='DIR', help='folder to write')
    add('--dataroot', default='', metavar='DIR',
        help='data folder; default: the one the experiment was trained with')
    add('--use_cropped_img', action='store_true',
        help='take img_crop_celeba[_png]; default: as the experiment did')
    add('--img', type=int, nargs='+', default=[], metavar='N',
        help='1-based list positions of the images; default: the test split')
    add('--test_int', type=float, default=2.,
        help='intensity of the edits, in multiples of thres_int')
    args = parser.parse_args()
    options = TestConfig(experiment_name=args.experiment_name, dataroot=args.dataroot,
                         use_cropped_img=args.use_cropped_img, img=tuple(args.img),
                         test_int=args.test_int).check()
    config, _ = load_config(options.folder)
    write_bins(options, config, args.output_dir)


if __name__ == '__main__':
    run_command(main)
