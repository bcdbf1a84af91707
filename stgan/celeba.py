"""CelebA-like folders: checked attribute list -> splits -> image files. No TensorFlow.

    DATAROOT/list_attr_celeba.txt            count, attribute names, then `file v1 v2 ...`, -1 or 1
    DATAROOT/list_eval_partition.txt         optional: `file 0|1|2`
    DATAROOT/img_align_celeba[_png]/         178x218 aligned images
    DATAROOT/img_crop_celeba[_png]/          square images, with use_cropped_img

Or as Kaggle has them: the lists as .csv without a count, the images in a folder of the same name
within img_align_celeba/.
"""

import codecs
import csv
import os
import re

import numpy as np

import imlib
from pylib import UserError, counted

PARTS = ('train', 'val', 'test')
CELEBA_IMAGES = 202599
ALIGNED_SIZE = (178, 218)
ATTRIBUTES, PARTITION = 'list_attr_celeba', 'list_eval_partition'
# A count as spreadsheets may write it.
_GROUPED = re.compile(r"\s*\d{1,3}([,.']\d{3})+\s*")
IMAGE_TYPES = ('.jpg', '.jpeg', '.png')


def read_attribute_list(path, atts=None):
    """Read a `list_attr_celeba.txt`, or Kaggle's .csv.

    Args:
        atts: names of the attributes to return; None: all of the header.

    Returns:
        (attribute names as tuple, file names as list, {0,1} labels int64 [N,n_att]).

    Raises:
        UserError: names the line at fault.
    """
    is_csv, rows = read_rows(path)
    count, (header_line, header) = None, next(rows)
    if not is_csv or len(header) == 1:
        if len(header) != 1 or not header[0].isdecimal():
            raise UserError(f'{path}:{header_line}: expected the number of images, found '
                            f'{_shown(" ".join(header))}; it goes before the attribute names')
        count_line, count = header_line, header[0]
        header_line, header = next((row for row in rows if row[1]), (2, []))
    header = header[1:] if is_csv else header    # without what is above the file names
    if not header:
        raise UserError(f'{path}: expected a count, a line of attribute names and a line per image')
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f'{path}:{header_line}: {", ".join(twice[:5])}: named twice')
    if not is_csv and len(header) > 1 and set(header[1:]) <= {'1', '-1'}:
        raise UserError(f'{path}:{header_line}: expected the attribute names, found the labels of '
                        f'{_shown(header[0])}')
    atts = tuple(header) if atts is None else tuple(atts)
    unknown = [name for name in atts if name not in header]
    if unknown:
        raise UserError(f'{path}:{header_line}: no attribute {", ".join(unknown)}; choose from: '
                        f'{" ".join(header)}')
    columns = [header.index(name) + 1 for name in atts]
    values = {'1': 1, '-1': 0}
    names, labels = [], []
    for number, fields in rows:
        if len(fields) != len(header) + 1:
            if not names and len(fields) <= len(header):
                raise UserError(f'{path}:{header_line}: {len(header)} attribute names, but '
                                f'{len(fields) - 1} values follow; names have no spaces')
            raise UserError(f'{path}:{number}: expected {len(header) + 1} fields, found '
                            f'{len(fields)}')
        try:
            labels.append([values[fields[column]] for column in columns])
        except KeyError as error:
            raise UserError(f'{path}:{number}: expected values 1 or -1, found {error}') from None
        names.append(_checked_name(fields[0], path, number))
    if count not in (None, str(len(names))):
        raise UserError(f'{path}:{count_line}: says {_shown(count)} images, but {len(names)} lines '
                        'follow; is the file complete?')
    if not names:
        raise UserError(f'{path}: expected a count, a line of attribute names and a line per image')
    return atts, names, np.array(labels, np.int64)


