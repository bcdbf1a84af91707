"""Workers that train one experiment together: whether they belong together, and what they share."""

import dataclasses
import hashlib
import os

from pylib import UserError, read_json, write_json
from stgan.config import WORKERS
from tflib import utils

# What may differ between workers: names of the machine they are on, and what the first alone uses.
OF_ONE_WORKER = {'experiment_name', 'dataroot', 'gpu', 'threads', 'distribute', 'worker_timeout',
                 'time_limit', 'init_checkpoint', 'num_ckpt', 'n_sample', 'test_int'}
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
    met = workers.meet(dict(_identity(config, device, celeba, indices), state=state))
    for rank, facts in enumerate(met):
        for what, value in met[0].items():
            if what != 'state' and facts.get(what) != value:
                raise UserError(f'{workers.name(rank)} has another {what} than worker 0: '
                                f'{facts.get(what)}, not {value}')
    return met[0]['state']


def _identity(config, device, celeba, indices):
    """{what: text or number} that is the same for all workers of a training."""
    options = {f'--{name}': list(value) if isinstance(value, tuple) else value
               for name, value in dataclasses.asdict(config).items() if name not in OF_ONE_WORKER}
    names = [os.path.basename(path) for path in celeba.paths(indices)]
    return dict(options, **{
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
    except (IndexError, KeyError, TypeError, ValueError):
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
