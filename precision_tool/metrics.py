"""How far two tensors are apart: the ten columns of a vector compare, and element by element.

x is the tensor of the NPU, y the golden one. Both may have any shape and any numeric type; they
are flattened and cast to float32, complex numbers to pairs of float32. Sums are taken in float64,
chunk by chunk: beyond the two tensors a few MB are used, whatever their size; only `finite_part`,
for pairs without a cosine, copies them.
"""

import math
from typing import NamedTuple

import numpy as np

from pylib import UserError

EPSILON = np.finfo(np.float64).eps  # what is not larger counts as zero
ZERO = EPSILON ** 2  # the length of a tensor that has no direction; of one alone, EPSILON still has
FLOOR = float(np.finfo(np.float32).eps)  # least probability of the divergence, before its sum
# Elements: the temporaries fit into a core's cache, and BLAS leaves the other cores alone.
CHUNK = 1 << 13


class Metrics(NamedTuple):
    """How far a tensor is from its golden one.

    NaN where a metric is not defined: of empty tensors, of NaN and infinite elements; the cosine if
    just one tensor is all zeros; of booleans, all but cosine and Euclidean distance.
    """

    cosine_similarity: float = math.nan
    max_absolute_error: float = math.nan
    accumulated_relative_error: float = math.nan
    relative_euclidean_distance: float = math.nan
    kullback_leibler_divergence: float = math.nan
    standard_deviation: str = 'NaN'    # '(mean_x;std_x),(mean_y;std_y)'
    mean_absolute_error: float = math.nan
    root_mean_square_error: float = math.nan
    max_relative_error: float = math.nan
    mean_relative_error: float = math.nan


TEXT_METRIC = 'standard_deviation'
# As the official tool names them.
TITLES = tuple(field.title().replace('_', '') for field in Metrics._fields)


class Errors(NamedTuple):
    """Elements that differ by more than a tolerance, the worst of them first."""

    total: int             # elements compared
    count: int             # of them differing
    cosine: float
    indices: np.ndarray    # int64 [K], into the flattened arrays
    left: np.ndarray       # float32 [K], as the next one
    right: np.ndarray

    @property
    def share(self):
        """Differing elements, of all."""
        return self.count / self.total if self.total else 0.

    @property
    def allclose(self):
        return not self.count


def compare(x, y, is_part=False):
    """Return the `Metrics` of two arrays of equal size, of the NPU and golden.

    Args:
        is_part: whether they are parts of tensors; a single value is no scalar then.

    Raises:
        UserError: sizes differ, or a type is not numeric.
    """
    is_bool = np.bool_ in (x.dtype, y.dtype)
    x, y = _flat_pair(x, y)
    if x.size != y.size:
        raise UserError(f'sizes differ: {x.size} and {y.size} elements')
    if not x.size:
        return Metrics()
    with np.errstate(all='ignore'):
        sums = _Sums(x, y)
        directions = Metrics(
            cosine_similarity=_cosine(sums, is_scalar=x.size == 1 and not is_part),
            relative_euclidean_distance=_ratio(sums.squared_error, sums.yy))
        if is_bool:
            return directions
        spread = _Spread(x, y, sums)
    return directions._replace(
        max_absolute_error=sums.largest_error,
        accumulated_relative_error=sums.relative_error,
        kullback_leibler_divergence=spread.divergence,
        standard_deviation=spread.text,
        mean_absolute_error=sums.absolute_error / x.size,
        root_mean_square_error=math.sqrt(sums.squared_error / x.size),
        max_relative_error=sums.largest_relative_error,
        mean_relative_error=sums.relative_error / x.size)


def is_finite(array):
    """Whether no value is NaN or infinite as float32."""
    flat, _ = _flat_pair(array, array)
    with np.errstate(over='ignore'):
        return all(np.isfinite(_chunk(flat, start)).all() for start in range(0, flat.size, CHUNK))


def finite_part(x, y):
    """Return what is finite of two arrays of equal size, both flat, if the rest is the same.

    Returns:
        (float32 [N], float32 [N]); None if all values are finite, or if NaN and the infinities are
        not at the same places.
    """
    wide = [flat[:] for flat in _flat_pair(x, y)]
    with np.errstate(over='ignore'):
        x, y = (values.astype(np.float32) for values in wide)
    finite = np.isfinite(x)
    if finite.all() or not np.array_equal(finite, np.isfinite(y)):
        return None
    # Numbers beyond float32 are infinite there, but need not be the same.
    a, b = (values[~finite] for values in wide)
    if not ((a == b) | (np.isnan(a) & np.isnan(b))).all():
        return None
    return x[finite], y[finite]


def errors(x, y, atol, rtol, limit=1000):
    """Find the elements with abs(x - y) > atol + rtol * abs(y), or NaN on either side.

    A shorter array is taken as continued with zeros.

    Args:
        limit: how many of the worst to return; `count` tells all.

    Returns:
        Errors.

    Raises:
        UserError: a type is not numeric.
    """
    x, y = _flat_pair(x, y)
    total = max(x.size, y.size)
    products = np.zeros(3)
    count, worst = 0, [np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32)]
    with np.errstate(all='ignore'):
        for start in range(0, total, CHUNK):
            a, b = (_padded(_chunk(v, start), min(CHUNK, total - start)) for v in (x, y))
            wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
            products += wide_a @ wide_b, wide_a @ wide_a, wide_b @ wide_b
            # isclose, for equal infinities are no error.
            indices = np.flatnonzero(~np.isclose(wide_a, wide_b, rtol, atol))
            if len(indices):
                count += len(indices)
                found = indices + start, a[indices], b[indices]
                worst = _worst([np.concatenate(pair) for pair in zip(worst, found)], limit)
    indices, left, right = worst
    return Errors(total=total, count=count, cosine=_cosine_of(*products), indices=indices,
                  left=left, right=right)