def read_rows(path, hint='is --dataroot right?'):
    """Return (whether it is comma-separated, iterator of (line number, fields)) of a list.

    There is at least one row. Blank lines at the start and at the end do not count. The text is in
    UTF-8, or in UTF-16 with a mark, as Windows' tools write it.

    Args:
        hint: what to look at if the file is missing.
    """
    try:
        with open(path, 'rb') as stream:
            marks = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
            encoding = 'utf-16' if stream.read(2) in marks else 'utf-8-sig'
        with open(path, encoding=encoding) as stream:
            text = stream.read()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}; {hint}') from None
    except UnicodeDecodeError:
        raise UserError(f'{path}: not a text file in UTF-8') from None
    lines = text.rstrip().split('\n')
    if '\0' in text:
        line = next(number for number, line in enumerate(lines, 1) if '\0' in line)
        raise UserError(f'{path}:{line}: zero bytes, which no text has; download it again')
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise UserError(f'{path}: empty; write or download it again')
    if lines[first].lstrip().startswith('<'):
        raise UserError(f'{path}:{first + 1}: a web page ({_shown(lines[first])}) instead of the '
                        'list; download the file itself')
    if _GROUPED.fullmatch(lines[first]):
        lines[first] = re.sub(r'\D', '', lines[first])
    # The first line may be a count. Excel separates by semicolons where commas are decimal points.
    start = ''.join([line for line in lines[first:first + 9] if line.strip()][:2])
    separator = ',' if ',' in start else ';' if ';' in start else None

    def rows():
        for number, line in enumerate(lines[first:], first + 1):
            try:
                fields = next(csv.reader([line], delimiter=separator), []) if separator else (
                    line.split())
            except csv.Error as error:
                raise UserError(f'{path}:{number}: {error}') from None
            yield number, [field.strip() for field in fields] if separator else fields
    return bool(separator), rows()


def _shown(text):
    """The start of a text, in quotes."""
    text = text.strip()
    return repr(text if len(text) <= 40 else text[:37] + '...')


def _checked_name(name, path, number):
    """Return an image's file name if it stays within the image folder."""
    if os.path.isabs(name) or '..' in name.split('/'):
        raise UserError(f'{path}:{number}: {name}: expected a file name within the image folder')
    return name


