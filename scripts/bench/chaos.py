"""Train a small STGAN on toy data while killing it, and compare it with a run left alone.

Each round starts the training command and ends it with SIGKILL or SIGTERM: while it starts, between
two iterations, or while it saves. Now and then the newest checkpoint is damaged before the next
round. The last run is left alone until its end. Then weights, optimizer state and log must equal
those of the undisturbed run bit for bit, and every image must have been used exactly once a pass.
With several workers any of them, or their launcher, is ended, and all others have to follow.

Examples:
    python scripts/bench/chaos.py --folder chaos
    python scripts/bench/chaos.py --folder chaos --rounds 5
    python scripts/bench/chaos.py --folder chaos --rounds 20 --workers 2
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np

if not __package__:
    import _checkout

from pylib import (
    UNFINISHED,
    ArgumentParser,
    RunFailed,
    UserError,
    child,
    read_json_lines,
    run_command,
    write_json,
)
from pylib.processes import children_of, is_running
from scripts._checkout import ROOT
from stgan.celeba import CelebA
from stgan.config import CHECKPOINTS

# Two layers each way and two attributes: quick to build, with all parts of a training.
SMALL = ('--img_size 32 --enc_layers 2 --dec_layers 2 --stu_layers 1 --dis_layers 2 '
         '--shortcut_layers 1 --inject_layers 1 --stu_inject_layers 1 --enc_dim 2 --dec_dim 2 '
         '--stu_dim 2 --dis_dim 2 --dis_fc_dim 4 --batch_size 4 --n_d 2 --n_sample 1 '
         '--atts Male Young --lr 0.001 --device cpu --threads 2')
IMAGES, ITERATIONS_AN_EPOCH, MOST_A_ROUND = 60, 4, 8
CALM, DISTURBED = 'undisturbed', 'disturbed'
MOMENTS = ('start', 'iteration', 'save', 'save')
DAMAGES = ('cut data', 'cut index', 'zero data', 'zero index', 'remove data', 'remove index',
           'cut state file', 'remove state file')
PATIENCE = 600    # seconds after which a training hangs
TOGETHER = 30     # seconds in which workers have to follow one that has ended


class Chaos:
    """An undisturbed and a disturbed run of one training, in a folder.

    Attributes:
        counts: what happened, how often.
    """

    def __init__(self, folder, rounds, seed, workers=1):
        self.counts = Counter()
        self._folder, self._random, self._workers = folder, random.Random(seed), workers
        # A round trains about `MOST_A_ROUND` iterations at most.
        self._epochs = -(-rounds * MOST_A_ROUND // max(1, ITERATIONS_AN_EPOCH // workers))
        self._checkpoints = os.path.join(self.run_folder(DISTURBED), CHECKPOINTS)

    def run_folder(self, name):
        """The experiment folder of a run."""
        return os.path.join(self._folder, 'output', name)

    @contextlib.contextmanager
    def training(self, name):
        """Context of the training command: its process, whose output goes to `<name>.log`."""
        launch = [] if self._workers == 1 else [
            os.path.join(ROOT, 'scripts', 'launch.py'), '-n', str(self._workers), '--']
        command = [sys.executable, *launch, os.path.join(ROOT, 'train.py'), '--experiment_name',
                   name, '--dataroot', 'data', *SMALL.split(), '--epoch', str(self._epochs),
                   '--save_freq', '2', '--log_images']
        with open(self._log(name), 'ab') as log, \
                child(command, cwd=self._folder, stdout=log, stderr=log) as process:
            yield process

    def _log(self, name):
        return os.path.join(self._folder, name + '.log')

    def finish(self, name):
        """Run the training to its end."""
        with self.training(name) as process:
            status = self._end(process, name)
        if status != 0:
            raise RunFailed(f'{self._log(name)}: ended with {status} although left alone')

    def _end(self, process, name):
        """Exit status of a process, for whose end it waits."""
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise RunFailed(f'{self._log(name)}: hangs') from None

    def disturb(self):
        """One round: start the training, end it at some moment, perhaps damage its checkpoint."""
        how = self._random.choice((signal.SIGKILL, signal.SIGTERM))
        moment = self._random.choice(MOMENTS)
        with self.training(DISTURBED) as process:
            self._wait_for(moment, process)
            if self._workers == 1:
                process.send_signal(how)    # nothing happens to a process that has ended
            else:
                self._end_one(process, how)
            status = self._end(process, DISTURBED)
        # Negative: ended by the signal itself; before the first iteration there is no handler.
        if status not in (0, -how, 128 + how):
            raise RunFailed(f'{self._log(DISTURBED)}: ended with {status} on {how.name} '
                            f'({moment})')
        self.counts[f'{how.name} at {moment}' if status else 'ended before'] += 1
        self.counts['saves cut short'] += self._is_saving()
        if self._random.randrange(3) == 0:
            self._damage()

    def _end_one(self, launcher, how):
        """Send a signal to the launcher or a worker, and wait until all of them have ended."""
        workers = children_of(launcher.pid)
        with contextlib.suppress(ProcessLookupError):    # all epochs are trained
            os.kill(self._random.choice([launcher.pid, *workers]), how)
        deadline = time.monotonic() + TOGETHER
        while launcher.poll() is None or any(map(is_running, workers)):
            if time.monotonic() > deadline:
                raise RunFailed(f'{self._log(DISTURBED)}: processes are left {TOGETHER} s after '
                                f'{how.name}')
            time.sleep(.1)

    def _wait_for(self, moment, process):
        """Return at a random time of the given kind, or when the process has ended."""
        began = time.monotonic()
        aim = self._iterations() + self._random.randint(1, MOST_A_ROUND)
        if moment == 'start':
            time.sleep(self._random.uniform(0, 8))
            return
        while process.poll() is None and time.monotonic() - began < PATIENCE and (
                self._iterations() < aim or (moment == 'save' and not self._is_saving())):
            time.sleep(.0005)
        time.sleep(self._random.uniform(0, .01 if moment == 'save' else .1))

    def _iterations(self):
        records = read_json_lines(os.path.join(self.run_folder(DISTURBED), 'metrics.jsonl'))
        return records[-1]['iteration'] if records else 0

    def _is_saving(self):
        return os.path.isdir(self._checkpoints) and any(
            name.startswith(UNFINISHED) for name in os.listdir(self._checkpoints))

    def _damage(self):
        """Damage the newest checkpoint, or the state file, if another one can stand in."""
        from tflib import checkpoint

        paths = [os.path.join(self._checkpoints, name[:-len('.index')])
                 for name in (os.listdir(self._checkpoints)
                              if os.path.isdir(self._checkpoints) else ())
                 if name.endswith('.index')]
        if sum(checkpoint.damage(path) is None for path in paths) < 2:
            return
        how, _, what = self._random.choice(DAMAGES).partition(' ')
        files = {'data': '.data-00000-of-00001', 'index': '.index'}
        path = (checkpoint.latest(self._checkpoints) + files[what] if what in files
                else os.path.join(self._checkpoints, checkpoint.STATE))
        damage(path, how, self._random)
        self.counts[f'damage: {how} {what}'] += 1

    def fallbacks(self):
        """How often the disturbed run skipped a damaged checkpoint."""
        with open(self._log(DISTURBED), encoding='utf-8') as stream:
            return len(re.findall('damaged checkpoint.*taking the one before', stream.read()))


def damage(path, how, generator):
    """Cut a file short at a random place ('cut'), fill it with zeros ('zero') or 'remove' it."""
    if how == 'remove':
        os.unlink(path)
    elif os.path.exists(path):
        size = os.path.getsize(path)
        with open(path, 'r+b') as stream:
            if how == 'zero':
                stream.write(bytes(size))
            else:
                stream.truncate(generator.randrange(size))


def _values(path):
    """{name: value} of a checkpoint."""
    from tflib import checkpoint

    with checkpoint.reader(path) as opened:
        return {name: opened.get_tensor(name) for name in opened.get_variable_to_shape_map()}


def require_equal(folder, other):
    """Raise RunFailed unless two runs have equal variables, in every bit, and equal logs."""
    from tflib import checkpoint

    left, right = (_values(checkpoint.require_latest(os.path.join(f, CHECKPOINTS)))
                   for f in (folder, other))
    names = sorted(left)
    if names != sorted(right):
        raise RunFailed(f'{folder} and {other}: have different variables')
    different = [name for name in names if not np.array_equal(left[name], right[name])]
    if different:
        raise RunFailed(f'{folder} and {other}: {len(different)} of {len(names)} variables differ '
                        f'({different[0]}, ...)')
    logs = [[dict(record, seconds=0) for record in
             read_json_lines(os.path.join(f, 'metrics.jsonl'))] for f in (folder, other)]
    if logs[0] != logs[1]:
        raise RunFailed(f'{folder} and {other}: metrics.jsonl differs')
    return len(names)


def require_once_a_pass(folder, images):
    """Raise RunFailed unless a run used each of `images` exactly once in every pass.

    Args:
        images: list positions from 1, those that are trained on.

    Returns:
        The number of whole passes.
    """
    used = [image for record in read_json_lines(os.path.join(folder, 'metrics.jsonl'))
            for batch in record['images'] for image in batch]
    for start in range(0, len(used), len(images)):
        in_pass = used[start:start + len(images)]
        if len(set(in_pass)) < len(in_pass) or not set(in_pass) <= set(images):
            raise RunFailed(f'{folder}: an image was used twice in pass {start // len(images)}')
    return len(used) // len(images)


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--folder', default='chaos', metavar='DIR',
                        help='new folder for data, runs and logs')
    parser.add_argument('--rounds', type=int, default=50, help='how often to end the training')
    parser.add_argument('--workers', type=int, default=1, help='that train together')
    parser.add_argument('--seed', type=int, default=0, help='of what happens when')
    args = parser.parse_args()
    if args.workers < 1:
        parser.error(f'--workers {args.workers}: expected at least 1')
    if args.rounds < 1:
        parser.error(f'--rounds {args.rounds}: expected at least 1')
    if os.path.exists(args.folder):
        raise UserError(f'--folder {args.folder}: exists; name another')
    began = time.monotonic()
    data = os.path.join(args.folder, 'data')
    draw = os.path.join(ROOT, 'scripts', 'toy', 'make_toy_celeba.py')
    subprocess.run([sys.executable, draw, data, '--images', str(IMAGES)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    chaos = Chaos(args.folder, args.rounds, args.seed, args.workers)
    chaos.finish(CALM)
    for number in range(args.rounds):
        chaos.disturb()
        print(f'round {number + 1} of {args.rounds}', flush=True)
    chaos.finish(DISTURBED)
    calm, disturbed = chaos.run_folder(CALM), chaos.run_folder(DISTURBED)
    variables = require_equal(disturbed, calm)
    passes = require_once_a_pass(disturbed, CelebA(data).part('train') + 1)
    report = dict(sorted(chaos.counts.items()), fallbacks=chaos.fallbacks(), passes=passes,
                  equal_variables=variables, minutes=round((time.monotonic() - began) / 60, 1))
    write_json(os.path.join(args.folder, 'report.json'), report)
    for name, value in report.items():
        print(f'{name:28}{value}')


if __name__ == '__main__':
    run_command(main)
