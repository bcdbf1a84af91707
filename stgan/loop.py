"""The one long loop: it runs a training graph, logs, saves, goes back after NaN, and stops.

It knows nothing of STGAN; the attribute classifier is trained by it, too.
"""

import contextlib
import os
import re
import shutil
import time
from collections import OrderedDict
from typing import Callable, List, NamedTuple

import numpy as np

from pylib import (
    Interrupted,
    NotFinite,
    StopRequest,
    UserError,
    append_json_line,
    cut_json_lines,
    progress,
    read_json,
    remove_unfinished,
    sync,
    warn,
    write_json,
)
from stgan.config import CHECKPOINTS, METRICS, ROLLBACKS, SUMMARIES
from tflib import (
    checkpoint,
    collective,
    faults,
    loss_scale,
    quiet_native_code,
    summary,
    tf,
)

_CHECKPOINT = re.compile(r'Epoch_\((\d+)\)_\((\d+)of(\d+)\)\.ckpt')


class Update(NamedTuple):
    """One optimizer step or more in a session call; each takes a batch of its own.

    Attributes:
        terms: name -> scalar of the last step that has it: losses, and `<name>_skipped`, which
            counts overflows.
        batches: the `data.Batch` of each step, in order.
        groups: name of a term -> its group in TensorBoard, 'run' where there is none.
    """

    op: tf.Operation
    terms: dict
    batches: tuple
    groups: dict = {}


class TrainingGraph(NamedTuple):
    """What `fit` runs."""

    updates: List[Update]       # of one iteration, in order
    counter: tf.Variable        # int64, iterations finished; the last update counts it up
    learning_rate: tf.Tensor    # float32 placeholder


class Schedule(NamedTuple):
    """How long, how fast, and what is kept."""

    epochs: int
    iterations: int             # per epoch
    learning_rate: Callable     # function of the 0-based epoch
    save_freq: int              # iterations between checkpoints
    sample_freq: int            # iterations between reports
    num_ckpt: int               # this and what follows: as in `config.RunConfig`
    keep_every: int = 0
    time_limit: float = 0
    on_nan: str = 'stop'
    log_images: bool = False
    log_exchange: int = 0
    lead: int = 0               # iterations, see `stream.Course.lead`

    @property
    def total(self):
        """Iterations of the whole run."""
        return self.epochs * self.iterations - self.lead

    def epoch_after(self, iteration):
        """0-based epoch of what comes after `iteration` iterations."""
        return (iteration + self.lead) // self.iterations

    def checkpoint_name(self, iteration):
        """Name of the checkpoint after `iteration` iterations: `Epoch_(e)_(iofn).ckpt`.

        e: 0-based epoch; i: 1-based iteration in it, of n (csmliu/STGAN train.py@8a206ad).
        """
        epoch, in_epoch = divmod(iteration + self.lead - 1, self.iterations)
        return f'Epoch_({epoch})_({in_epoch + 1}of{self.iterations}).ckpt'

    def keeps_for_good(self, checkpoint_name):
        """Whether a checkpoint is never deleted: that of an epoch to keep, and none of a run's."""
        place = _CHECKPOINT.fullmatch(checkpoint_name)
        if not place:
            return True
        epoch, in_epoch, iterations = map(int, place.groups())
        return bool(self.keep_every) and in_epoch == iterations and (
            epoch + 1) % self.keep_every == 0

    def saves(self, iteration):
        """Whether a checkpoint is due after `iteration` iterations."""
        return self._is_due(iteration, self.save_freq, self.keep_every * self.iterations)

    def reports(self, iteration):
        """Whether a report is due after `iteration` iterations."""
        return self._is_due(iteration, self.sample_freq)

    def traces(self, iteration):
        """Whether iteration `iteration`, from 1, is traced to log the times of its exchanges."""
        return bool(self.log_exchange) and iteration % self.log_exchange == 0

    def _is_due(self, iteration, *intervals):
        """At the end, and after every interval; one of 0 is none."""
        return iteration == self.total or any(each and (iteration + self.lead) % each == 0
                                              for each in intervals)


