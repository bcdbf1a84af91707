"""Sample sheets: source, gap, results side by side, and the files that describe a folder of them.

A sheet is [S, (1+E)*S + S//10, 3]: the source, a black gap of S//10 columns, E results. A folder of
sheets has `sheet.json` (what the columns show) and `labels.csv` (which sheets there are, and the
labels of their source images). Folders left by the published code have neither.
"""

import csv
import io
import os
from collections import OrderedDict
from typing import Callable, List, NamedTuple

import numpy as np

import imlib
from pylib import UserError, read_json, write_json, write_text
from stgan import attributes
from stgan.config import SETTING, load_config

DESCRIPTION, LABELS = 'sheet.json', 'labels.csv'


def gap_width(img_size):
    """Columns of the black gap between source and results."""
    return img_size // 10


def compose(source, results):
    """Source [S,S,3] and results [E,S,S,3], both in [-1,1], as one sheet uint8 [S,W,3]."""
    size = len(source)
    gap = np.full((size, gap_width(size), 3), -1, np.float32)
    return imlib.to_uint8(np.concatenate([source, gap] + list(results), axis=1))


def mark(images, switched_on):
    """Draw + or - into the upper left corners of images [N,S,S,3] in [-1,1], in place."""
    for image, on in zip(images, switched_on):
        image[2:5, 0:7] = 1
        if on:
            image[0:7, 2:5] = 1
            image[1:6, 3] = -1
        image[3, 1:6] = -1


class Column(NamedTuple):
    """What a result column shows."""

    kind: str                   # 'reconstruction' or 'edit'
    attributes: List[str]       # names of those edited
    intensities: List[float]    # of each


RECONSTRUCTION = Column('reconstruction', [], [])


class Plan(NamedTuple):
    """What is done to every image of a test."""

    mode: str                # 'single', 'multi' or 'slide'
    columns: List[Column]
    targets: Callable        # {0,1} labels [N,n_att] -> signed targets [N,E,n_att]
    folder: str              # of the sheets, below the experiment's
    suffix: str              # of the sheets' names


def single_plan(config, test_int):
    """Reconstruction, then each attribute inverted at intensity `test_int`."""
    columns = [RECONSTRUCTION] + [Column('edit', [att], [test_int]) for att in config.atts]

    def targets(labels):
        return attributes.single_targets(labels, config.atts, config.thres_int, test_int)
    return Plan('single', columns, targets, 'sample_testing', '')


def multi_plan(config, names, intensities):
    """Several attributes inverted at once, each at its intensity; `names` as in --test_atts."""
    _check_edited(config, names, '--test_atts')

    def targets(labels):
        return attributes.multi_targets(labels, config.atts, config.thres_int, names, intensities)
    columns = [Column('edit', list(names), list(intensities))]
    return Plan('multi', columns, targets, 'sample_testing_multi', f'_{list(names)}')


def slide_plan(config, name, lowest, highest, count):
    """One attribute set to `count` intensities from `lowest` to `highest`."""
    _check_edited(config, [name], '--test_att')
    intensities = np.linspace(lowest, highest, count).tolist()

    def targets(labels):
        return attributes.slide_targets(labels, config.atts, config.thres_int, name, intensities)
    columns = [Column('edit', [name], [intensity]) for intensity in intensities]
    return Plan('slide', columns, targets, 'sample_testing_slide', '')


def plan_test(config, options):
    """The `Plan` that a `TestConfig` asks for."""
    if options.test_slide:
        return slide_plan(config, options.test_att, options.test_int_min, options.test_int_max,
                          options.n_slide)
    if options.test_atts:
        return multi_plan(config, options.test_atts,
                          options.test_ints or [1.] * len(options.test_atts))
    return single_plan(config, options.test_int)


def _check_edited(config, names, flag):
    """Raise a UserError unless the experiment edits all `names`."""
    for name in names:
        if name not in config.atts:
            raise UserError(f'{flag} {name}: the experiment edits {" ".join(config.atts)}')


