"""The ten metrics against plain formulas over whole arrays, and their edge cases."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_tool import metrics
from pylib import UserError

EPSILON = np.finfo(np.float64).eps
quick = settings(max_examples=40, deadline=None)
# Nothing near EPSILON, where rounding decides what counts as zero.
elements = st.floats(-1e6, 1e6, width=32).map(lambda value: value if abs(value) > 1e-12 else 0.)


def plain(x, y):
    """The definitions, word for word, for finite tensors of more than one element."""
    x, y = (np.asarray(v, np.float32).astype(np.float64).ravel() for v in (x, y))
    norm_x, norm_y = np.sqrt(np.sum(x ** 2)), np.sqrt(np.sum(y ** 2))
    nonzero = np.abs(y) > EPSILON
    relative = np.zeros_like(x)
    relative[nonzero] = np.abs(x[nonzero] / y[nonzero] - 1)
    if norm_x <= EPSILON and norm_y <= EPSILON:
        cosine = 1.
    elif norm_x ** .5 <= EPSILON or norm_y ** .5 <= EPSILON:
        cosine = np.nan
    else:
        cosine = min(np.sum(x * y) / (norm_x * norm_y), 1)
    return {
        'cosine_similarity': cosine,
        'max_absolute_error': np.max(np.abs(x - y)),
        'accumulated_relative_error': np.sum(np.abs(x - y)[nonzero] / np.abs(y)[nonzero]),
        'relative_euclidean_distance':
            np.sqrt(np.sum((x - y) ** 2)) / norm_y if norm_y > EPSILON else 0,
        'kullback_leibler_divergence': plain_divergence(x, y),
        'mean_absolute_error': np.mean(np.abs(x - y)),
        'root_mean_square_error': np.sqrt(np.mean((x - y) ** 2)),
        'max_relative_error': np.max(relative),
        'mean_relative_error': np.mean(relative)}


def plain_divergence(x, y):
    weights = []
    for values in (x, y):
        reach = values.max() - values.min()
        scaled = (values - values.min()) / reach if reach else values
        floored = np.maximum(scaled, np.finfo(np.float32).eps)
        weights.append(floored / floored.sum())
    p, q = weights
    divergence = np.sum(p * np.log(p / q))
    return 0 if abs(divergence) < EPSILON else divergence


def assert_equals_plain(x, y):
    values, expected = metrics.compare(x, y), plain(x, y)
    assert set(expected) == set(values._fields) - {'standard_deviation'}
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(values, name), value, 1e-6, 1e-12, err_msg=name)
    for side, array in zip(values.standard_deviation[1:-1].split('),('), (x, y)):
        mean, std = map(float, side.split(';'))
        wide = np.asarray(array, np.float32).astype(np.float64)
        assert abs(mean - wide.mean()) <= 0.00101 + 1e-6 * abs(wide.mean())
        assert abs(std - wide.std()) <= 0.00101 + 1e-6 * wide.std()


@pytest.fixture
def tensors():
    """An NPU tensor [3,50,200] and the golden one, of several chunks."""
    random = np.random.RandomState(0)
    golden = random.randn(3, 50, 200).astype(np.float32) * 5 + 2
    return golden + random.randn(3, 50, 200).astype(np.float32) * 0.01, golden


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64', 'int8', 'uint8', 'int16',
                                   'uint16', 'int32', 'uint32', 'int64', 'uint64'])
def test_every_type_equals_the_plain_formulas(tensors, dtype):
    x, y = (np.abs(v).astype(dtype) for v in tensors)
    assert_equals_plain(x, y)


@quick
@given(st.lists(st.tuples(elements, elements), min_size=2, max_size=60), st.integers(1, 70))
def test_any_values_in_chunks_of_any_size(pairs, chunk):
    x, y = np.array(pairs, np.float32).T
    size = metrics.CHUNK
    metrics.CHUNK = chunk
    try:
        assert_equals_plain(x, y)
    finally:
        metrics.CHUNK = size


def test_shapes_do_not_matter_and_strides_neither(tensors):
    x, y = tensors
    expected = metrics.compare(x, y)
    assert metrics.compare(x.reshape(-1, 10), y.ravel()) == expected
    transposed = np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert not transposed.flags.c_contiguous
    assert metrics.compare(transposed, y) == expected
    assert metrics.compare(x[:, ::2, ::-1], y[:, ::2, ::-1]).cosine_similarity > 0.9999
    assert_equals_plain(x[:, ::2, ::-1], y[:, ::2, ::-1])


def test_equal_tensors_have_no_error(tensors):
    values = metrics.compare(tensors[0], tensors[0].copy())._asdict()
    assert values.pop('cosine_similarity') == pytest.approx(1) and values.pop('standard_deviation')
    assert set(values.values()) == {0.}


def test_cosine_is_capped_at_1():
    random = np.random.RandomState(1)
    for _ in range(200):
        x = random.randn(7).astype(np.float32)
        assert metrics.compare(x, x * np.float32(2)).cosine_similarity <= 1


@pytest.mark.parametrize('x, y, cosine', [
    ([5], [-3], 1), (7, 0, 1), ([math.nan], [1], math.nan), ([math.inf], [1], math.nan),
    ([0, 0], [0, 0], 1), ([1e-17, 0], [0, 0], 1),
    ([1e-20, 0], [1, 0], 1),
    ([1, 1], [1e-20, 0], .5 ** .5), ([1e-38, 0], [1, 0], math.nan), ([0, 0], [1, 2], math.nan),
    ([1, 2], [0, 0], math.nan), ([1, 0], [0, 1], 0), ([1, 2], [-1, -2], -1),
    ([math.nan, 1], [1, 1], math.nan), ([math.inf, 1], [1, 1], math.nan),
    ([math.inf, 1], [0, 1], math.nan), ([True, False], [True, False], 1)])
def test_cosine_of_scalars_zeros_and_what_is_not_finite(x, y, cosine):
    value = metrics.compare(np.array(x), np.array(y)).cosine_similarity
    np.testing.assert_allclose(value, cosine, 1e-12)


def test_zeros_of_the_golden_tensor_are_left_out_of_relative_errors():
    values = metrics.compare(np.array([3., 9., 1., 2.]), np.array([2., 0., 1e-17, -2.]))
    assert values.accumulated_relative_error == 2.5
    assert values.max_relative_error == 2
    assert values.mean_relative_error == 2.5 / 4  # zeros count as elements
    assert metrics.compare(np.ones(3), np.zeros(3)).relative_euclidean_distance == 0


@pytest.mark.parametrize('x, y, divergence', [
    ([0, 0, 0], [1, 2, 3], 4.852030), ([1, 2, 3], [0, 0, 0], .462097), ([0, 0], [0, 0], 0),
    ([5, 5, 5], [7, 7, 7], 0), ([-5, -5], [7, 7], 0),
    ([1, 2, 3], [10, 20, 30], 0)])
def test_divergence_of_constant_and_of_scaled_tensors(x, y, divergence):
    value = metrics.compare(np.array(x), np.array(y)).kullback_leibler_divergence
    np.testing.assert_allclose(value, divergence, atol=1e-6)


def test_divergence_is_finite_where_a_probability_is_zero():
    value = metrics.compare(np.array([1., 0., .5]), np.array([0., 1., .5]))
    assert value.kullback_leibler_divergence == pytest.approx(
        plain_divergence(np.array([1., 0., .5]), np.array([0., 1., .5])), 1e-6)


@pytest.mark.parametrize('x, y, text', [
    ([1, 3], [-2, -2], '(2.000;1.000),(-2.000;0.000)'),
    ([0.0007, 0.0007], [-0.0012, -0.0012], '(0.000;0.000),(-0.001;0.000)'),
    ([1e6 + 1, 1e6 + 3], [0, 1], '(1000002.000;1.000),(0.500;0.500)'),
    ([math.nan, 1], [math.inf, 1], '(NaN;NaN),(inf;NaN)')])
def test_standard_deviation_is_a_text_of_three_decimals(x, y, text):
    assert metrics.compare(np.array(x), np.array(y)).standard_deviation == text


def test_booleans_have_only_cosine_and_euclidean_distance():
    x, y = np.array([True, True, False, True]), np.array([True, True, True, False])
    values = metrics.compare(x, y)
    assert values.cosine_similarity == pytest.approx(2 / 3)
    assert values.relative_euclidean_distance == pytest.approx(math.sqrt(2 / 3))
    others = [value for name, value in values._asdict().items()
              if name not in ('cosine_similarity', 'relative_euclidean_distance')]
    assert [str(value).lower() for value in others] == ['nan'] * 8


def test_complex_numbers_are_compared_by_their_parts():
    x, y = np.array([1 + 2j, 3 - 1j], np.complex64), np.array([1 + 1j, 2 - 1j], np.complex128)
    assert_equals = plain([1, 2, 3, -1], [1, 1, 2, -1])
    values = metrics.compare(x, y)
    assert {name: pytest.approx(value) for name, value in assert_equals.items()} == {
        name: getattr(values, name) for name in assert_equals}
    assert metrics.compare(x[::-1], np.array([3, 1])).max_absolute_error == 2


def test_nothing_is_defined_for_empty_tensors():
    values = metrics.compare(np.zeros((0, 3)), np.zeros((4, 0)))._asdict()
    assert values.pop('standard_deviation') == 'NaN'
    assert all(math.isnan(value) for value in values.values())


def test_what_is_not_finite_shows_in_every_error(tensors, recwarn):
    x, y = (v.copy() for v in tensors)
    x[2, 3, 4] = np.nan
    values = metrics.compare(x, y)
    assert values.standard_deviation.startswith('(NaN;NaN),(1.')
    assert all(math.isnan(value) for name, value in values._asdict().items()
               if name != 'standard_deviation')
    x[2, 3, 4] = np.inf
    values = metrics.compare(x, y)
    assert math.isnan(values.cosine_similarity)
    assert values.max_absolute_error == values.mean_relative_error == math.inf
    y[2, 3, 4] = np.nan
    assert math.isnan(metrics.compare(x, y).max_relative_error)
    assert not recwarn.list


def test_values_beyond_float32_become_infinite_without_a_warning(recwarn):
    assert metrics.compare(np.array([1e300, 1]), np.ones(2)).max_absolute_error == math.inf
    assert not recwarn.list


@pytest.mark.parametrize('function', [metrics.compare, lambda x, y: metrics.errors(x, y, 0, 0)])
@pytest.mark.parametrize('array', [
    np.array(['a', 'b']), np.array([None, 1]), np.array([b'ab', b'c']),
    np.zeros(2, 'datetime64[s]'), np.zeros(2, [('a', 'i4')])])
def test_what_is_no_number_is_refused(function, array):
    with pytest.raises(UserError, match='elements of type .* cannot be compared'):
        function(array, np.ones(2))


def test_sizes_must_be_equal():
    with pytest.raises(UserError, match='^sizes differ: 6 and 5 elements$'):
        metrics.compare(np.zeros((2, 3)), np.zeros(5))


@pytest.mark.parametrize('strided', [False, True])
def test_memory_is_bounded(strided):
    x, y = np.ones((2000, 2000), np.float32), np.ones((2000, 2000), np.float16)
    x = x.T if strided else x
    tracemalloc.start()
    try:
        metrics.compare(x, y)
        metrics.errors(x + 1, y, 1e-3, 1e-3, limit=10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6 + x.nbytes    # of the x + 1 above


def test_differing_elements_are_found_without_a_python_loop():
    random = np.random.RandomState(0)
    y = random.randn(1000, 1000).astype(np.float32)
    x = y.copy()
    x.flat[[5, 700000, 999999]] += np.float32([.5, -7, 2])
    found = metrics.errors(x, y, 1e-3, 1e-3)
    assert found.indices.tolist() == [700000, 999999, 5]
    assert found.left.tolist() == x.flat[[700000, 999999, 5]].tolist()
    assert found.right.tolist() == y.flat[[700000, 999999, 5]].tolist()
    assert (found.total, found.count, found.share, found.allclose) == (10 ** 6, 3, 3e-6, False)
    assert found.cosine == pytest.approx(metrics.compare(x, y).cosine_similarity)


@quick
@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), max_size=50),
       st.sampled_from([0, 1e-3, 1]), st.sampled_from([0, 1e-3, .5]))
def test_differing_elements_are_those_of_numpy(pairs, atol, rtol):
    x, y = np.array(pairs, np.float32).reshape(-1, 2).T
    wide = x.astype(np.float64), y.astype(np.float64)
    with np.errstate(all='ignore'):
        far = np.flatnonzero(~np.isclose(*wide, rtol=rtol, atol=atol))
        difference = np.abs(wide[0] - wide[1])[far]
    difference[np.isnan(difference)] = np.inf
    found = metrics.errors(x, y, atol, rtol)
    assert sorted(found.indices) == far.tolist()
    assert found.indices.tolist() == far[np.argsort(-difference, kind='stable')].tolist()
    assert found.allclose == np.allclose(*wide, rtol=rtol, atol=atol)
    assert found.share == (len(far) / len(x) if len(x) else 0)


def test_only_the_worst_are_returned():
    x = np.arange(40000.)
    found = metrics.errors(x, np.zeros(40000), .5, 0, limit=3)
    assert found.count == 39999 and found.indices.tolist() == [39999, 39998, 39997]


def test_the_shorter_is_continued_with_zeros():
    found = metrics.errors(np.ones(3), np.ones(20000), 0, 0)
    assert found.total == 20000 and found.count == 19997 and found.indices[0] == 3
    assert found.cosine == pytest.approx(3 / math.sqrt(3 * 20000))
    assert metrics.errors(np.array([1., 0, 0]), np.ones(1), 0, 0).allclose