def fit(folder, graph, batches, schedule, report, open_session, newest=None, initialize=None,
        workers=None, reorderings=None):
    """Run a training graph to the end of its schedule.

    Writes checkpoints/, summaries/ and metrics.jsonl into `folder`, which nothing else may do.
    Of several workers the first one does; the others read nothing there, either.

    Args:
        batches: the `data.TrainingBatches` that the graph reads.
        report: what is written every `sample_freq` iterations, an object with the functions
            write(session, checkpoint name) and is_missing(checkpoint name).
        open_session: function that opens the session, such as a partial `utils.session`.
        newest: checkpoint to go on from; None: this is a new run.
        initialize: function (session) that gives a new run other weights than random ones.
        workers: those that train together, see `engines.joined`, all of which call this; None:
            this process is alone.
        reorderings: the iterations of the `Rollbacks`, which the first worker tells the others.

    Raises:
        UserError: the checkpoint does not fit.
        RunFailed: a loss is not finite, or the disk, the memory or TensorFlow fails; the
            checkpoints stay as they were.
        Interrupted: after SIGINT, SIGTERM or the time limit, when the iteration is finished and
            saved.
    """
    workers = workers or collective.Alone()
    if workers.rank:
        run = _Follower(folder, graph, batches, schedule, workers, reorderings)
    else:
        run = _Run(folder, graph, batches, schedule, workers, report, initialize)
    try:
        with open_session() as session, StopRequest(schedule.time_limit) as stop:
            run.start(session, newest)
            if run.iteration >= schedule.total:
                run.say('nothing to do: all epochs are trained; raise --epoch to train on')
                return
            with run.logged():
                _iterate(run, schedule, stop)
    except faults.ERRORS as error:
        raise run.failure(error) from None


def _iterate(run, schedule, stop):
    """Iterate to the end of the schedule, or until `stop` asks for an end."""
    while run.iteration < schedule.total:
        try:
            run.iterate()
            stopping = run.agreed_status(stop.exit_status)
            run.save_what_is_due(stopping)
        except NotFinite as error:
            run.go_back(error)
            continue
        if stopping and run.iteration < schedule.total:
            message = (f'stopped and saved after iteration {run.iteration} of {schedule.total}; '
                       'the same command without --clear goes on')
            raise (stop.interruption(message) if stop.requested else
                   Interrupted(f'another worker was told to stop: {message}', stopping))


