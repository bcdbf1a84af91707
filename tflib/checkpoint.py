"""Checkpoints that are whole or skipped, and that fit or are refused."""

import atexit
import contextlib
import glob
import ntpath
import os
import re
import shutil
import tempfile
import zlib

import numpy as np

from pylib import UNFINISHED, NotFinite, RunFailed, UserError, sync, warn, write_text
from tflib import loss_scale, moving_average, tf, utils

STATE = 'checkpoint'
# What a checkpoint's files have after its name.
_FILE = re.compile(r'\.(index|meta|data-\d+-of-\d+)$')
# The reader of 2.x turns some of TensorFlow's errors into Python's own.
_UNREADABLE = (tf.errors.OpError, LookupError, MemoryError, RuntimeError, ValueError)
_NOTHING_IN = 'no checkpoint; train first, or is the folder right?'
# Links that the session of a graph may follow until the process ends.
_links = contextlib.ExitStack()
atexit.register(_links.close)


class Misfit(UserError):
    """A checkpoint does not fit a model of its kind."""


@contextlib.contextmanager
def _plain_name(path):
    """Yield a path prefix under which TensorFlow's readers find the checkpoint at `path`.

    They take a name for a pattern, in which brackets and backslashes stand for other characters
    (tensorflow/core/util/tensor_slice_reader.cc, tensor_bundle.cc). Such a checkpoint gets links in
    a temporary folder. What writes takes every name as it is.

    Raises:
        UserError: names of temporary folders are patterns, too.
    """
    if not _is_pattern(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        if _is_pattern(folder):
            raise UserError(f'{path}: TensorFlow reads no checkpoints in folders with [ or \\ in '
                            'their names, unless TMPDIR names one without')
        name = os.path.join(folder, 'checkpoint')
        for file in _files(path):
            os.symlink(os.path.abspath(file), name + file[len(path):])
        yield name


def _is_pattern(path):
    return '[' in path or '\\' in path


@contextlib.contextmanager
def reader(path):
    """Context of a TensorFlow reader of the checkpoint at `path`; LookupError if there is none."""
    if not (os.path.exists(path + '.index') or os.path.isfile(path)):
        raise LookupError('its .index file is missing')
    with _plain_name(path) as name:
        yield tf.train.NewCheckpointReader(name)


def meant_by(path, below, complaint=_NOTHING_IN):
    """The path prefix of the checkpoint that a command line means.

    Args:
        path: a prefix; one of its files; a folder of checkpoints, whose newest sound one is taken;
            the state file in it; a folder with such a folder in it.
        below: name of that folder.
        complaint: what to say of a folder without checkpoints, or of nothing.

    Raises:
        UserError: there is none.
    """
    if os.path.exists(path + '.index'):
        return path
    prefix, count = _FILE.subn('', path)
    if count and os.path.exists(prefix + '.index'):
        return prefix
    folder = path
    if os.path.basename(path) == STATE and os.path.isfile(path):
        folder = os.path.dirname(path) or '.'
    elif os.path.isfile(path) and not count:
        return _of_one_file(path)
    if not os.path.isdir(folder):
        raise UserError(f'{path}: {complaint} (neither {prefix}.index nor such a folder is there)')
    below = os.path.join(folder, below)
    folder = below if not any_in(folder) and os.path.isdir(below) else folder
    newest = latest(folder)
    if newest is None:
        raise UserError(f'{folder}: {complaint}')
    return newest


def _of_one_file(path):
    """Return the path of a checkpoint of one file, as before TensorFlow 0.12.

    Raises:
        UserError: it is something else.
    """
    try:
        variables_in(path)
    except UserError:
        raise UserError(f'{path}: not a checkpoint; name one, one of its files or a folder of '
                        'some') from None
    return path


def latest(folder, scopes=None):
    """Return the path prefix of the newest sound checkpoint in `folder`, or None if there is none.

    Damaged ones that are newer are skipped with a warning that names them.

    Args:
        scopes: as in `damage`.

    Raises:
        UserError: there are checkpoints, but all are damaged.
    """
    damaged = []
    for path in _newest_first(folder):
        reason = damage(path, scopes)
        if not reason:
            for line in damaged:
                warn(f'{line}; taking the one before, {path}')
            return path
        damaged.append(f'{path}: damaged checkpoint ({reason})')
    if damaged:
        raise UserError(f'{"; ".join(damaged)}; no other is there: restore one from a backup, or, '
                        f'to train anew, move {folder} away')
    return None


def require_newest(folder):
    """The path prefix of the newest checkpoint in `folder`, which may be damaged; see `latest`.

    Raises:
        UserError: there is none.
    """
    for path in _newest_first(folder):
        return path
    raise UserError(f'{folder}: {_NOTHING_IN}')


def _newest_first(folder):
    """Path prefixes of the checkpoints in a folder, whole or not.

    What the state file calls the newest comes first, whatever its age: people edit that file to go
    back to an older checkpoint. Only its name counts, as the folder may have been moved. The others
    follow by the iterations in them: clocks jump, and copying changes the times of files.
    """
    listed, others = _listed(folder)[-1:], _names_in(folder)
    first = [name for name in listed if name in others]
    others = sorted(others.difference(first), reverse=True,
                    key=lambda name: _age_order(os.path.join(folder, name)))
    if listed and others and not first:
        warn(f'{os.path.join(folder, STATE)}: names {listed[0]}, of which no file is there; the '
             f'newest that is: {others[0]}')
    return [os.path.join(folder, name) for name in first + others]


def any_in(folder):
    """Whether there are checkpoints in a folder, sound or not."""
    return bool(_names_in(folder))


def _names_in(folder):
    """Names of the checkpoints of which a folder has some file that counts."""
    return {_FILE.sub('', os.path.basename(path)) for kind in ('index', 'data-*') for path in
            glob.glob(os.path.join(glob.escape(folder), '*.' + kind))}


def _listed(folder):
    """Names of the checkpoints in a folder's state file, oldest first."""
    try:
        state = tf.train.get_checkpoint_state(folder)
    except ValueError as error:    # its text is broken
        warn(f'{os.path.join(folder, STATE)}: damaged ({utils.reason(error)}); not used')
        return []
    if state is None:
        return []
    # A run on Windows may have written it. Our own names have neither slashes nor backslashes.
    names = [ntpath.basename(path) for path in
             (*state.all_model_checkpoint_paths, state.model_checkpoint_path)]
    return [name for name in dict.fromkeys(names) if name != names[-1]] + names[-1:]


def _age_order(path):
    try:
        iterations = iteration_of(path)
    except _UNREADABLE:
        iterations = -1
    times = [os.path.getmtime(name) for name in _files(path)]
    return iterations, max(times, default=0)


def _files(path):
    """The files of the checkpoint at `path`, its index first."""
    data = glob.glob(glob.escape(path) + '.data-*') + glob.glob(glob.escape(path) + '.meta')
    return [name for name in [path + '.index', *sorted(data)] if os.path.exists(name)]


def damage(path, scopes=None):
    """Return what is wrong with a checkpoint's files in a few words, or None if they are sound.

    All of it is read, which compares every block of the index and every tensor with its checksum.

    Args:
        scopes: top scopes of the variables that matter; optimizer slots and all others are not
            read then.
    """
    broken = []
    try:
        with reader(path) as opened:
            names = opened.get_variable_to_shape_map()
            for name in _read_of(names, scopes).values() if scopes else sorted(names):
                value = opened.get_tensor(name)
                if value.dtype.kind == 'f' and not np.isfinite(value).all():
                    broken.append(name)
    except _UNREADABLE as error:
        return utils.reason(error)
    return f'{len(broken)} variables are not finite ({_first(broken)})' if broken else None


def require_latest(folder, scopes=None):
    """The path prefix of the newest sound checkpoint in `folder`; `scopes` as in `damage`.

    Raises:
        UserError: there is none.
    """
    path = latest(folder, scopes)
    if path is None:
        raise UserError(f'{folder}: {_NOTHING_IN}')
    return path


def fingerprint(path):
    """A short text that tells the weights of one checkpoint from all others."""
    # The index holds a checksum of every tensor.
    with open(path + '.index', 'rb') as stream:
        return f'{zlib.crc32(stream.read()):08x}'


def variables_in(path):
    """Return {name: shape as list} of a checkpoint.

    Raises:
        UserError: the checkpoint is missing or damaged.
    """
    try:
        with reader(path) as opened:
            return dict(opened.get_variable_to_shape_map())
    except _UNREADABLE as error:
        raise UserError(f'{path}: not a readable checkpoint ({utils.reason(error)})') from None


def iteration_of(path):
    """How many iterations are finished in a sound checkpoint of a training."""
    with reader(path) as opened:
        return int(opened.get_tensor('counter/counter'))


def _is_slot(name, names):
    """Whether `name` is that of an optimizer slot: a variable's name and one more part."""
    return name.rpartition('/')[0] in names


def _read_of(names, scopes):
    """{variable: what is read of a checkpoint for its value} in scopes, without optimizer slots.

    Args:
        names: all of the checkpoint. A variable with a moving average is given that.
    """
    wanted = [name for name in sorted(names)
              if name.split('/')[0] in scopes and not _is_slot(name, names)]
    averages = {name: moving_average.name_of(name) for name in wanted}
    return {name: average if average in names else name for name, average in averages.items()}


def without_slots(variables):
    """Those of `variables` that are no optimizer slots."""
    names = {v.op.name: v for v in variables}
    return [v for name, v in names.items() if not _is_slot(name, names)]


def check_fits(path, variables, scopes=None):
    """Check that a checkpoint holds exactly `variables`, in name and shape.

    Args:
        scopes: for graphs that need a part of the checkpoint only: the top scopes in which to
            search for unexpected variables; optimizer slots do not count then. None: all.

    Returns:
        Names of optimizer slots and loss scales that the checkpoint lacks: published weights may
        come without the former, weights trained in high precision have none of the latter.

    Raises:
        Misfit: lists what is missing, unexpected or reshaped.
        UserError: it is of something else.
    """
    stored = variables_in(path)
    wanted = {v.op.name: v.shape.as_list() for v in variables}
    if not _top_scopes(stored).intersection(_top_scopes(wanted)):
        raise UserError(f'{path}: holds {_first(sorted(_top_scopes(stored)))}, of which this model '
                        f'has none ({_first(sorted(_top_scopes(wanted)))}); it is a checkpoint of '
                        'something else')
    absent = sorted(set(wanted) - set(stored))
    optional = [name for name in absent if _is_slot(name, wanted) or _is_loss_scale(name)]
    missing = [name for name in absent if name not in optional]
    unexpected = sorted(
        name for name in set(stored) - set(wanted) if not _is_loss_scale(name)
        and (scopes is None
             or (name.split('/')[0] in scopes and not _is_slot(name, wanted))))
    reshaped = [f'{name} {stored[name]} instead of {wanted[name]}'
                for name in sorted(set(wanted) & set(stored)) if wanted[name] != stored[name]]
    problems = [f'{len(names)} {kind} ({_first(names)})' for kind, names in
                (('missing', missing), ('unexpected', unexpected), ('reshaped', reshaped)) if names]
    if problems:
        raise Misfit(f'{path}: does not fit the model: {"; ".join(problems)}; the model\'s '
                     'options differ from those it was trained with')
    return optional


def _top_scopes(names):
    """First parts of those of the names that have several."""
    return {name.split('/')[0] for name in names if '/' in name}


def _is_loss_scale(name):
    """Whether `name` belongs to a loss scale, which other precisions do not have."""
    return name.split('/')[0] == loss_scale.SCOPE


def _first(names, most=5):
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')


def restore(session, path, variables, scopes=None):
    """Restore `variables` from a checkpoint that fits (see `check_fits`).

    Optimizer slots and loss scales that it lacks keep their values, with a warning. With `scopes`,
    variables of which the checkpoint holds a moving average get that.
    """
    absent = check_fits(path, variables, scopes)
    if absent:
        warn(f'{path}: lacks {len(absent)} variables of optimizers, which start anew '
             f'({_first(absent)})')
    source = _read_of(variables_in(path), scopes) if scopes else {}
    values = {source.get(v.op.name, v.op.name): v for v in variables if v.op.name not in absent}
    try:
        with _plain_name(path) as name:
            tf.train.Saver(values).restore(session, name)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f'{path}: damaged checkpoint ({utils.reason(error)})') from None


