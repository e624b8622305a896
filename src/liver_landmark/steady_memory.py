"""Memory of a process through which frames go by the thousand: as much at the end as at the beginning."""

from __future__ import annotations

import ctypes

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_memory_steady() -> None:
    """Has frames reuse each other's memory from now on, where the C library is glibc.

    Its arenas, one for each few threads, keep and return megabytes as it happens: memory goes up and down by
    more than all frames take that are there at once. One arena that returns nothing stays as it is. For
    programs, not for libraries: it holds for the whole process. Call it when the model is loaded.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    # No such function, or, on Windows, no such library.
    except (OSError, AttributeError, TypeError):
        return
    for option, value in ((_M_ARENA_MAX, 1), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_MMAP_MAX, 0)):
        mallopt(option, value)