class _Run:
    """What `fit` does in an iteration.

    Attributes:
        iteration: how many are finished.
    """

    def __init__(self, folder, graph, batches, schedule, workers, report, initialize):
        self._report, self._initialize = report, initialize
        self._checkpoints = checkpoint.Checkpoints(
            os.path.join(folder, CHECKPOINTS), schedule.num_ckpt, schedule.keeps_for_good)
        remove_unfinished(folder, self._checkpoints.folder)
        self._prepare(folder, graph, batches, schedule, workers,
                      Rollbacks(folder, schedule.on_nan))

    def _prepare(self, folder, graph, batches, schedule, workers, rollbacks):
        """What is alike in all workers."""
        self._folder, self._graph, self._batches = folder, graph, batches
        self._schedule, self._workers, self._rollbacks = schedule, workers, rollbacks
        self._agree = workers.agreement()
        self._batches_an_iteration = sum(len(update.batches) for update in graph.updates)
        if workers.size > 1:
            self._share = workers.broadcast(tf.global_variables())
        self._images = {}    # of each batch, if they are logged
        if schedule.log_images:
            images = {batch.images.op: batch.images for update in graph.updates
                      for batch in update.batches}
            self._images = {source: tensor if workers.size == 1 else workers.gather(tensor)
                            for source, tensor in images.items()}
        self._groups = {name: group for update in graph.updates
                        for name, group in update.groups.items()}
        self._skipped = loss_scale.skipped_counts()
        self.iteration, self._read_again = 0, None
        for iteration in self._rollbacks.iterations:
            batches.reorder(self._first_batch(iteration))

    def start(self, session, newest):
        """Load the checkpoint `newest`, or the weights of a new run."""
        self._session = session
        self._load(newest)
        self.say(f'{"resuming after" if self.iteration else "starting at"} iteration '
                 f'{self.iteration} of {self._schedule.total}'
                 + (f', from {newest}' if newest else ''))
        if self.iteration and self._schedule.reports(self.iteration):
            self._make_up_for_report()

    @staticmethod
    def say(text):
        """Print a line."""
        print(text, flush=True)

    def _load(self, newest):
        """Give all variables their values."""
        self._session.run(tf.global_variables_initializer())
        if newest:
            self._checkpoints.restore(self._session, newest)
        elif self._initialize:
            self._initialize(self._session)
        self._take_over()

    def _take_over(self):
        """Begin with the values that the variables of the first worker have."""
        if self._workers.size > 1:
            self._session.run(self._share)
        self.iteration = int(self._session.run(self._graph.counter))
        self._overflows = Overflows(self._session.run(self._skipped))

    def failure(self, error):
        """The RunFailed that tells of an error of TensorFlow."""
        saved = checkpoint.latest(self._checkpoints.folder)
        kept = f'the last good checkpoint is {saved or "none"}'
        way_out = ', from which the same command without --clear goes on' if saved else ''
        # A run that has a checkpoint keeps its batch size.
        return faults.failure(error, f'iteration {self.iteration + 1}',
                              f'lower --batch_size{", in another folder" if saved else ""}; {kept}',
                              kept + way_out)

    def _make_up_for_report(self):
        """Write the report that a run killed after its checkpoint has left out."""
        name = self._schedule.checkpoint_name(self.iteration)
        if self._report.is_missing(name):
            self._report.write(self._session, name)

    @contextlib.contextmanager
    def logged(self):
        """Context of the iterations: their place in the data, the log and the progress bar."""
        self._batches.seek(self._session, self._first_batch(self.iteration))
        with contextlib.closing(Log(self._folder, self.iteration)) as self._log, \
                contextlib.closing(_Progress(self.iteration, self._schedule.total)) \
                as self._progress:
            yield

    def _first_batch(self, iteration):
        """Number of the first batch after so many iterations."""
        return iteration * self._batches_an_iteration

    def agreed_status(self, status):
        """The exit status with which all workers are to stop now; 0: none is told to.

        Signals reach them at different times.
        """
        return self._agree(self._session, status)

    def iterate(self):
        """Run all updates once, and log them.

        Raises:
            NotFinite: from then on the weights are not to be used.
        """
        began, epoch = time.monotonic(), self._schedule.epoch_after(self.iteration)
        first = number = self._first_batch(self.iteration)
        rate = self._schedule.learning_rate(epoch)
        terms, images = OrderedDict(), []
        for update in self._graph.updates:
            values, its_images = self._run_update(update, rate, number)
            self._overflows.check(values, self.iteration, self._checkpoints.folder)
            terms.update(values)
            images += its_images
            number += len(update.batches)
        self.iteration += 1
        seconds = round(time.monotonic() - began, 4)
        self._log.write(self.iteration, OrderedDict(
            epoch=epoch, lr=rate, seconds=seconds, **terms,
            **({'images': images} if images else {}),
            **self._batches.replaced(first, number - first)), self._groups)
        self._progress.advance(terms)

    def _run_update(self, update, rate, number):
        """Run an update on batch `number` and those that follow; unreadable images are replaced.

        Returns:
            (its terms as floats, the list positions of the images of each batch if they are to be
            logged).
        """
        images = [self._images[batch.images.op] for batch in update.batches if self._images]
        fetches, trace = [update.terms, update.op, images], {}
        if self._schedule.traces(self.iteration + 1) and not self._workers.rank:
            trace = {'options': tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
                     'run_metadata': tf.RunMetadata()}
        while True:
            try:
                for taken in range(len(update.batches)):  # noqa: B007  (see below)
                    self._batches.take(self._session)
                values, _, images = self._session.run(
                    fetches, {self._graph.learning_rate: rate}, **trace)
            except tf.errors.OpError as error:
                if not faults.is_of_reading(error):
                    raise
                self._recover(number + taken, error)
                if taken:
                    self._batches.seek(self._session, number)
            else:
                if trace:
                    seconds = collective.traced_seconds(trace['run_metadata'])
                    steps = '_'.join(OrderedDict.fromkeys(update.groups.values())).lower()
                    values = dict(values, **{f'{steps}_{name}_seconds': value
                                             for name, value in seconds.items()})
                return (OrderedDict((name, float(value)) for name, value in values.items()),
                        [positions.ravel().tolist() for positions in images])

    def _recover(self, number, error):
        """Make batch `number`, which could not be read, the next one again; once for no reason."""
        try:
            self._batches.recover(self._session, number, error)
        except tf.errors.OpError:
            if self._read_again == number:
                raise
            self._read_again = number
            warn(f'batch {number} could not be read ({faults.reason(error)}), but its images '
                 'can; once more')
            self._batches.seek(self._session, number)

    def save_what_is_due(self, stopping):
        """Write the checkpoint and the report that are due now.

        Args:
            stopping: write the checkpoint in any case.

        Raises:
            NotFinite: a weight is not finite; nothing was saved.
        """
        name = self._schedule.checkpoint_name(self.iteration)
        if stopping or self._schedule.saves(self.iteration):
            self._log.sync()
            self._progress.say(f'saved {self._checkpoints.save(self._session, name)}')
        if self._schedule.reports(self.iteration):
            self._report.write(self._session, name)

    def go_back(self, error):
        """Go on from the newest checkpoint with the data in another order, or raise `error`."""
        self._rollbacks.allow(error)
        self._load(checkpoint.latest(self._checkpoints.folder))
        self._rollbacks.add(self.iteration, error)
        first = self._first_batch(self.iteration)
        self._batches.reorder(first)
        self._batches.seek(self._session, first)
        self._log.rewind(self.iteration)
        self._progress.go_back(self.iteration)


