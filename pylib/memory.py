"""What glibc does with the memory that a process frees; elsewhere nothing is changed.

docs/performance.md has the price of its defaults.
"""

import ctypes

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def share_freed_memory():
    """Let any thread have what another has freed; by default most have heaps of their own.

    Call before there are threads, which keep the heaps they have.
    """
    _call('mallopt', M_ARENA_MAX, 1)


def keep_freed_memory():
    """Let this process keep what it frees, for whatever thread allocates next.

    By default large blocks, above 32 MB in any case, go back to the system and are fetched again
    page by page. Threads that are there already keep heaps of their own, see `share_freed_memory`.
    """
    share_freed_memory()
    _call('mallopt', M_MMAP_MAX, 0)
    _call('mallopt', M_TRIM_THRESHOLD, -1)
    _call('mallopt', M_TOP_PAD, 1 << 26)


def release_freed_memory():
    """Give back what is free now: after work that took more memory than what follows will."""
    _call('malloc_trim', 0)


def _call(name, *arguments):
    # Windows has no such library, other systems have no such function.
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (TypeError, OSError, AttributeError):
        return
    function(*arguments)