def tensors(path, scopes):
    """{name: float32 tensor} of a checkpoint's values, for the current graph.

    Variables of which it holds a moving average get that. Running a tensor fails if its values are
    damaged.

    Args:
        scopes: top scopes of those that are wanted; optimizer slots are not.

    Raises:
        UserError: the checkpoint is missing, or its index is damaged.
    """
    shapes = variables_in(path)
    prefix = _links.enter_context(_plain_name(path))

    def tensor(name):
        value, = tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=[name], shape_and_slices=[''],
                                      dtypes=[tf.float32])
        value.set_shape(shapes[name])
        return value
    return {name: tensor(read) for name, read in _read_of(shapes, scopes).items()}


class NoCheckpoints:
    """In the place of `Checkpoints` in a process that saves nothing, as another one does.

    Args:
        folder: theirs.
    """

    def __init__(self, folder):
        self.folder = folder
        self._variables = [v for v in tf.global_variables() if v.dtype.base_dtype.is_floating]
        self._finite = loss_scale.all_finite([v.read_value() for v in self._variables])

    def save(self, session, name):
        """Raise NotFinite where `Checkpoints.save` does."""
        if not session.run(self._finite):
            raise NotFinite(f'{os.path.join(self.folder, name)}: not saved, variables are not '
                            'finite')


