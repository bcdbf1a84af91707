"""Work on several cores."""

import multiprocessing
import os


def usable_cores():
    """The cores this process may use, which containers and batch systems restrict."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(function, items, processes=None, chunksize=8):
    """Yield `function(item)` for each item, in order, from worker processes.

    Args:
        function: a module-level function (workers import it by name).
        processes: number of workers; None takes all usable cores; 1 stays in this process.
        chunksize: items that a worker takes at once; 1 for items of uneven size.
    """
    items = list(items)
    processes = min(processes or usable_cores(), max(len(items), 1))
    if processes == 1:
        yield from map(function, items)
        return
    # 'spawn': forking a process that has TensorFlow's threads can hang.
    with multiprocessing.get_context('spawn').Pool(processes) as pool:
        yield from pool.imap(function, items, chunksize)
