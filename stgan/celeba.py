"""CelebA-like folders: checked attribute list -> splits -> image files. No TensorFlow.

    DATAROOT/list_attr_celeba.txt            count, attribute names, then `file v1 v2 ...`, -1 or 1
    DATAROOT/list_eval_partition.txt         optional: `file 0|1|2`
    DATAROOT/img_align_celeba[_png]/         178x218 aligned images
    DATAROOT/img_crop_celeba[_png]/          square images, with use_cropped_img
"""

import os

import numpy as np

import imlib
from pylib import UserError

PARTS = ('train', 'val', 'test')
CELEBA_IMAGES = 202599
ALIGNED_SIZE = (178, 218)


def read_attribute_list(path, atts=None):
    """Read a `list_attr_celeba.txt`.

    Args:
        atts: names of the attributes to return; None: all of the header.

    Returns:
        (attribute names as tuple, file names as list, {0,1} labels int64 [N,n_att]).

    Raises:
        UserError: names the line at fault.
    """
    lines = _read_lines(path)
    if len(lines) < 3:
        raise UserError(f'{path}: expected a count, a line of attribute names and a line per image')
    header = lines[1].split()
    atts = tuple(header) if atts is None else tuple(atts)
    unknown = [name for name in atts if name not in header]
    if unknown:
        raise UserError(f'{path}:2: no attribute {", ".join(unknown)}; choose --atts from: '
                        f'{" ".join(header)}')
    columns = [header.index(name) + 1 for name in atts]
    values = {'1': 1, '-1': 0}
    names, labels = [], []
    for number, line in enumerate(lines[2:], 3):
        fields = line.split()
        if len(fields) != len(header) + 1:
            raise UserError(f'{path}:{number}: expected {len(header) + 1} fields, found '
                            f'{len(fields)}')
        try:
            labels.append([values[fields[column]] for column in columns])
        except KeyError as error:
            raise UserError(f'{path}:{number}: expected values 1 or -1, found {error}') from None
        names.append(_checked_name(fields[0], path, number))
    if lines[0].strip() != str(len(names)):
        raise UserError(f'{path}:1: says {lines[0].strip()[:20]!r} images, but {len(names)} lines '
                        'follow; is the file complete?')
    return atts, names, np.array(labels, np.int64)


def _read_lines(path):
    try:
        with open(path, encoding='utf-8') as stream:
            return stream.read().rstrip().split('\n')
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}; is --dataroot right?') from None
    except UnicodeDecodeError:
        raise UserError(f'{path}: not a text file') from None


def _checked_name(name, path, number):
    """Return an image's file name if it stays within the image folder."""
    if os.path.isabs(name) or '..' in name.split('/'):
        raise UserError(f'{path}:{number}: {name}: expected a file name within the image folder')
    return name


def read_partition(path, names):
    """Return the part (0 train, 1 val, 2 test) of each named image: int64 [N]."""
    parts = {}
    for number, line in enumerate(_read_lines(path), 1):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in ('0', '1', '2'):
            raise UserError(f'{path}:{number}: expected `file 0|1|2`, found {line.strip()[:40]!r}')
        parts[fields[0]] = int(fields[1])
    missing = [name for name in names if name not in parts]
    if missing:
        raise UserError(f'{path}: {len(missing)} images of the attribute list are missing '
                        f'({missing[0]}, ...)')
    return np.array([parts[name] for name in names], np.int64)