def _flat_pair(x, y):
    """Both arrays as something that slices like a flat array of real numbers."""
    for array in (x, y):
        if array.dtype.kind not in 'biufc':
            raise UserError(f'elements of type {array.dtype} cannot be compared')
    if 'c' in (x.dtype.kind, y.dtype.kind):
        x, y = _real_pairs(x), _real_pairs(y)
    # Not ravel: it would copy all of a transposed array at once.
    return tuple(v.reshape(-1) if v.flags.c_contiguous else _Flat(v) for v in (x, y))


def _real_pairs(array):
    """The real and imaginary parts [..., 2] of an array."""
    array = np.ascontiguousarray(array)
    array = array.astype(np.result_type(array.dtype, np.complex64), copy=False)
    return array.view(array.real.dtype)


class _Flat:
    """An array of any strides that is sliced as if it was flat."""

    def __init__(self, array):
        self.size = array.size
        self._flat = array.flat

    def __getitem__(self, elements):
        return self._flat[elements]


def _chunk(flat, start):
    """The float32 chunk of a flat array that begins at `start`."""
    return flat[start:start + CHUNK].astype(np.float32, copy=False)


def _padded(chunk, size):
    """A chunk, continued with zeros to `size` elements."""
    return chunk if len(chunk) == size else np.pad(chunk, (0, size - len(chunk)), 'constant')


def _worst(elements, limit):
    """The `limit` elements [indices, left, right] that differ most, the worst first."""
    difference = np.abs(elements[1].astype(np.float64) - elements[2])
    difference[np.isnan(difference)] = np.inf
    order = np.argsort(-difference, kind='stable')[:limit]
    return [values[order] for values in elements]


class _Sums:
    """What one pass over two flat arrays gives, all as Python floats."""

    def __init__(self, x, y):
        totals, largest = np.zeros(8), np.full(6, -np.inf)
        for start in range(0, x.size, CHUNK):
            narrow_a, narrow_b = _chunk(x, start), _chunk(y, start)
            a, b = narrow_a.astype(np.float64), narrow_b.astype(np.float64)
            error = np.abs(a - b)
            size_b = np.abs(b)
            relative = error / size_b
            relative[size_b <= EPSILON] = 0
            totals += (a.sum(), b.sum(), a @ b, a @ a, b @ b, error.sum(), error @ error,
                       relative.sum())
            # np.maximum keeps NaNs.
            np.maximum(largest, (narrow_a.max(), narrow_b.max(), -narrow_a.min(), -narrow_b.min(),
                                 error.max(), relative.max()), out=largest)
        (sum_x, sum_y, self.xy, self.xx, self.yy, self.absolute_error, self.squared_error,
         self.relative_error) = totals.tolist()
        (max_x, max_y, negated_min_x, negated_min_y, self.largest_error,
         self.largest_relative_error) = largest.tolist()
        self.means = sum_x / x.size, sum_y / x.size
        self.ranges = (-negated_min_x, max_x), (-negated_min_y, max_y)


class _Spread:
    """What a second pass gives, which needs the means and ranges of the first.

    Attributes:
        divergence: Kullback-Leibler, of the values mapped to [0,1] and divided by their sum.
        text: the means and population standard deviations.
    """

    def __init__(self, x, y, sums):
        totals = np.zeros(5)
        for start in range(0, x.size, CHUNK):
            a, b = (_chunk(v, start).astype(np.float64) for v in (x, y))
            p, q = (_weights(v, *limits) for v, limits in zip((a, b), sums.ranges))
            a -= sums.means[0]
            b -= sums.means[1]
            totals += a @ a, b @ b, p.sum(), q.sum(), p @ np.log(p / q)
        square_x, square_y, sum_p, sum_q, weighted = totals.tolist()
        # Sum of p/P * ln((p/P) / (q/Q)), where P and Q are known only now.
        divergence = float(weighted / sum_p + np.log(sum_q / sum_p))
        self.divergence = 0. if abs(divergence) < EPSILON else divergence
        self.text = ','.join(
            f'({_three_decimals(mean)};{_three_decimals(math.sqrt(square / x.size))})'
            for mean, square in zip(sums.means, (square_x, square_y)))


def _weights(values, low, high):
    """Values as weights > 0: mapped to [0,1] unless they are all equal, at least `FLOOR`."""
    weights = values if low == high else (values - low) / (high - low)
    return np.maximum(weights, FLOOR)


def _three_decimals(value):
    return f'{0. if abs(value) < 0.001 else value:.3f}'.replace('nan', 'NaN')


def _cosine(sums, is_scalar):
    """Cosine similarity; that of finite scalars, which have no direction, is 1."""
    if is_scalar and math.isfinite(sums.xy):
        return 1.
    return _cosine_of(sums.xy, sums.xx, sums.yy)


def _cosine_of(xy, xx, yy):
    """Cosine similarity from the three inner products: 1 if both are short, NaN if one is zero."""
    norm_x, norm_y = math.sqrt(xx), math.sqrt(yy)
    if norm_x <= EPSILON and norm_y <= EPSILON:
        return 1.
    if min(norm_x, norm_y) <= ZERO or not math.isfinite(xy):
        return math.nan
    return float(min(xy / (norm_x * norm_y), 1.))


def _ratio(squared_error, yy):
    """Length of the error relative to that of y; 0 if y is all zeros."""
    return 0. if math.sqrt(yy) <= EPSILON else math.sqrt(squared_error) / math.sqrt(yy)
