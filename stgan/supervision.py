"""What a training run is watched by: its log, the check of its losses, the count of rollbacks."""

import contextlib
import json
import os
from collections import OrderedDict

import numpy as np

from pylib import (
    NotFinite,
    UserError,
    append_json_line,
    read_json,
    read_json_lines,
    sync,
    warn,
    write_json,
    write_text,
)
from tflib import checkpoint, summary

SUMMARIES, METRICS, ROLLBACKS = 'summaries', 'metrics.jsonl', 'rollbacks.json'


class Rollbacks:
    """How often a run went back to a checkpoint, and to which; kept in rollbacks.json.

    Attributes:
        iterations: finished ones after which the order of the data changed, one per rollback.
    """

    MOST = 3

    def __init__(self, folder, policy):
        self._path, self._policy = os.path.join(folder, ROLLBACKS), policy
        self._records = []
        if os.path.exists(self._path):
            self._records = read_json(self._path).get('rollbacks')
        try:
            self.iterations = [int(record['iteration']) for record in self._records]
        except (KeyError, TypeError, ValueError):
            raise UserError(f'{self._path}: damaged; restore it, or start over with --clear'
                            ) from None

    def allow(self, error):
        """Warn of a `NotFinite` error that a rollback may cure, or raise it."""
        if self._policy != 'rollback':
            raise NotFinite(f'{error}; --on_nan rollback goes on from there with the data in '
                            'another order, and a lower --lr may help')
        if len(self._records) >= self.MOST:
            raise NotFinite(f'{error}; stopped after {self.MOST} rollbacks')
        warn(f'{error}; going back, with the data in another order from there (rollback '
             f'{len(self._records) + 1} of {self.MOST} at most)')

    def add(self, iteration, error):
        """Take note that the run goes on after `iteration` because of `error`."""
        self._records.append(OrderedDict(iteration=iteration, reason=str(error)))
        self.iterations.append(iteration)
        write_json(self._path, {'rollbacks': self._records})


class Overflows:
    """Tells updates that a loss scale skipped from runs that are lost."""

    MOST_IN_A_ROW = 100

    def __init__(self):
        self._skipped = {}     # name of a count -> its last value
        self._in_a_row = {}    # name of a count -> updates in a row that raised it

    def check(self, values, iteration, checkpoint_folder):
        """Raise NotFinite if terms of an update are not, or if updates are skipped without end.

        Args:
            values: name -> float, with the count of skipped updates under mixed precision.
        """
        in_a_row = 0
        for name in (name for name in values if name.endswith('_skipped')):
            skipped = values[name] > self._skipped.get(name, 0)
            self._skipped[name] = values[name]
            in_a_row = self._in_a_row[name] = self._in_a_row.get(name, 0) + 1 if skipped else 0
        broken = [name for name, value in values.items() if not np.isfinite(value)]
        if (broken and not in_a_row) or in_a_row > self.MOST_IN_A_ROW:
            what = f'{", ".join(broken)} not finite' if broken else (
                f'{in_a_row} updates in a row skipped, as gradients are not finite')
            raise NotFinite(f'iteration {iteration + 1}: {what}; nothing was saved, the last good '
                            f'checkpoint is {checkpoint.latest(checkpoint_folder) or "none"}')


class Log:
    """metrics.jsonl and TensorBoard scalars of a run, going on after iteration `first`."""

    def __init__(self, folder, first):
        self._folder = folder
        self._open(first)

    def _open(self, first):
        path = os.path.join(self._folder, METRICS)
        # What was logged after the checkpoint that the run resumes from is about to happen again.
        kept = [record for record in read_json_lines(path) if record.get('iteration', 0) <= first]
        write_text(path, ''.join(json.dumps(record) + '\n' for record in kept))
        self._stream = open(path, 'a', encoding='utf-8')  # noqa: SIM115  (see close)
        self._scalars = summary.ScalarWriter(os.path.join(self._folder, SUMMARIES), first)

    def write(self, iteration, values):
        """Log {name: number or list} of an iteration; lists go to metrics.jsonl only."""
        append_json_line(self._stream, OrderedDict(iteration=iteration, **values))
        self._scalars.write({_tag(name): value for name, value in values.items()
                             if not isinstance(value, list)}, iteration)

    def sync(self):
        """Wait until all is on the disk: no line may be missing below a checkpoint."""
        sync(self._stream.name)

    def rewind(self, first):
        """Go on after iteration `first`, forgetting what was logged later."""
        self.close()
        self._open(first)

    def close(self):
        """Close the files."""
        # Every line was flushed: this can only fail where a write has failed before.
        with contextlib.suppress(OSError):
            self._stream.close()
        self._scalars.close()


def _tag(name):
    """TensorBoard groups tags by what stands before the slash."""
    if name.startswith(('d_', 'gp')):
        return 'D/' + name
    return 'G/' + name if name.startswith('g_') else 'run/' + name
