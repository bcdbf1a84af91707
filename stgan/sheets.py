"""Sample sheets: source, gap, results side by side, and the files that describe a folder of them.

A sheet is [S, (1+E)*S + S//10, 3]: the source, a black gap of S//10 columns, E results. A folder of
sheets has `sheet.json` (what the columns show, which images could not be read) and `labels.csv`
(which sheets there are, and the labels of their source images). Folders left by the published code
have neither.
"""

import codecs
import csv
import io
import os
import re
from collections import OrderedDict
from typing import Callable, List, NamedTuple

import numpy as np

import imlib
from pylib import UserError, counted, read_json, warn, write_json, write_text
from stgan import attributes
from stgan.config import SETTING, load_config

DESCRIPTION, LABELS = 'sheet.json', 'labels.csv'
LEFT_OUT = 'left_out'    # of sheet.json: [{sheet, image, reason}] of images that are unreadable

# Position in the list, and the attributes of --test_atts.
SHEET_NAME = re.compile(r'\d+(_\[.*\])?\.(png|jpe?g)', re.IGNORECASE)
# What the commands that measure sheets may be told to write beside them.
REPORTS = 'psnr_ssim.png', 'attribute_accuracy.png'
# The sheets beside a damaged description may be sound.
_VALUES = {'0': 0, '1': 1, '0.0': 0, '1.0': 1, 'FALSE': 0, 'TRUE': 1}    # in labels.csv
_RESTORE = 'restore it, or make sheets in another folder with `test.py --output_dir`'


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
        settings: what sheet.json tells of the test beside the columns; {} if there is none.
        left_out: {sheet file name: (image file name, reason)} of images that could not be read.
    """

    def __init__(self, path, img_size, columns, atts, labels, settings=None, left_out=None):
        self.path = path
        self.img_size = img_size
        self.columns = columns
        self.atts = atts
        self.labels = labels
        self.settings = settings or {}
        self.left_out = left_out or {}

    @property
    def sheet_shape(self):
        """Shape every sheet must have."""
        size = self.img_size
        return size, (1 + len(self.columns)) * size + gap_width(size), 3

    @property
    def intensity(self):
        """Intensity of all edits; None if they differ, or nothing tells."""
        values = {value for column in self.columns for value in column.intensities}
        return values.pop() if len(values) == 1 else None

    def read(self, name, count=None):
        """Return (source [S,S,3], results [E,S,S,3]) of a sheet, uint8.

        Args:
            count: return the first E results only; None: all.

        Raises:
            UserError: unreadable, or of another size than the folder's sheets.
        """
        path = os.path.join(self.path, name)
        height, width = self.sheet_shape[:2]
        try:
            size = imlib.size(path)
            if size != (width, height):
                raise UserError(f'{path}: {size[0]}x{size[1]} pixels, expected {width}x{height} '
                                f'({len(self.columns)} results of {self.img_size})')
            start = self.img_size + gap_width(self.img_size)
            sheet = imlib.read(path, None if count is None else start + count * self.img_size)
        except UserError as error:
            way_out = 'delete it, then test.py makes it anew' if self.settings else 'delete it'
            raise UserError(f'{error}; {way_out}') from None
        results = sheet[:, start:].reshape(self.img_size, -1, self.img_size, 3)
        return sheet[:, :self.img_size], results.transpose(1, 0, 2, 3)

    def column_index(self, kind):
        """Index of the first column of a kind.

        Raises:
            UserError: there is none.
        """
        for index, column in enumerate(self.columns):
            if column.kind == kind:
                return index
        unknown = '' if self.settings or len(self.columns) == 1 else (
            f'; if these are, their {len(self.columns)} results are not those of the published 13 '
            f"attributes: put the experiment's {SETTING} into the folder")
        raise UserError(f'{self.path}: its sheets show no {kind}; take the folder that '
                        f'`test.py --test_int 2` writes (sample_testing){unknown}')


class TestFolder:
    """A folder that a test writes its sheets to. Nothing else may write there meanwhile.

    Args:
        path: the folder, which may be missing.
        settings: dict: img_size, attributes and what else tells this test's sheets from others.
        columns: list of `Column`.
        labels: of the sheets wanted now, as in `SheetFolder`.

    Attributes:
        conflict: what is there and does not belong to this test, in words; '' for nothing.
        finished: names of the wanted sheets that are there.
    """

    __test__ = False  # pytest: this is no test class

    def __init__(self, path, settings, columns, labels):
        self.path, self._labels = path, labels
        self._description = dict(settings, columns=[column._asdict() for column in columns])
        self._listed, self._left_out = OrderedDict(), OrderedDict()
        self._sheets = {name for name in (os.listdir(path) if os.path.isdir(path) else ())
                        if SHEET_NAME.fullmatch(name)}
        self._is_damaged = False    # its description
        self.conflict = self._find_conflict() if self._sheets else ''
        self.finished = set() if self.conflict else (
            self._sheets.intersection(labels).intersection(self._listed))

    def _find_conflict(self):
        description_path = os.path.join(self.path, DESCRIPTION)
        if not os.path.exists(description_path):
            return (f'has {counted(len(self._sheets), "image")} that no {DESCRIPTION} describes, '
                    'so nothing would tell them from the new sheets')
        try:
            stored = read_json(description_path)
            _checked_description(stored, description_path)
            left_out = _checked_left_out(stored.pop(LEFT_OUT, []), description_path)
            if stored != self._description:
                return (f'has {counted(len(self._sheets), "sheet")} of another test ('
                        f'{_differences(stored, self._description)})')
            listed = _read_labels(self.path, self._description['attributes'])
        except UserError as error:
            self._is_damaged = True
            return f'nothing tells what is in its {counted(len(self._sheets), "sheet")}: {error}'
        for name in sorted(self._sheets.intersection(listed).intersection(self._labels)):
            image, values = self._labels[name]
            if listed[name][0] != image or not np.array_equal(listed[name][1], values):
                return (f'has {counted(len(self._sheets), "sheet")} of another attribute list '
                        f'({name}: {listed[name][0]}, now {image} or other labels)')
        self._listed, self._left_out = listed, left_out
        return ''

    def refuse_conflict(self, way_out):
        """Raise a UserError if there is a conflict.

        Args:
            way_out: what to do then.
        """
        if self.conflict:
            if self._is_damaged:
                way_out = _RESTORE
            raise UserError(f'{self.path}: {self.conflict}'
                            + ('' if way_out in self.conflict else f'; {way_out}'))

    def clear(self):
        """Remove the wanted sheets or, if there is a conflict, all of them; return their names.

        Raises:
            UserError: images that nothing describes are no sheets at all; nothing was removed.
        """
        names = sorted(self._sheets if self.conflict else self.finished)
        if not os.path.exists(os.path.join(self.path, DESCRIPTION)):
            for name in names:
                width, height = imlib.size(os.path.join(self.path, name))
                if not _results_in(width, height):
                    raise UserError(f'{self.path}: {name} is no sheet; name another folder')
        for name in names:
            os.unlink(os.path.join(self.path, name))
        # A conflict was about sheets that are gone: all that is left is overwritten.
        self._sheets.difference_update(names)
        self.conflict, self.finished = '', set()
        return names

    def write_description(self, unreadable=()):
        """Write `sheet.json` and `labels.csv`. Sheets of earlier runs of this test stay listed.

        Args:
            unreadable: {name of a wanted sheet: reason} of images that could not be read. Before a
                test is finished all sheets are listed, so that it does not pass for finished.
        """
        labels = OrderedDict(self._listed)
        labels.update(self._labels)
        left_out = OrderedDict((name, entry) for name, entry in self._left_out.items()
                               if name not in self._labels)
        for name in unreadable:
            left_out[name] = labels.pop(name)[0], unreadable[name]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow(['sheet', 'image'] + list(self._description['attributes']))
        for sheet in sorted(labels):
            image, values = labels[sheet]
            writer.writerow([sheet, image] + list(values))
        # Without sheets the description binds nobody, so it may be first. What was left out has to
        # be known before it is no longer listed.
        write_json(os.path.join(self.path, DESCRIPTION), dict(self._description, **({LEFT_OUT: [
            OrderedDict(sheet=name, image=image, reason=reason)
            for name, (image, reason) in sorted(left_out.items())]} if left_out else {})))
        write_text(os.path.join(self.path, LABELS), text.getvalue())


def _differences(stored, wanted):
    """In which settings two descriptions of sheets differ, in words."""
    stored, wanted = _in_words(stored), _in_words(wanted)
    differing = [name for name in sorted(set(stored) | set(wanted))
                 if stored.get(name) != wanted.get(name)]
    return ', '.join(f'{name} {stored.get(name, "unknown")}, now {wanted.get(name, "unknown")}'
                     for name in differing)


def _in_words(description):
    """{setting: its value in words} of a sheet.json."""
    words = {name: ' '.join(map(str, value)) if isinstance(value, list) else str(value)
             for name, value in description.items() if name != 'columns'}
    if 'checkpoint' in words and 'weights' in words:
        words['weights'] += f' of {words.pop("checkpoint")}'
    try:
        edits = [column for column in map(_checked_column, description['columns'])
                 if column.kind == 'edit']
        words['edits'] = ' '.join(OrderedDict.fromkeys(
            '+'.join(column.attributes) for column in edits))
        words['intensity'] = ' '.join(OrderedDict.fromkeys(
            '+'.join(f'{value:g}' for value in column.intensities) for column in edits))
    except (KeyError, TypeError, ValueError):
        words['edits'] = str(description.get('columns'))
    return {name: value if len(value) <= 120 else f'{value[:57]}...{value[-60:]}'
            for name, value in words.items()}


def _read_labels(folder, atts):
    """Return the labels of a folder's sheets, as in `SheetFolder`.

    Spreadsheet programs may have saved them: with ; or tabs, a byte order mark, empty rows and
    columns, other ways to write 0 and 1.
    """
    path = os.path.join(folder, LABELS)
    rows = _read_table(path)
    labels = OrderedDict()
    if not rows or rows[0][1] != ['sheet', 'image'] + list(atts):
        raise UserError(f'{path}:1: expected sheet,image and the attributes of {DESCRIPTION}; '
                        f'{_RESTORE}')
    width = len(rows[0][1])
    for number, row in rows[1:]:
        if len(row) != width or not set(row[2:]) <= set(_VALUES):
            raise UserError(f'{path}:{number}: expected sheet, image and {len(atts)} values 0 or 1')
        if os.path.basename(row[0]) != row[0]:
            raise UserError(f'{path}:{number}: {row[0]}: expected a file name without folders')
        if row[0] in labels:
            raise UserError(f'{path}:{number}: {row[0]} is listed twice')
        labels[row[0]] = row[1], np.array([_VALUES[value] for value in row[2:]], np.int64)
    return labels


def _read_table(path):
    """[(line number, fields)] of a CSV file's rows that are not empty."""
    try:
        with open(path, 'rb') as stream:
            content = stream.read()
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode('utf-16' if is_wide else 'utf-8-sig')
        header = text.split('\n', 1)[0]
        reader = csv.reader(io.StringIO(text, newline=''),
                            delimiter=max(',;\t', key=header.count))
        rows = []
        for row in reader:
            fields = [field.strip() for field in row]
            while fields and not fields[-1]:
                fields.pop()
            if fields:
                rows.append((reader.line_num, fields))
        return rows
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f'{path}: not readable ({error}); {_RESTORE}') from None