class _Follower(_Run):
    """What the other workers do in an iteration: the same, but they save and show nothing."""

    def __init__(self, folder, graph, batches, schedule, workers, reorderings):
        self._checkpoints = checkpoint.NoCheckpoints(os.path.join(folder, CHECKPOINTS))
        self._report = _Nothing()
        self._prepare(folder, graph, batches, schedule, workers,
                      RollbacksElsewhere(schedule.on_nan, reorderings))

    @staticmethod
    def say(text):
        """Print nothing."""

    def _load(self, newest):
        """Give all variables their values."""
        self._session.run(tf.global_variables_initializer())
        self._take_over()

    def _make_up_for_report(self):
        """Nothing: it is the first worker's."""

    @contextlib.contextmanager
    def logged(self):
        """Context of the iterations: their place in the data."""
        # What TensorFlow remarks on reading images, the first worker's sample images have hidden.
        with quiet_native_code():
            self._batches.seek(self._session, self._first_batch(self.iteration))
        self._log = self._progress = _Nothing()
        yield


class _Nothing:
    """A log, a progress bar and a report of which nothing is seen."""

    def write(self, *arguments):
        """Nothing, as all the rest."""

    sync = rewind = advance = say = go_back = write


class _Progress:
    """The progress bar, and once the time to go."""

    WARM_UP, TIMED = 1, 10    # iterations; the first ones are slow

    def __init__(self, iteration, total):
        self._total, self._seen = total, 0
        self._bar = progress(total=total, initial=iteration, unit='it')

    def advance(self, terms):
        """Move on by an iteration, with its losses and the numbers of skipped updates."""
        self._bar.update()
        self._bar.set_postfix({name: f'{value:.3g}' for name, value in terms.items()
                               if name.endswith('loss') or (name.endswith('skipped') and value)},
                              refresh=False)
        self._seen += 1
        if self._seen == self.WARM_UP:
            self._warm = time.monotonic()
        elif self._seen == self.WARM_UP + self.TIMED:
            seconds = (time.monotonic() - self._warm) / self.TIMED
            self.say(f'about {seconds * (self._total - self._bar.n) / 3600:.2g} hours to go')

    def say(self, text):
        """Print a line above the bar."""
        self._bar.write(text)

    def go_back(self, iteration):
        """Show that so many iterations are finished."""
        self._bar.n = iteration

    def close(self):
        """Leave the bar as it is."""
        self._bar.close()


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
            raise UserError(f'{self._path}: damaged; restore it, or, to start over, move the '
                            'folder away') from None

    def allow(self, error):
        """Warn of a `NotFinite` error that a rollback may cure, or raise it."""
        if self._policy != 'rollback':
            raise NotFinite(f'{error}; --on_nan rollback goes on from there with the data in '
                            'another order, and a lower --lr may help')
        if len(self.iterations) >= self.MOST:
            raise NotFinite(f'{error}; stopped after {self.MOST} rollbacks')
        self._allowed(error, len(self.iterations) + 1)

    def _allowed(self, error, number):
        warn(f'{error}; going back, with the data in another order from there (rollback '
             f'{number} of {self.MOST} at most)')

    def add(self, iteration, error):
        """Take note that the run goes on after `iteration` because of `error`."""
        self._records.append(OrderedDict(iteration=iteration, reason=str(error)))
        self.iterations.append(iteration)
        write_json(self._path, {'rollbacks': self._records})


