"""Workers of one job: whether they belong together, and what they tell each other."""

import dataclasses
import hashlib
import os

from pylib import UserError, read_json, write_json
from stgan.config import WORKERS
from tflib import utils

# Options that may differ between workers: names of the machine they are on, and what of a training
# the first one alone uses.
OF_A_MACHINE = {'experiment_name', 'dataroot', 'img_dir', 'output_dir', 'gpu', 'threads',
                'distribute', 'worker_timeout'}
OF_THE_FIRST = {'time_limit', 'init_checkpoint', 'num_ckpt', 'n_sample', 'test_int',
                'log_exchange'}
_CODE = ('imlib', 'pylib', 'stgan', 'tflib')


def meet(workers, config, device, celeba, indices, state):
    """Wait for all workers, and return what the first one has found in the experiment's folder.

    Args:
        indices: list positions that are trained on; state: what JSON holds, of the first worker.

    Raises:
        UserError: a worker has other options, data or code than the first.
    """
    if workers.size == 1:
        return state
    return _agree(workers, _identity(config, device, celeba, indices), state)


def meet_over(workers, names, options=None):
    """Wait for all workers that share the work on images, see `collective.Alone.share`.

    Args:
        names: of the images; options: a dataclass of those of the command.

    Raises:
        UserError: a worker has other images, options or code than the first.
    """
    if workers.size > 1:
        _agree(workers, dict(_options(options) if options else {},
                             **{'version of the code': _digest(_sources()),
                                'list of images': _digest(['\n'.join(names).encode()])}))


def _agree(workers, facts, state=None):
    """The first worker's state; raises a UserError if another one's facts differ."""
    met = workers.meet(dict(facts, state=state))
    for rank, brought in enumerate(met):
        for what, value in met[0].items():
            if what != 'state' and brought.get(what) != value:
                raise UserError(f'{workers.name(rank)} has another {what} than worker 0: '
                                f'{brought.get(what)}, not {value}')
    return met[0]['state']


def _options(config, free=()):
    """{flag: value} of those that have to be the same for all workers; free: others that need not.
    """
    return {f'--{name}': list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(config).items()
            if name not in OF_A_MACHINE and name not in free}


def _identity(config, device, celeba, indices):
    """{what: text or number} that is the same for all workers of a training."""
    names = [os.path.basename(path) for path in celeba.paths(indices)]
    return dict(_options(config, OF_THE_FIRST), **{
        'version of TensorFlow': utils.tensorflow_version(),
        'version of the code': _digest(_sources()), 'device': device,
        'list of training images': _digest(['\n'.join(names).encode()]),
        'list of labels': _digest([celeba.labels[indices].tobytes()])})


def _sources():
    """The content of all modules that train."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for package in _CODE:
        folder = os.path.join(root, package)
        for name in sorted(os.listdir(folder)):
            if name.endswith('.py'):
                with open(os.path.join(folder, name), 'rb') as stream:
                    yield stream.read()


def _digest(contents):
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:12]


def read_changes(folder):
    """[(iterations finished before, workers from then on)] of an experiment so far.

    Raises:
        UserError: the file is damaged.
    """
    path = os.path.join(folder, WORKERS)
    if not os.path.exists(path):
        return [(0, 1)]
    try:
        changes = [(int(change['iteration']), int(change['workers']))
                   for change in read_json(path)['changes']]
        iterations = [iteration for iteration, _ in changes]
        if iterations[0] != 0 or iterations != sorted(set(iterations)) or min(
                workers for _, workers in changes) < 1:
            raise ValueError
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):
        raise UserError(f'{path}: damaged; restore it, or, to start over, move the folder '
                        'away') from None
    return changes


def write_changes(folder, changes):
    """Write what `read_changes` reads; nothing for a run that one process has trained alone."""
    path = os.path.join(folder, WORKERS)
    if changes == [(0, 1)] and not os.path.exists(path):
        return
    write_json(path, {'changes': [{'iteration': iteration, 'workers': workers}
                                  for iteration, workers in changes]})
