"""Work on several cores, and memory for it."""

import contextlib
import ctypes
import multiprocessing
import os

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


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


def keep_freed_memory():
    """Let this process keep the memory it frees, for what it allocates next.

    Otherwise glibc gives large blocks, above 32 MB in any case, back to the system and fetches them
    again, page by page (docs/performance.md has the price). Elsewhere nothing is changed.
    """
    # Windows has no such library, other systems have no such function.
    with contextlib.suppress(TypeError, OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_TOP_PAD, 1 << 26)