def open_folder(path, allow_lossy=None, allow_incomplete=None):
    """Return the `SheetFolder` at `path`, of this or of the published code.

    Images that are no sheets of the test are named by a warning and left out.

    Args:
        allow_lossy: take JPEG sheets too (of folders without labels.csv); None: no, and the command
            has no such flag.
        allow_incomplete: take a folder in which sheets of labels.csv are missing; None: the same.

    Raises:
        UserError: no sheets, lossy or missing ones, or a broken description.
    """
    if not os.path.isdir(path):
        raise UserError(f'{path}: no such folder; run test.py first')
    present = _image_files(path, '.png')
    if not present and not allow_lossy and _image_files(path, '.jpg', '.jpeg'):
        raise UserError(f'{path}: JPEG sheets, whose compression would be measured too; use the '
                        'PNGs that test.py writes'
                        + ('' if allow_lossy is None else ', or --allow_lossy'))
    if not present and allow_lossy:
        present = _image_files(path, '.jpg', '.jpeg')
    if os.path.exists(os.path.join(path, DESCRIPTION)):
        folder = _described_folder(path)
        missing = sorted(set(folder.labels).difference(present, folder.left_out))
        if present and missing and not allow_incomplete:
            strays = _strays(present, folder.labels)
            raise UserError(f'{path}: lacks {len(missing)} of '
                            f'{counted(len(folder.labels), "sheet")} ({missing[0]}, ...)'
                            + (f'; {LABELS} does not list {_some(strays)}' if strays else '')
                            + '; run test.py again'
                            + ('' if allow_incomplete is None else ', or --allow_incomplete'))
        for name in set(folder.labels).difference(present):
            del folder.labels[name]
        _name_strays(path, present, folder.labels, f'{LABELS} does not list them')
    else:
        # Names that are all others' say nothing; what the first image shows does.
        names = [name for name in present if SHEET_NAME.fullmatch(name)] or present
        _name_strays(path, present, names, 'sheets have names such as 000001.png')
        folder = _published_folder(path, names) if names else None
    if not folder or not folder.labels:
        raise UserError(f'{path}: no sheets; run test.py first')
    return folder


