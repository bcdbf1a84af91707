"""The options of the attribute classifier's commands, declared once."""

import dataclasses
import os
from typing import Tuple

from pylib import UserError
from stgan.config import (
    check_values,
    cropped_option,
    dataroot_option,
    device_option,
    distribute_option,
    gpu_option,
    max_bad_images_option,
    on_nan_option,
    option,
    split_option,
    threads_option,
    time_limit_option,
)

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = range(32, 4097, 32)    # of the images: there are five poolings


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The options of att_classification/train.py; the defaults are the published ones."""

    dataroot: str = dataroot_option('', section='data', required=True)
    atts: Tuple[str, ...] = option((), 'attributes to learn; default: all of the list',
                                   metavar='NAME')
    use_cropped_img: bool = cropped_option()
    split: str = split_option()
    max_bad_images: float = max_bad_images_option()
    img_size: int = option(128, 'image height and width, a multiple of 32', minimum=SIZES[0],
                           maximum=SIZES[-1])

    output_dir: str = option(HERE, 'folder of checkpoints/ and logs; default: that of train.py',
                             section='training')
    epoch: int = option(25, 'epochs', minimum=1)
    batch_size: int = option(64, 'images per update', minimum=1)
    lr: float = option(2e-4, 'learning rate of the first 8 epochs, falling then', above=0)
    seed: int = option(0, 'of initial weights and data order', minimum=0)
    time_limit: float = time_limit_option()
    on_nan: str = on_nan_option()
    clear: bool = option(False, 'start over, removing earlier training')

    gpu: str = gpu_option(section='device')
    device: str = device_option()
    threads: int = threads_option()

    def check(self):
        """Return self if every value is legal, else raise a UserError that names the flag."""
        check_values(self)
        if self.img_size not in SIZES:
            raise UserError(f'--img_size {self.img_size}: expected a multiple of 32 (five '
                            'poolings)')
        _check_different(self.atts)
        return self


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The options of att_classification/test.py."""

    img_dir: str = option('', 'folder of sheets that ../test.py wrote', section='what to measure',
                          required=True)
    checkpoint: str = option(os.path.join(HERE, 'checkpoints'), 'the classifier: a checkpoint, or '
                             'a folder, whose newest one is taken; default: checkpoints/ beside '
                             'test.py', metavar='PATH')
    dataroot: str = dataroot_option('', help='data folder of the labels, for sheets without '
                                    'labels.csv')
    atts: Tuple[str, ...] = option((), 'measure edits of these attributes; default: all of the '
                                   'sheets', metavar='NAME')
    allow_lossy: bool = option(False, 'measure JPEG sheets too')
    allow_incomplete: bool = option(False, 'measure although sheets of labels.csv are missing')
    output_dir: str = option('', "folder of the report; default: the one that holds the sheets' "
                             'folder', metavar='DIR')

    gpu: str = gpu_option(section='device')
    device: str = device_option()
    threads: int = threads_option()
    distribute: str = distribute_option()

    def check(self):
        """Return self if every value is legal, else raise a UserError that names the flag."""
        check_values(self)
        _check_different(self.atts)
        return self


def _check_different(atts):
    for position, name in enumerate(atts):
        if name in atts[:position]:
            raise UserError(f'--atts: {name} is named twice')
