"""Memory of a process through which frames go by the thousand: as much at the end as at the beginning."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
# Smaller blocks are not worth the 256 page faults a MiB that a mapping of their own costs.
_LARGE_BYTES = 2**20


def keep_memory_steady() -> None:
    """Has frames reuse each other's memory from now on, where the C library is glibc.

    Its arenas, one for each few threads, keep and return megabytes as it happens: memory goes up and down by
    more than all frames take that are there at once. One arena that returns nothing stays as it is. For
    programs whose frames come one after the other, not for libraries: it holds for the whole process. Call it
    when the model is loaded.
    """
    _set({_M_ARENA_MAX: 1, _M_TRIM_THRESHOLD: 2**31 - 1, _M_MMAP_MAX: 0})


def give_memory_back() -> None:
    """Has large blocks go back to the system as soon as they are free, where the C library is glibc.

    For servers, which keep some frames for minutes among many that are gone at once: in a heap the kept ones
    lie between holes that the next ones do not fit, and it grows for as long as requests come. `trim_memory`
    from time to time does the same for smaller blocks. It holds for the whole process. Call it when the model
    is loaded.
    """
    # Set, the threshold stays; otherwise glibc raises it to the size of each large block that is freed.
    _set({_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _LARGE_BYTES})


def trim_memory() -> None:
    """Gives the heap's free pages back to the system, also those between blocks in use."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _set(options: dict[int, int]) -> None:
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)


def _of_glibc(name: str) -> Callable[..., int] | None:
    try:
        return getattr(ctypes.CDLL(None), name)
    # No such function, or, on Windows, no such library.
    except (OSError, AttributeError, TypeError):
        return None
