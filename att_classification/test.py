"""Attribute accuracy of an experiment's test sheets, measured by the classifier.

Example: `cd att_classification && python test.py --img_dir ../output/128/sample_testing`.
"""

import os

if not __package__:
    import _checkout

from pylib import ArgumentParser, run_command
from stgan.config import DEVICES
from stgan.sheets import open_folder

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--img_dir', required=True, help='folder of sheets that test.py wrote')
    add('--checkpoint', default=os.path.join(HERE, 'checkpoints'),
        help='the classifier: a checkpoint, or a folder whose newest one is taken')
    add('--dataroot', help='data folder of the labels, for sheets without labels.csv')
    add('--atts', nargs='+', metavar='NAME', help='default: all attributes of the sheets')
    add('--allow_incomplete', action='store_true',
        help='measure although sheets of labels.csv are missing')
    add('--gpu', default='all', help='GPUs to use, as in CUDA_VISIBLE_DEVICES')
    add('--device', choices=DEVICES, default='auto', help='where to run')
    add('--threads', type=int, default=-1, help='CPU threads; -1: one per core')
    args = parser.parse_args()
    folder = open_folder(args.img_dir, allow_incomplete=args.allow_incomplete)

    from att_classification import evaluation
    from tflib.utils import select_gpus
    select_gpus(args.gpu)
    classifier = evaluation.Classifier(args.checkpoint, args.device, args.threads)
    result = evaluation.evaluate(folder, classifier, args.atts, args.dataroot)
    evaluation.print_result(result)
    report_folder = os.path.dirname(os.path.abspath(args.img_dir))
    evaluation.write_result(report_folder, result)
    print(f'wrote {os.path.join(report_folder, "attribute_accuracy")}.json, .png')


if __name__ == '__main__':
    run_command(main)