def _name_strays(path, present, names, reason):
    """Warn of images that are not among `names`."""
    strays = _strays(present, names)
    if strays:
        warn(f'{path}: left out, as {reason}: {_some(strays)}')


def _strays(present, names):
    return sorted(set(present).difference(names, REPORTS))


def _some(names):
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


def _image_files(path, *extensions):
    """Names of the images in a folder, sorted; hidden ones are unfinished (`pylib.atomic_path`)."""
    return sorted(name for name in os.listdir(path)
                  if name.lower().endswith(extensions) and not name.startswith('.'))


def _described_folder(path):
    description_path = os.path.join(path, DESCRIPTION)
    description = read_json(description_path)
    img_size, atts, columns = _checked_description(description, description_path)
    left_out = _checked_left_out(description.pop(LEFT_OUT, []), description_path)
    return SheetFolder(path, img_size, columns, atts, _read_labels(path, atts), description,
                       left_out)


def _checked_description(description, path):
    """(img_size, attribute names, list of `Column`) of a sheet.json."""
    try:
        columns = [_checked_column(column) for column in description['columns']]
        return int(description['img_size']), _texts(description['attributes']), columns
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f'{path}: expected img_size, attributes and columns; {_RESTORE}') from None


def _checked_column(column):
    """A `Column` from JSON; TypeError or ValueError if it is none."""
    column = Column(**column)
    if column.kind not in ('reconstruction', 'edit'):
        raise ValueError(column.kind)
    return Column(column.kind, _texts(column.attributes),
                  [float(each) for each in column.intensities])