class SheetFolder:
    """A folder of sheets.

    Attributes:
        path: the folder; img_size; columns: list of `Column`; atts: attribute names, or None if
            nothing tells them.
        labels: OrderedDict of sheet file name -> (image file name, {0,1} labels int64 [n_att]) or,
            for sheets of the published code, None.
    """

    def __init__(self, path, img_size, columns, atts, labels):
        self.path = path
        self.img_size = img_size
        self.columns = columns
        self.atts = atts
        self.labels = labels

    @property
    def sheet_shape(self):
        """Shape every sheet must have."""
        size = self.img_size
        return size, (1 + len(self.columns)) * size + gap_width(size), 3

    def read(self, name):
        """Return (source [S,S,3], results [E,S,S,3]) of a sheet, uint8.

        Raises:
            UserError: unreadable, or of another size than the folder's sheets.
        """
        path = os.path.join(self.path, name)
        height, width = self.sheet_shape[:2]
        size = imlib.size(path)
        if size != (width, height):
            raise UserError(f'{path}: {size[0]}x{size[1]} pixels, expected {width}x{height} '
                            f'({len(self.columns)} results of {self.img_size})')
        sheet = imlib.read(path)
        results = sheet[:, self.img_size + gap_width(self.img_size):]
        results = results.reshape(self.img_size, -1, self.img_size, 3)
        return sheet[:, :self.img_size], results.transpose(1, 0, 2, 3)

    def column_index(self, kind):
        """Index of the first column of a kind.

        Raises:
            UserError: there is none.
        """
        for index, column in enumerate(self.columns):
            if column.kind == kind:
                return index
        raise UserError(f'{self.path}: its sheets show no {kind}; take the folder that '
                        '`test.py --test_int 2` writes (sample_testing)')


def finished(folder, settings, columns, labels):
    """Return the set of the names in `labels` whose sheets are there already.

    Args: as in `write_description`.
    """
    listed = _listed_of_equal_settings(folder, settings, columns)
    return {name for name, (image, values) in labels.items()
            if name in listed and listed[name][0] == image
            and np.array_equal(listed[name][1], values)
            and os.path.exists(os.path.join(folder, name))}


def write_description(folder, settings, columns, labels):
    """Write `sheet.json` and `labels.csv` of sheets that are about to be written.

    Sheets that are there already stay listed if they were made with equal settings. Others of the
    names in `labels` are removed, as nothing would tell them from the new ones.

    Args:
        settings: dict: img_size, attributes and what else tells one run's sheets from another's.
        labels: as in `SheetFolder`.
    """
    listed = _listed_of_equal_settings(folder, settings, columns)
    passing = set(labels).difference(finished(folder, settings, columns, labels))
    # The description is the first to go and the last to come: it vouches for all the others.
    for name in sorted(passing | (set() if listed else {DESCRIPTION}), reverse=True):
        if os.path.exists(os.path.join(folder, name)):
            os.unlink(os.path.join(folder, name))
    labels = OrderedDict(list(listed.items()) + list(labels.items()))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['sheet', 'image'] + list(settings['attributes']))
    for sheet in sorted(labels):
        image, values = labels[sheet]
        writer.writerow([sheet, image] + list(values))
    write_text(os.path.join(folder, LABELS), text.getvalue())
    write_json(os.path.join(folder, DESCRIPTION), _description(settings, columns))


def _description(settings, columns):
    return dict(settings, columns=[column._asdict() for column in columns])


def _listed_of_equal_settings(folder, settings, columns):
    """The folder's labels if its sheets were made with equal settings, else none."""
    try:
        if read_json(os.path.join(folder, DESCRIPTION)) == _description(settings, columns):
            return _read_labels(folder, settings['attributes'])
    except UserError:
        pass    # missing or damaged: the sheets are made anew
    return OrderedDict()