class RollbacksElsewhere(Rollbacks):
    """The rollbacks of a run whose first worker keeps them."""

    def __init__(self, policy, iterations):
        self._policy, self.iterations = policy, list(iterations)

    def _allowed(self, error, number):
        """Nothing: the first worker warns."""

    def add(self, iteration, error):
        """Take note that the run goes on after `iteration`."""
        self.iterations.append(iteration)


class Overflows:
    """The check of an update's losses, which lets pass what a loss scale has skipped.

    An overflow of 16 bits now and then is normal in mixed precision; in any other update, or in too
    many in a row, a loss that is not finite means that the run is lost.

    Args:
        skipped: {name of a count of skipped updates: its value so far}.
    """

    MOST_IN_A_ROW = 100

    def __init__(self, skipped):
        self._skipped = dict(skipped)
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
        cut_json_lines(path, lambda record: record.get('iteration', 0) <= first)
        self._stream = open(path, 'a', encoding='utf-8')  # noqa: SIM115  (see close)
        self._scalars = summary.ScalarWriter(os.path.join(self._folder, SUMMARIES), first)

    def write(self, iteration, values, groups):
        """Log an iteration.

        Args:
            values: {name: number or list}; lists go to metrics.jsonl only.
            groups: {name: its group in TensorBoard}, 'run' for all others.
        """
        append_json_line(self._stream, OrderedDict(iteration=iteration, **values))
        self._scalars.write({f'{groups.get(name, "run")}/{name}': value
                             for name, value in values.items() if not isinstance(value, list)},
                            iteration)

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


def remove_training(folder, *others):
    """Say what earlier training left in a folder, and remove it.

    Args:
        others: names of files and folders beside those that `fit` writes.
    """
    names = [name for name in (CHECKPOINTS, SUMMARIES, METRICS, ROLLBACKS, *others)
             if os.path.exists(os.path.join(folder, name))]
    if names:
        print(f'--clear: removing {", ".join(names)} from {folder}', flush=True)
    for name in names:
        path = os.path.join(folder, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
