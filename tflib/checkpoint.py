"""Checkpoints that fit or are refused, never half restored."""

import glob
import os
import zlib

from pylib import RunFailed, UserError, warn
from tflib import loss_scale, tf


def latest(folder):
    """Return the path prefix of the newest checkpoint in `folder`, or None if there is none.

    The folder's state file decides. Checkpoints that were moved with an absolute path in it are
    found by their names; without a state file the newest index file counts.
    """
    state = tf.train.get_checkpoint_state(folder)
    if state is not None:
        path = os.path.join(folder, os.path.basename(state.model_checkpoint_path))
        if os.path.exists(path + '.index'):
            return path
    indices = glob.glob(os.path.join(glob.escape(folder), '*.index'))
    return max(indices, key=os.path.getmtime)[:-len('.index')] if indices else None


def require_latest(folder):
    """The path prefix of the newest checkpoint in `folder`.

    Raises:
        UserError: there is none.
    """
    path = latest(folder)
    if path is None:
        raise UserError(f'{folder}: no checkpoint; train first, or is the folder right?')
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
        return dict(tf.train.NewCheckpointReader(path).get_variable_to_shape_map())
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'{path}: not a readable checkpoint ({reason})') from None


def _is_slot(name, names):
    """Whether `name` is that of an optimizer slot: a variable's name and one more part."""
    return name.rpartition('/')[0] in names


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
        UserError: lists what is missing, unexpected or reshaped.
    """
    stored = variables_in(path)
    wanted = {v.op.name: v.shape.as_list() for v in variables}
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
        raise UserError(f'{path}: does not fit the model: {"; ".join(problems)}; the model\'s '
                        'options differ from those it was trained with')
    return optional


def _is_loss_scale(name):
    """Whether `name` belongs to a loss scale, which other precisions do not have."""
    return name.split('/')[0] == loss_scale.SCOPE


def _first(names, most=5):
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')


def restore(session, path, variables, scopes=None):
    """Restore `variables` from a checkpoint that fits (see `check_fits`).

    Optimizer slots and loss scales that it lacks keep their values, with a warning.
    """
    absent = check_fits(path, variables, scopes)
    if absent:
        warn(f'{path}: lacks {len(absent)} variables of optimizers, which start anew '
             f'({_first(absent)})')
    try:
        tf.train.Saver([v for v in variables if v.op.name not in absent]).restore(session, path)
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'{path}: damaged checkpoint ({reason})') from None


class Checkpoints:
    """The checkpoints of a training run, newest `keep` of them.

    Build it when the graph has all its variables: it adds the saving operations.
    """

    def __init__(self, folder, keep):
        self.folder = folder
        self._variables = tf.global_variables()
        self._saver = tf.train.Saver(self._variables, max_to_keep=keep)
        weights = [v for v in self._variables if v.dtype.is_floating]
        self._float_names = [v.op.name for v in weights]
        self._all_finite = tf.stack([tf.reduce_all(tf.is_finite(v)) for v in weights])

    def restore(self, session, path):
        """Restore all variables and take over the older checkpoints for later deletion."""
        restore(session, path, self._variables)
        state = tf.train.get_checkpoint_state(self.folder)
        known = list(state.all_model_checkpoint_paths) if state else [path]
        known = [os.path.join(self.folder, os.path.basename(name)) for name in known]
        self._saver.recover_last_checkpoints([p for p in known if os.path.exists(p + '.index')])

    def save(self, session, name):
        """Save all variables as `name` and return its path.

        Raises:
            RunFailed: a variable is not finite (nothing is saved then) or the disk refuses.
        """
        finite = session.run(self._all_finite)
        broken = [name for name, good in zip(self._float_names, finite) if not good]
        if broken:
            raise RunFailed(f'not saved: {len(broken)} variables are not finite '
                            f'({_first(broken)}); the last good checkpoint is '
                            f'{latest(self.folder) or "none"}')
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, name)
        try:
            # The graph alone takes seconds to write and is built anew by every command.
            return self._saver.save(session, path, write_meta_graph=False)
        except (tf.errors.OpError, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise RunFailed(f'{path}: could not be saved ({reason})') from None


def published_name(epoch, iteration, iterations):
    """`Epoch_(e)_(iofn).ckpt`: 0-based epoch, 1-based iteration in it, iterations per epoch."""
    return f'Epoch_({epoch})_({iteration}of{iterations}).ckpt'