def split_parts(split, names, partition_path):
    """Return (description, part of each image int64 [N]) for a value of --split.

    'position' is the published split: 182000 for training, 637 for samples, the rest for tests.
    """
    count = len(names)
    if split == 'auto':
        if count == CELEBA_IMAGES:
            split = 'position'
        else:
            split = 'partition' if os.path.exists(partition_path) else '0.9,0.02,0.08'
    if split == 'position':
        bounds = [182000, 182637]
        return 'by position as published', np.searchsorted(bounds, np.arange(count), 'right')
    if split == 'partition':
        return os.path.basename(partition_path), read_partition(partition_path, names)
    try:
        ratios = [float(ratio) for ratio in split.split(',')]
    except ValueError:
        ratios = []
    if len(ratios) != len(PARTS) or min(ratios) < 0 or not abs(sum(ratios) - 1) < 1e-6:
        raise UserError(f'--split {split}: expected auto, position, partition or three ratios that '
                        'add up to 1, such as 0.8,0.1,0.1')
    bounds = np.round(np.cumsum(ratios[:2]) * count)
    return f'ratios {split}', np.searchsorted(bounds, np.arange(count), 'right')


class CelebA:
    """A checked attribute list and where its images are.

    Attributes:
        atts: attribute names; names: file names; labels: {0,1} int64 [N,n_att].
        split: how the images are divided, in words.
        crop: whether images are cropped (the aligned ones) or taken whole.
    """

    def __init__(self, dataroot, atts=None, split='auto', use_cropped_img=False):
        if not os.path.isdir(dataroot):
            raise UserError(f'--dataroot {dataroot}: no such folder')
        self.crop = not use_cropped_img
        self.folder = _image_folder(dataroot, self.crop)
        list_path = os.path.join(dataroot, 'list_attr_celeba.txt')
        self.atts, self.names, self.labels = read_attribute_list(list_path, atts)
        self.split, self._parts = split_parts(
            split, self.names, os.path.join(dataroot, 'list_eval_partition.txt'))

    def __len__(self):
        return len(self.names)

    def part(self, name):
        """Indices (0-based list positions) of 'train', 'val' or 'test': int64 [n]."""
        return np.flatnonzero(self._parts == PARTS.index(name))

    def paths(self, indices):
        """Return the image files of some list positions after a check that they exist.

        Raises:
            UserError: images are missing, or are not CelebA's aligned size where that is expected.
        """
        paths, there = self.find(indices)
        missing = [os.path.relpath(path, self.folder) for path, is_there in zip(paths, there)
                   if not is_there]
        if missing:
            raise UserError(f'{self.folder}: {len(missing)} of {len(paths)} images are missing '
                            f'({", ".join(missing[:3])}{", ..." if len(missing) > 3 else ""})')
        if self.crop and paths:
            _check_aligned(paths[0])
        return paths

    def find(self, indices):
        """Return (image files of some list positions, whether each exists)."""
        names = [self.names[i] for i in indices]
        if self.folder.endswith('_png'):
            names = [os.path.splitext(name)[0] + '.png' for name in names]
        paths = [os.path.join(self.folder, name) for name in names]
        # One directory listing instead of 200,000 queries; names in subfolders are rare.
        present = set(os.listdir(self.folder))
        return paths, [name in present or ('/' in name and os.path.exists(path))
                       for name, path in zip(names, paths)]


def _image_folder(dataroot, crop):
    """The PNG folder if there is one, as published, else the JPEG folder."""
    name = 'img_align_celeba' if crop else 'img_crop_celeba'
    for folder in (name + '_png', name):
        path = os.path.join(dataroot, folder)
        if os.path.isdir(path):
            return path
    raise UserError(f'{os.path.join(dataroot, name)}: no such folder'
                    + ('; for square images see --use_cropped_img' if crop else ''))


def _check_aligned(path):
    try:
        size = imlib.size(path)
    except UserError:
        return  # A broken image is dealt with when it is decoded.
    if size != ALIGNED_SIZE:
        raise UserError(f'{path}: {size[0]}x{size[1]} pixels, expected CelebA\'s aligned 178x218; '
                        'for other images put square ones into img_crop_celeba and take '
                        '--use_cropped_img')


def crop_box(img_size):
    """(row, column, height, width) of the published crop of a 178x218 image."""
    return (40, 15, 148, 148) if img_size == 64 else (26, 3, 170, 170)
