"""The one stream of training samples: a place in it is a number (NumPy only)."""

import functools

import numpy as np

# What a random draw is for; with the run's seed and a step it keys the draw.
PERMUTATION, TARGET, REORDER = range(3)


class SampleStream:
    """The endless stream of training samples.

    The permutations of all samples given by (seed, 0), (seed, 1), ... one after another, so every
    sample is used once a pass and a place in the stream is one number.

    Attributes:
        bad: samples that are replaced by the next good one of their pass.
        reorderings: positions from which on another order was drawn, see `reorder`.
    """

    def __init__(self, size, seed):
        self.size = size
        self.seed = seed
        self.bad = set()
        self.reorderings = []
        # Those of two passes, as a batch may reach into the next one.
        self._drawn = functools.lru_cache(maxsize=2)(self._draw_permutation)

    def _permutation(self, number):
        # A thread that reads ahead may be drawing while `reorder` is called: what it puts into the
        # cache has to be known by the order that it saw.
        return self._drawn(number, tuple(self.reorderings))

    def _draw_permutation(self, number, reorderings):
        # RandomState rather than a Generator: NumPy guarantees its values for all versions.
        permutation = np.random.RandomState(
            [self.seed, PERMUTATION, number]).permutation(self.size)
        for count, position in enumerate(reorderings):
            first = min(max(position - number * self.size, 0), self.size)
            order = np.random.RandomState([self.seed, REORDER, number, count])
            permutation[first:] = order.permutation(permutation[first:])
        return permutation

    def reorder(self, position):
        """Draw another order of what comes from `position` on; still once a pass."""
        self.reorderings.append(position)

    def samples(self, start, count):
        """Return the samples at positions start .. start+count-1: int64 [count]."""
        return np.array([self._sample(position) for position in range(start, start + count)])

    def own_samples(self, start, count):
        """As `samples`, but as if none was bad."""
        places = (divmod(position, self.size) for position in range(start, start + count))
        return np.array([self._permutation(number)[offset] for number, offset in places])

    def replaced(self, start, count):
        """How many of the positions start .. start+count-1 have another sample than their own."""
        return sum(sample in self.bad for sample in self.own_samples(start, count))

    def target_order(self, number, count):
        """The order in which the labels of a batch become its target labels.

        Args:
            number: of the batch; count: its images.

        Returns:
            A permutation of 0 .. count-1, int64.
        """
        return np.random.RandomState([self.seed, TARGET, number]).permutation(count)

    def _sample(self, position):
        number, offset = divmod(position, self.size)
        permutation = self._permutation(number)
        while permutation[offset] in self.bad:
            offset = (offset + 1) % self.size
        return permutation[offset]


class Course:
    """Which part of the stream a batch is, in a run whose number of workers may have changed.

    A batch is one of all workers together: as many images as all their batches.

    Args:
        batch_size: images that a worker takes; updates: batches of an iteration.
        changes: [(iterations finished before, workers from then on)], the first from 0 on.
    """

    def __init__(self, batch_size, updates=1, changes=((0, 1),)):
        self.batch_size, self.updates, self._changes = batch_size, updates, list(changes)

    @property
    def workers(self):
        """How many there are now."""
        return self._changes[-1][1]

    @property
    def first(self):
        """Number of the first batch that so many workers share."""
        return self._changes[-1][0] * self.updates

    def position(self, number):
        """Position in the stream of the first image of batch `number`."""
        position = 0
        for (iteration, workers), following in zip(self._changes,
                                                   [*self._changes[1:], (None, None)]):
            first, end = iteration * self.updates, following[0]
            last = number if end is None else min(number, end * self.updates)
            position += max(0, last - first) * workers * self.batch_size
        return position

    def iterations(self, images, workers=None):
        """How many iterations an epoch of so many images has."""
        return images // ((workers or self.workers) * self.batch_size * self.updates)

    def lead(self, images):
        """How far the schedule is ahead of the iterations finished, in iterations of now.

        Where the number of workers changes, iterations count for more or fewer than before: what
        is left of the epoch is the same share of it.
        """
        lead, before = 0, self.iterations(images, self._changes[0][1])
        for iteration, workers in self._changes[1:]:
            now = self.iterations(images, workers)
            epoch, in_epoch = divmod(iteration + lead, max(before, 1))
            lead, before = epoch * now + in_epoch * now // max(before, 1) - iteration, now
        return lead


def changed_course(changes, iteration, workers):
    """The changes of a `Course` that goes on with so many workers after an iteration."""
    kept = [change for change in changes if change[0] < iteration]
    return kept if kept and kept[-1][1] == workers else [*kept, (iteration, workers)]