class Checkpoints:
    """The checkpoints of a training run.

    Build it when the graph has all its variables: it adds the saving operations.

    Args:
        keep: the newest ones to keep, at least two: the one before has to stand in for the newest.
        is_kept_for_good: function that tells of a name whether its checkpoint is never deleted and
            does not count among those; None: all are deleted in their turn.
    """

    def __init__(self, folder, keep, is_kept_for_good=None):
        self.folder = folder
        self._keep = max(keep, 2)
        self._is_kept_for_good = is_kept_for_good or (lambda name: False)
        self._variables = tf.global_variables()
        self._saver = tf.train.Saver(self._variables, max_to_keep=None)
        self._names = []    # of those there are, in the order in which their turn comes
        # What is saved will be read: where that is impossible, say so before anything is computed.
        with _plain_name(folder):
            pass

    def restore(self, session, path):
        """Restore all variables and take over the older checkpoints for later deletion."""
        restore(session, path, self._variables)
        name = os.path.basename(path)
        names = _listed(self.folder) or [
            os.path.basename(path) for path in reversed(_newest_first(self.folder))]
        place = names.index(name) + 1 if name in names else len(names)
        # Those after it are damaged, or the run goes another way from here: they go first.
        self._names = names[place:] + names[:place]

    def save(self, session, name):
        """Save all variables as `name` and return its path.

        The files are written aside, read back and checked before they appear under their names.

        Raises:
            NotFinite: a variable is not finite. RunFailed: the disk refuses. In both cases the
                other checkpoints stay as they were.
        """
        path, aside = os.path.join(self.folder, name), os.path.join(self.folder, UNFINISHED + name)
        try:
            shutil.rmtree(aside, ignore_errors=True)
            os.makedirs(aside)
            written = os.path.join(aside, name)
            # The graph alone takes seconds to write and is built anew by every command.
            self._saver.save(session, written, write_meta_graph=False, write_state=False)
            self._check(written, path)
            self._publish(aside, path)
            self._delete_older(name)
        except (tf.errors.OpError, OSError, ValueError) as error:
            raise RunFailed(f'{path}: could not be saved ({utils.reason(error)}); free or repair '
                            f'the disk, then training goes on from {self._last_good()}') from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return path

    def _check(self, written, path):
        """Raise unless the files just written hold all variables, sound and finite."""
        reason = damage(written)
        complete = {v.op.name: v.shape.as_list() for v in self._variables}
        if not reason and variables_in(written) != complete:
            reason = 'not all variables came out'
        if reason:
            kind = NotFinite if 'not finite' in reason else RunFailed
            raise kind(f'{path}: not saved, {reason}; the last good checkpoint is '
                       f'{self._last_good()}')

    def _last_good(self):
        return latest(self.folder) or 'none'

    def _publish(self, aside, path):
        """Move checked files to their place: the index last, as it makes a checkpoint of them."""
        if os.path.exists(path + '.index'):
            os.unlink(path + '.index')    # would not belong to the new data
        for name in reversed(_files(os.path.join(aside, os.path.basename(path)))):
            sync(name)
            os.replace(name, os.path.join(self.folder, os.path.basename(name)))
        sync(self.folder)

    def _delete_older(self, newest):
        """Write the state file and delete the checkpoints whose turn it is."""
        names = [name for name in self._names if name != newest] + [newest]
        passing = [name for name in names if not self._is_kept_for_good(name)]
        old = passing[:-self._keep]
        self._names = [name for name in names if name not in old]
        # By their names alone, so that the folder can be moved.
        state = tf.train.generate_checkpoint_state_proto('.', newest, self._names)
        write_text(os.path.join(self.folder, STATE), str(state))
        for name in old:
            for file in _files(os.path.join(self.folder, name)):
                os.unlink(file)