def _read_labels(folder, atts):
    """Return the labels of a folder's sheets, as in `SheetFolder`."""
    path = os.path.join(folder, LABELS)
    labels = OrderedDict()
    try:
        with open(path, encoding='utf-8', newline='') as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path}: not readable ({error}); run test.py again') from None
    if not rows or rows[0] != ['sheet', 'image'] + list(atts):
        raise UserError(f'{path}:1: expected sheet,image and the attributes of {DESCRIPTION}')
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]) or not set(row[2:]) <= {'0', '1'}:
            raise UserError(f'{path}:{number}: expected sheet, image and {len(atts)} values 0 or 1')
        if os.path.basename(row[0]) != row[0]:
            raise UserError(f'{path}:{number}: {row[0]}: expected a file name without folders')
        labels[row[0]] = row[1], np.array(row[2:], np.int64)
    return labels


def open_folder(path, allow_lossy=False, allow_incomplete=False):
    """Return the `SheetFolder` at `path`, of this or of the published code.

    Args:
        allow_lossy: take JPEG sheets too (of folders without labels.csv).
        allow_incomplete: take a folder in which sheets of labels.csv are missing.

    Raises:
        UserError: no sheets, lossy or missing ones, or a broken description.
    """
    if not os.path.isdir(path):
        raise UserError(f'{path}: no such folder; run test.py first')
    present = _image_files(path, '.png')
    if not present and not allow_lossy and _image_files(path, '.jpg', '.jpeg'):
        raise UserError(f'{path}: JPEG sheets, whose compression would be measured too; use the '
                        'PNGs that test.py writes, or --allow_lossy')
    if not present and allow_lossy:
        present = _image_files(path, '.jpg', '.jpeg')
    if not present:
        raise UserError(f'{path}: no sheets; run test.py first')
    if os.path.exists(os.path.join(path, DESCRIPTION)):
        folder = _described_folder(path)
        missing = sorted(set(folder.labels) - set(present))
        if missing and not allow_incomplete:
            raise UserError(f'{path}: {len(missing)} of {len(folder.labels)} sheets are missing '
                            f'({missing[0]}, ...); run test.py again, or --allow_incomplete')
        for name in missing:
            del folder.labels[name]
        return folder
    return _published_folder(path, present)


def _image_files(path, *extensions):
    """Names of the images in a folder, sorted; hidden ones are unfinished (`pylib.atomic_path`)."""
    return sorted(name for name in os.listdir(path)
                  if name.lower().endswith(extensions) and not name.startswith('.'))


def _described_folder(path):
    description_path = os.path.join(path, DESCRIPTION)
    description = read_json(description_path)
    try:
        columns = [_checked_column(column) for column in description['columns']]
        img_size, atts = int(description['img_size']), _texts(description['attributes'])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f'{description_path}: expected img_size, attributes and columns; run '
                        'test.py again') from None
    return SheetFolder(path, img_size, columns, atts, _read_labels(path, atts))


def _checked_column(column):
    """A `Column` from JSON; TypeError or ValueError if it is none."""
    column = Column(**column)
    kind, = _texts([column.kind])
    return Column(kind, _texts(column.attributes), [float(each) for each in column.intensities])


def _texts(values):
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(values)
    return values


def _published_folder(path, names):
    """A folder without description: the sheet's width, and setting.txt beside it, have to do."""
    height, width = imlib.read(os.path.join(path, names[0])).shape[:2]
    results, rest = divmod(width - height - gap_width(height), height)
    if results < 1 or rest:
        raise UserError(f'{os.path.join(path, names[0])}: {width}x{height} pixels, which is no '
                        'sheet: expected squares side by side after a gap')
    atts = None
    experiment = os.path.dirname(os.path.abspath(path))
    if os.path.exists(os.path.join(experiment, SETTING)):
        atts = list(load_config(experiment)[0].atts)
    columns = [Column('edit', [], [])] * results
    if os.path.basename(os.path.normpath(path)) == 'sample_testing':
        columns = [RECONSTRUCTION] + [Column('edit', [att], []) for att in atts or []]
        columns += [Column('edit', [], [])] * (1 + results - len(columns))
    return SheetFolder(path, height, columns[:results], atts,
                       OrderedDict((name, None) for name in names))
