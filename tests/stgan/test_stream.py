"""The one stream of training samples."""

import functools
import threading
import time

import numpy as np

from stgan.stream import Course, SampleStream, changed_course


def test_stream_uses_every_sample_once_a_pass():
    """The whole set is shuffled, not a window of 4096."""
    stream = SampleStream(10000, seed=1)
    first, second = stream.samples(0, 10000), stream.samples(10000, 10000)
    assert sorted(first) == sorted(second) == list(range(10000))
    assert (first != second).any()
    assert first[:100].max() > 9000     # late samples come early
    np.testing.assert_array_equal(stream.samples(9990, 20), np.r_[first[-10:], second[:10]])
    assert (SampleStream(10000, seed=2).samples(0, 100) != first[:100]).any()


def test_stream_replaces_bad_samples_by_others_of_the_pass():
    stream = SampleStream(10, seed=0)
    whole = stream.samples(0, 20)
    stream.bad.add(whole[3])
    seen = stream.samples(0, 20)
    assert whole[3] not in seen
    assert seen[3] == whole[4]
    assert (seen != whole).sum() == 2    # once in each pass


def test_resuming_reads_no_image_twice():
    """O(1): a place in the stream costs two permutations, wherever it is."""
    stream = SampleStream(1000, seed=0)
    began = time.perf_counter()
    stream.samples(10 ** 12, 32)
    assert time.perf_counter() - began < 1
    assert stream._drawn.cache_info().misses <= 2


def test_another_order_is_still_once_a_pass():
    stream, other = SampleStream(50, seed=0), SampleStream(50, seed=0)
    other.reorder(70)
    seen, changed = (each.samples(0, 150) for each in (stream, other))
    np.testing.assert_array_equal(seen[:70], changed[:70])
    assert (seen[70:100] != changed[70:100]).any() and (seen[100:] != changed[100:]).any()
    for start in (0, 50, 100):
        assert sorted(changed[start:start + 50]) == list(range(50))


def test_an_order_drawn_while_another_is_asked_for_is_not_kept():
    """A thread that reads ahead is in the middle of drawing when a rollback changes the order."""
    stream, drawing, reordered = SampleStream(50, seed=0), threading.Event(), threading.Event()

    def delayed(*arguments):
        permutation = SampleStream._draw_permutation(stream, *arguments)
        if not reordered.is_set():
            drawing.set()
            assert reordered.wait(30)
        return permutation
    stream._drawn = functools.lru_cache(maxsize=2)(delayed)
    ahead = threading.Thread(target=stream.samples, args=(0, 1))
    ahead.start()
    assert drawing.wait(30)
    stream.reorder(10)
    reordered.set()
    ahead.join()
    fresh = SampleStream(50, seed=0)
    fresh.reorder(10)
    np.testing.assert_array_equal(stream.samples(0, 50), fresh.samples(0, 50))


def test_target_labels_take_an_order_of_their_own_for_every_batch():
    """Permutations, drawn anew for each batch of each run."""
    def orders(seed):
        return [SampleStream(100, seed).target_order(number, 32).tolist() for number in range(20)]
    first = orders(seed=3)
    assert all(sorted(order) == list(range(32)) for order in first)
    assert len(set(map(tuple, first))) == 20
    assert first == orders(seed=3) and not set(map(tuple, first)) & set(map(tuple, orders(seed=4)))


def test_a_batch_of_several_workers_is_as_large_as_all_theirs():
    course = Course(4, updates=3, changes=[(0, 2)])
    assert [course.position(number) for number in range(4)] == [0, 8, 16, 24]
    assert course.iterations(100) == 4 and course.lead(100) == 0 and course.workers == 2
    assert Course(4).position(5) == 20


def test_the_stream_goes_on_where_the_number_of_workers_changes():
    """12 images an iteration and worker: 1 worker to 5, 4 to 7, then 2."""
    course = Course(4, updates=3, changes=[(0, 1), (5, 4), (7, 2)])
    taken = [0]
    for number in range(30):
        workers = 1 if number < 15 else 4 if number < 21 else 2
        taken.append(taken[-1] + 4 * workers)
    assert [course.position(number) for number in range(31)] == taken
    assert course.first == 21


def test_the_schedule_keeps_its_place_in_the_epoch():
    """Of 240 images one worker makes 20 iterations, two make 10."""
    images = 240
    assert Course(4, 3, [(0, 1), (20, 2)]).lead(images) == 10 - 20    # an epoch, of 10 now
    assert Course(4, 3, [(0, 1), (30, 2)]).lead(images) == 15 - 30    # and a half
    assert Course(4, 3, [(0, 1), (31, 2)]).lead(images) == 15 - 31
    assert Course(4, 3, [(0, 2), (10, 1)]).lead(images) == 20 - 10
    back = Course(4, 3, [(0, 1), (20, 2), (25, 1)])
    assert back.lead(images) == 30 - 25


def test_changes_of_the_number_of_workers():
    assert changed_course([], 0, 2) == [(0, 2)]
    assert changed_course([(0, 2)], 0, 1) == [(0, 1)]        # nothing was trained
    assert changed_course([(0, 2)], 5, 2) == [(0, 2)]
    assert changed_course([(0, 2)], 5, 1) == [(0, 2), (5, 1)]
    assert changed_course([(0, 2), (5, 1)], 5, 2) == [(0, 2)]
    assert changed_course([(0, 2), (5, 1)], 3, 4) == [(0, 2), (3, 4)]    # went back
