"""TensorFlow's own errors, provoked."""

import numpy as np
import pytest

from pylib import RunFailed
from tflib import faults, tf, utils


def run(build, feed=None):
    with tf.Graph().as_default(), utils.session() as session:
        x = tf.placeholder(tf.float32, [2])
        return session.run(build(x), {x: [1e6, 1e6] if feed is None else feed})


def too_large(x):
    return tf.fill(tf.cast(x, tf.int32), 1.)


def not_a_number(x):
    images = tf.data.make_one_shot_iterator(tf.data.Dataset.from_tensors([1., 2.])).get_next()
    return tf.debugging.check_numerics(x + images, 'sum')


def missing_file(x):
    dataset = tf.data.Dataset.from_tensors('/no/such/file').map(tf.io.read_file)
    return tf.strings.length(tf.data.make_one_shot_iterator(dataset).get_next())


@pytest.mark.parametrize('build, is_of_reading', [
    (too_large, False), (not_a_number, False), (missing_file, True)])
def test_what_was_being_done(build, is_of_reading):
    with pytest.raises(tf.errors.OpError) as error:
        run(build, [1e6, 1e6] if build is too_large else [np.nan, 1])
    assert faults.is_of_reading(error.value) is is_of_reading


@pytest.mark.parametrize('build, start, end', [
    (too_large, 'here: out of memory (OOM when allocating tensor', '); lower --edit_batch'),
    (not_a_number, 'here: TensorFlow failed (sum : Tensor had NaN values', '); repeat the command'),
    (missing_file, 'here: TensorFlow failed (No such file or directory', '); repeat the command')])
def test_one_line(build, start, end):
    with pytest.raises(RunFailed) as error, faults.one_line('here', 'lower --edit_batch'):
        run(build, None if build is too_large else [np.nan, 1])
    message = str(error.value)
    assert message.startswith(start) and message.endswith(end) and '\n' not in message


def test_memory_of_python():
    with pytest.raises(RunFailed, match=r'here: out of memory \(MemoryError\); lower it'), \
            faults.one_line('here', 'lower it'):
        raise MemoryError
