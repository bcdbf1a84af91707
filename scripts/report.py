"""A report on an experiment, finished or under way: one HTML file to read, print or send.

Settings, curves, samples over the training, and what test.py, psnr_ssim.py and
att_classification/test.py have measured so far, beside the published figures. With --classifier
it also measures how edits grow with their intensity.

Examples:
    python scripts/report.py --experiment_name 128
    python scripts/report.py --experiment_name 128 --compare 128_mixed attgan
    python scripts/report.py --experiment_name models/toy --dataroot data/toy \\
        --classifier models/toy_classifier --output_dir output/toy_report
"""

import os

if not __package__:
    import _checkout

from pylib import ArgumentParser, UserError, require_place, run_command
from stgan.config import EXPERIMENT, TestConfig, experiment_folder, load_config


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--experiment_name', required=True, help=EXPERIMENT)
    add('--compare', nargs='+', default=[], metavar='NAME', help='experiments to show beside it')
    add('--output_dir', default='', metavar='DIR',
        help='folder of report.html; default: the experiment\'s')
    add('--classifier', default='', metavar='PATH',
        help='checkpoint of a classifier, or a folder of some: measure intensity curves')
    add('--dataroot', default='', metavar='DIR',
        help='data folder for them; default: the one the experiment was trained with')
    add('--use_cropped_img', action='store_true',
        help='take the square images in img_crop_celeba[_png] there; default: as in training')
    add('--images', type=int, default=50, help='test images for them')
    add('--device', default='auto', choices=('auto', 'cpu', 'gpu'), help='where to measure them')
    args = parser.parse_args()
    if args.images < 1:
        parser.error(f'--images {args.images}: expected at least 1')
    if args.dataroot and not args.classifier:
        parser.error('--dataroot: only with --classifier')
    folders = [experiment_folder(name) for name in [args.experiment_name, *args.compare]]
    for folder in folders:
        load_config(folder)
    if len(set(map(os.path.abspath, folders))) < len(folders):
        raise UserError('--compare: names an experiment twice')
    place = args.output_dir or folders[0]
    require_place(place, '--output_dir')

    if args.classifier:
        from att_classification import intensities
        options = TestConfig(experiment_name=args.experiment_name, dataroot=args.dataroot,
                             use_cropped_img=args.use_cropped_img, device=args.device)
        intensities.measure(options, args.images, args.classifier, place)

    from stgan import html_report
    experiments = [html_report.read(folder) for folder in folders]
    if args.classifier:
        experiments[0] = html_report.with_curves(experiments[0], place)
    path = os.path.join(place, html_report.REPORT)
    html_report.write(path, experiments)
    print(f'wrote {path}')


if __name__ == '__main__':
    run_command(main)