def _checked_left_out(entries, path):
    """{sheet: (image, reason)} from JSON."""
    try:
        return OrderedDict((sheet, (image, reason)) for sheet, image, reason in (
            _texts([entry['sheet'], entry['image'], entry['reason']]) for entry in entries))
    except (KeyError, TypeError, ValueError):
        raise UserError(f'{path}: {LEFT_OUT}: expected a list of sheet, image and reason; '
                        f'{_RESTORE}') from None


def _texts(values):
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(values)
    return values


def _results_in(width, height):
    """How many results a sheet of that size has; 0: it is no sheet."""
    results, rest = divmod(width - height - gap_width(height), height)
    return 0 if rest else max(results, 0)


def _published_folder(path, names):
    """A folder without description: what the columns show follows from how many there are.

    The attributes are those of a setting.txt in the folder or beside it, else the published 13.
    """
    first = os.path.join(path, names[0])
    height, width = imlib.read(first).shape[:2]
    results = _results_in(width, height)
    if not results:
        raise UserError(f'{first}: {width}x{height} pixels, which is no sheet: expected squares '
                        'side by side after a gap')
    atts = list(attributes.DEFAULT_ATTRIBUTES)
    for experiment in (path, os.path.dirname(os.path.abspath(path))):
        if os.path.exists(os.path.join(experiment, SETTING)):
            atts = list(load_config(experiment)[0].atts)
            break
    columns = [Column('edit', [], [])] * results
    if results == 1 + len(atts) and '[' not in names[0]:
        columns = [RECONSTRUCTION] + [Column('edit', [att], []) for att in atts]
    return SheetFolder(path, height, columns, atts, OrderedDict((name, None) for name in names))
