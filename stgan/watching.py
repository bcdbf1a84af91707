"""What experiment folders say of their training, finished or under way; nothing is written."""

import contextlib
import json
import os
import re
import threading
import time

import numpy as np

from pylib import UserError
from stgan.config import CHECKPOINTS, METRICS, SAMPLES, SETTING, changed_options, load_config

MOST_POINTS = 400     # of a curve; where there are more, each stands for several iterations
RECENT = 50           # iterations from whose time the rest is estimated
MOST = 3.4e38         # of a number that a training logs, about the most of float32
QUIET = 60            # seconds without a new iteration after which a training counts as not running
_NAME = re.compile(r'Epoch_\((\d+)\)_\((\d+)of(\d+)\)\.')    # see loop.Schedule
_PART = re.compile(r'\.(index|data-\d+-of-\d+|meta)$')    # of a checkpoint's files
_IMAGES = '.jpg', '.png'


class Curves:
    """Means of what metrics.jsonl holds, read on where it was left.

    Attributes:
        last: the numbers of the newest record that are finite.
    """

    def __init__(self, path):
        self._path, self._lock = path, threading.Lock()
        self._start()

    def _start(self):
        self._offset, self._inode, self.last = 0, None, {}
        self._width = 1      # iterations that a point stands for
        self._points = []    # [number of records, iteration, {name: (sum, number)}]
        self._seconds = []

    def update(self):
        """Read what is new."""
        with self._lock:
            try:
                with open(self._path, 'rb') as stream:
                    status = os.fstat(stream.fileno())
                    if status.st_size < self._offset or status.st_ino != self._inode:
                        self._start()
                        self._inode = status.st_ino
                    if not self._read(stream):
                        self._start()    # it was cut off, and has grown again
                        self._inode = status.st_ino
                        self._read(stream)
            except OSError:    # none yet
                self._start()

    def _read(self, stream):
        """Add the records from the offset on; False if they do not follow those before."""
        stream.seek(self._offset)
        for line in stream:
            try:
                record = json.loads(line.decode()) if line.endswith(b'\n') else None
                iteration = int(record['iteration'])
                numbers = {name: float(value) for name, value in record.items()
                           if isinstance(value, (int, float)) and name != 'iteration'}
            except (ValueError, ArithmeticError, TypeError, LookupError, RecursionError):
                return not line.endswith(b'\n')    # else it is still being written
            if iteration <= self.last.get('iteration', 0):
                return False
            self._offset += len(line)
            self._add(iteration, numbers)
        return True

    def _add(self, iteration, numbers):
        self.last = {name: value for name, value in numbers.items() if _is_loss(value)}
        self.last['iteration'] = iteration
        self._seconds = [*self._seconds[1 - RECENT:], self.last.get('seconds', 0)]
        if self._points and self._points[-1][0] < self._width:
            self._points[-1] = _together(self._points[-1], [1, iteration, _sums(numbers)])
        else:
            self._points.append([1, iteration, _sums(numbers)])
        if len(self._points) > 2 * MOST_POINTS:
            self._width *= 2
            self._points = [_together(*self._points[i:i + 2]) if i + 1 < len(self._points)
                            else self._points[i] for i in range(0, len(self._points), 2)]

    @property
    def seconds(self):
        """What an iteration took lately, the median; 0 before the first."""
        return float(np.median(self._seconds)) if self._seconds else 0.

    def series(self):
        """{name: [[iteration, mean], ...]}, None for what is not finite."""
        with self._lock:
            found = {}
            for _, iteration, sums in self._points:
                for name, (total, number) in sums.items():
                    mean = total / number
                    found.setdefault(name, []).append(
                        [iteration, float(f'{mean:.5g}') if _is_loss(mean) else None])
        return found


def _is_loss(value):
    """Whether a training can have logged a number: not NaN, nor beyond float32."""
    return abs(value) <= MOST


def _sums(numbers):
    return {name: (value, 1) for name, value in numbers.items()}


def _together(first, second):
    sums = dict(first[2])
    for name, (total, number) in second[2].items():
        before = sums.get(name, (0., 0))
        sums[name] = before[0] + total, before[1] + number
    return [first[0] + second[0], second[1], sums]


