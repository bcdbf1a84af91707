"""Train the attribute classifier from a CelebA folder. Repeating the command resumes.

Example: `cd att_classification && python train.py --dataroot /data/CelebA`.
"""

import os

if not __package__:
    import _checkout

from pylib import ArgumentParser, run_command
from stgan.config import DEVICES, ON_NAN

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--dataroot', required=True, help='folder of list_attr_celeba.txt and the images')
    add('--output_dir', default=HERE, help='where checkpoints/ and logs go')
    add('--atts', nargs='+', metavar='NAME', help='default: all attributes of the list')
    add('--split', default='auto', help='as in ../train.py; train and val are trained on')
    add('--use_cropped_img', action='store_true', help='take img_crop_celeba[_png]')
    add('--img_size', type=int, default=128, help='image height and width')
    add('--epoch', type=int, default=25, help='epochs')
    add('--batch_size', type=int, default=64, help='images per update')
    add('--lr', type=float, default=2e-4, help='learning rate')
    add('--seed', type=int, default=0, help='of weights and data order')
    add('--gpu', default='all', help='GPUs to use, as in CUDA_VISIBLE_DEVICES')
    add('--device', choices=DEVICES, default='auto', help='where to run')
    add('--threads', type=int, default=-1, help='CPU threads; -1: one per core')
    add('--time_limit', type=float, default=0, metavar='MINUTES',
        help='stop then as on SIGTERM; 0: no limit')
    add('--on_nan', choices=ON_NAN, default='stop', help='as in ../train.py')
    add('--clear', action='store_true', help='start over, removing earlier training')
    args = parser.parse_args()
    for flag in ('epoch', 'batch_size', 'lr'):
        if not 0 < getattr(args, flag) < float('inf'):
            parser.error(f'--{flag} {getattr(args, flag)}: expected more than 0')
    if not 0 <= args.time_limit < float('inf'):
        parser.error(f'--time_limit {args.time_limit}: expected 0 or more')
    if not 0 <= args.seed < 2 ** 31:
        parser.error(f'--seed {args.seed}: expected 0 to {2 ** 31 - 1}')

    from att_classification.training import train
    from tflib.utils import select_gpus
    select_gpus(args.gpu)
    train(args.dataroot, args.output_dir, args.atts, args.split, args.use_cropped_img,
          args.img_size, args.epoch, args.batch_size, args.lr, args.seed, args.device,
          args.threads, args.clear, args.time_limit, args.on_nan)


if __name__ == '__main__':
    run_command(main)
