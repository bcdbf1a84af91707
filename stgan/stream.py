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

    def replaced(self, start, count):
        """How many of the positions start .. start+count-1 have another sample than their own."""
        places = (divmod(position, self.size) for position in range(start, start + count))
        return sum(self._permutation(number)[offset] in self.bad for number, offset in places)

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
