"""TensorFlow's errors in one line."""

import re

from pylib import RunFailed
from tflib import tf, utils

# Where 1.15 and 2.x say in their text that an iterator over a data set failed.
_ITERATOR = re.compile(r'\[\[(\{\{)?(node )?[\w/]*IteratorGetNext')

# What running a graph raises, whichever operation is at fault.
ERRORS = (tf.errors.OpError, MemoryError)


def is_of_reading(error):
    """Whether an error of a session run is that of its data set: nothing was computed then."""
    return isinstance(error, tf.errors.OpError) and bool(_ITERATOR.search(str(error)))


def failure(error, place, less_memory, way_out):
    """The RunFailed that tells of one of `ERRORS`.

    Args:
        place: where it happened.
        less_memory: what to do if memory was short, such as 'lower --batch_size'; way_out: what to
            do otherwise.
    """
    text = utils.reason(error) or type(error).__name__
    if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)):
        return RunFailed(f'{place}: out of memory ({text}); {less_memory}')
    return RunFailed(f'{place}: TensorFlow failed ({text}); {way_out}')
