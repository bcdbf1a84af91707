"""TensorFlow's errors in one line."""

import contextlib
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


def reason(error):
    """What one of `ERRORS` says, in one line."""
    return utils.reason(error) or type(error).__name__


def failure(error, place, less_memory, way_out):
    """The RunFailed that tells of one of `ERRORS`.

    Args:
        place: where it happened.
        less_memory: what to do if memory was short, such as 'lower --batch_size'; way_out: what to
            do otherwise.
    """
    if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)):
        return RunFailed(f'{place}: out of memory ({reason(error)}); {less_memory}')
    return RunFailed(f'{place}: TensorFlow failed ({reason(error)}); {way_out}')


@contextlib.contextmanager
def one_line(place, less_memory, way_out='repeat the command'):
    """Context of work whose `ERRORS` become a RunFailed; see `failure`."""
    try:
        yield
    except ERRORS as error:
        raise failure(error, place, less_memory, way_out) from None