def read_partition(path, names):
    """Return the part (0 train, 1 val, 2 test) of each named image: int64 [N]."""
    parts = {}
    is_csv, rows = read_rows(path)
    for number, fields in rows:
        if len(fields) != 2 or fields[1] not in ('0', '1', '2'):
            if is_csv and not parts and len(fields) == 2:
                continue    # the header
            raise UserError(f'{path}:{number}: expected `file 0|1|2`, found '
                            f'{_shown(" ".join(fields))}')
        parts[fields[0]] = int(fields[1])
    missing = [name for name in names if name not in parts]
    if missing:
        raise UserError(f'{path}: lacks {counted(len(missing), "image")} of the attribute list '
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
        raise UserError(f'split {split}: expected auto, position, partition or three ratios that '
                        'add up to 1, such as 0.8,0.1,0.1; see train.py --split')
    bounds = np.round(np.cumsum(ratios[:2]) * count)
    return f'ratios {split}', np.searchsorted(bounds, np.arange(count), 'right')


class CelebA:
    """A checked attribute list and where its images are.

    Args:
        labels_only: no image folder is needed; `folder` is None, there are no paths.

    Attributes:
        atts: attribute names; names: file names; labels: {0,1} int64 [N,n_att].
        split: how the images are divided, in words.
        crop: whether images are cropped (the aligned ones) or taken whole.
        notes: sentences on what was found otherwise than CelebA has it; `find` adds to them.
    """

    def __init__(self, dataroot, atts=None, split='auto', use_cropped_img=False, labels_only=False):
        if not os.path.isdir(dataroot):
            raise UserError(f'--dataroot {dataroot}: no such folder')
        self.crop = not use_cropped_img
        self.notes = []
        self.folder = None
        if not labels_only:
            self.folder, note = _image_folder(dataroot, self.crop)
            self.notes += note
        self.atts, self.names, self.labels = read_attribute_list(
            _list_path(dataroot, ATTRIBUTES), atts)
        self.split, self._parts = split_parts(split, self.names, _list_path(dataroot, PARTITION))

    def __len__(self):
        return len(self.names)

    def part(self, name):
        """Indices (0-based list positions) of 'train', 'val' or 'test': int64 [n]."""
        return np.flatnonzero(self._parts == PARTS.index(name))

    def paths(self, indices):
        """Return the image files of some list positions after a check that they exist.

        Raises:
            UserError: images are missing, or most do not have the size they should have.
        """
        paths, there = self.find(indices)
        missing = [os.path.relpath(path, self.folder) for path, is_there in zip(paths, there)
                   if not is_there]
        if missing:
            raise UserError(f'{self.folder}: lacks {len(missing)} of '
                            f'{counted(len(paths), "image")} ({_some(missing)})'
                            + (f'; {_content(self.folder)}' if not any(there) else ''))
        _check_sizes(paths, self.crop)
        return paths

    def find(self, indices):
        """Return (image files of some list positions, whether each exists).

        A file of another extension stands in for one that is not there.

        Raises:
            UserError: several files could.
        """
        names = [self.names[i] for i in indices]
        wanted = names
        if self.folder.endswith('_png'):
            wanted = [os.path.splitext(name)[0] + '.png' for name in names]
        # One directory listing instead of 200,000 queries; names in subfolders are rare.
        listings = {'': _Listing(self.folder)}
        found, replaced = [], []
        for name in wanted:
            subfolder = os.path.dirname(name) if '/' in name else ''
            if subfolder not in listings:
                listings[subfolder] = _Listing(os.path.join(self.folder, subfolder))
            other = listings[subfolder].find(os.path.basename(name) if subfolder else name)
            found.append(os.path.join(subfolder, other) if other else None)
            if other and found[-1] != name:
                replaced.append(f'{found[-1]} for {name}')
        if replaced:
            note = (f'{counted(len(replaced), "file")} found by another extension than listed '
                    f'({replaced[0]})')
            self.notes += [note] if note not in self.notes else []
        return ([os.path.join(self.folder, other or name) for name, other in zip(wanted, found)],
                [other is not None for other in found])


class _Listing:
    """The files of a folder, by name and by name without extension."""

    def __init__(self, folder):
        self._folder = folder
        self._names = set(_names_in(folder)) if os.path.isdir(folder) else set()
        self._by_stem = None

    def find(self, name):
        """Return `name` if it is there, else the one image of another extension, else None."""
        if name in self._names:
            return name
        if self._by_stem is None:
            self._by_stem = {}
            for other in self._names:
                stem, extension = os.path.splitext(other)
                if extension.lower() in IMAGE_TYPES:
                    self._by_stem.setdefault(stem, []).append(other)
        others = sorted(self._by_stem.get(os.path.splitext(name)[0], []))
        if len(others) > 1:
            raise UserError(f'{self._folder}: {name} is missing, and {" and ".join(others)} could '
                            'both be meant; keep one of them')
        return others[0] if others else None


def _list_path(dataroot, name):
    """The list's .txt, or Kaggle's .csv if only that is there."""
    paths = [os.path.join(dataroot, name + extension) for extension in ('.txt', '.csv')]
    return paths[1] if os.path.exists(paths[1]) and not os.path.exists(paths[0]) else paths[0]


def _image_folder(dataroot, crop):
    """Return (folder of the images, notes on where it is).

    The PNG folder if there is one, as published, else the JPEG folder; within it the folder of the
    same name if that has the images.
    """
    name = 'img_align_celeba' if crop else 'img_crop_celeba'
    for folder in (name + '_png', name):
        path = outer = os.path.join(dataroot, folder)
        inner = os.path.join(path, folder)
        while os.path.isdir(inner) and not any(map(_is_image, _names_in(path))):
            path, inner = inner, os.path.join(inner, folder)
        if os.path.isdir(path):
            return path, ([] if path == outer else [f'the images are in {path}'])
    raise UserError(f'{os.path.join(dataroot, name)}: no such folder; {_content(dataroot)}'
                    + ('; for square images see --use_cropped_img' if crop else ''))


def _names_in(folder):
    """What is in a folder; UserError if it may not be listed."""
    try:
        return os.listdir(folder)
    except OSError as error:
        raise UserError(f'{folder}: cannot be listed ({error.strerror})') from None


def _is_image(name):
    return os.path.splitext(name)[1].lower() in IMAGE_TYPES


def _some(names):
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')


def _content(folder):
    """What a folder has, in words."""
    names = _names_in(folder) if os.path.isdir(folder) else []
    names = sorted(name for name in names if not name.startswith('.'))
    return f'there is {_some(names)}' if names else 'it is empty'


def image_fault(path, crop):
    """Return why the image file at `path` cannot be used although it may be read, or ''.

    The networks take CelebA's aligned size where they crop, and squares elsewhere.
    """
    try:
        width, height = imlib.upright_size(path)
    except UserError:
        return ''
    if crop and (width, height) != ALIGNED_SIZE:
        return f'{width}x{height} pixels, expected CelebA\'s aligned 178x218'
    if not crop and width != height:
        return f'{width}x{height} pixels, expected a square'
    return ''


def _check_sizes(paths, crop):
    """Raise a UserError if most of some images are of a size that cannot be used.

    Single ones, as unreadable ones, are dealt with when they are decoded.
    """
    some = paths[::max(1, len(paths) // 9)]
    faults = [(path, fault) for path, fault in ((path, image_fault(path, crop)) for path in some)
              if fault]
    if 2 * len(faults) > len(some):
        path, fault = faults[0]
        raise UserError(f'{path}: {fault}; ' + (
            'for other images put square ones into img_crop_celeba and take --use_cropped_img'
            if crop else 'crop them to the face, or put aligned ones into img_align_celeba'))


def crop_box(img_size):
    """(row, column, height, width) of the published crop of a 178x218 image."""
    return (40, 15, 148, 148) if img_size == 64 else (26, 3, 170, 170)