class Watcher:
    """The experiments in a folder.

    Args:
        folder: that holds them; more: paths of others.
    """

    def __init__(self, folder='output', more=()):
        self._folder, self._more, self._curves = folder, list(more), {}
        self._lock = threading.Lock()

    def names(self):
        """Names of the experiments, the one that was trained latest first."""
        return sorted(self._paths(), key=lambda name: -_changed(self._paths()[name]))

    def _paths(self):
        paths = {os.path.basename(os.path.abspath(path)): path for path in self._more}
        for name in os.listdir(self._folder) if os.path.isdir(self._folder) else ():
            path = os.path.join(self._folder, name)
            if os.path.isfile(os.path.join(path, SETTING)):
                paths.setdefault(name, path)
        return paths

    def _path(self, name):
        paths = self._paths()
        if name not in paths:
            raise UserError(f'{name[:60]}: no such experiment')
        return paths[name]

    def state(self, name):
        """What there is to say of an experiment, for JSON.

        Raises:
            UserError: there is none of that name, or its settings are damaged.
        """
        path = self._path(name)
        config, _ = load_config(path)
        with self._lock:
            curves = self._curves.setdefault(path, Curves(os.path.join(path, METRICS)))
        curves.update()
        series = curves.series()
        checkpoints, samples = self._checkpoints(path), self.samples(name)
        places = [_NAME.match(each) for each in [entry['name'] for entry in checkpoints] + samples]
        per_epoch = next((int(place.group(3)) for place in places if place), 0)
        total = config.epoch * per_epoch
        # What is logged may be thinned out, or be missing where a model was handed on.
        newest = max((_place(entry['name'])[:2] for entry in checkpoints), default=(-1, -1))
        iteration = max(curves.last.get('iteration', 0), newest[0] * per_epoch + newest[1])
        age = time.time() - _changed(path)
        is_live = bool(curves.last) and age < QUIET + 3 * curves.seconds and iteration != total
        return {
            'name': name, 'iteration': iteration, 'total': total, 'epochs': config.epoch,
            'epoch': int(curves.last.get('epoch', 0)), 'live': is_live, 'age': round(age),
            'seconds': round(curves.seconds, 4),
            'remaining': round(curves.seconds * (total - iteration)) if total else None,
            'skipped': sum(value for key, value in curves.last.items()
                           if key.endswith('_skipped')),
            'series': series, 'samples': samples, 'checkpoints': checkpoints,
            'settings': changed_options(config)}

    def samples(self, name):
        """File names of the sample sheets that training has drawn, the first one first."""
        folder = os.path.join(self._path(name), SAMPLES)
        found = [each for each in (os.listdir(folder) if os.path.isdir(folder) else ())
                 if each.lower().endswith(_IMAGES) and not each.startswith('.')
                 and os.path.isfile(os.path.join(folder, each))]
        return sorted(found, key=_place)

    def sample(self, name, file):
        """Path of a sample sheet.

        Raises:
            UserError: there is none of that name.
        """
        if file not in self.samples(name):
            raise UserError(f'{file[:60]}: no such sample sheet')
        return os.path.join(self._path(name), SAMPLES, file)

    @staticmethod
    def _checkpoints(path):
        folder, sizes = os.path.join(path, CHECKPOINTS), {}
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            stem = _PART.sub('', name)
            if stem != name and not name.startswith('.'):
                with contextlib.suppress(OSError):    # a training has removed it meanwhile
                    sizes[stem] = sizes.get(stem, 0) + os.path.getsize(os.path.join(folder, name))
        return [{'name': name, 'megabytes': round(sizes[name] / 1e6, 1)}
                for name in sorted(sizes, key=_place)]


def _place(name):
    """For sorting by epoch and iteration."""
    place = _NAME.match(name)
    return (int(place.group(1)), int(place.group(2)), name) if place else (-1, -1, name)


def _changed(path):
    """When an experiment was last written to, in seconds since 1970."""
    times = []
    for name in (METRICS, SETTING):
        try:
            times.append(os.path.getmtime(os.path.join(path, name)))
        except OSError:
            continue
    return times[0] if times else 0.
