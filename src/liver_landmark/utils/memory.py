"""Memory of a process through which frames go by the thousand: as much at the end as at the beginning."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_memory_steady() -> None:
    """Has frames reuse each other's memory from now on, where the C library is glibc.

    Its arenas, one for each few threads, keep and return megabytes as it happens: memory goes up and down by
    more than all frames take that are there at once. One arena that returns nothing stays as it is. For
    programs, not for libraries: it holds for the whole process. Call it when the model is loaded.

    Where some frames are kept for minutes among many that are gone at once, they lie between holes that the
    next ones do not fit: call `trim_memory` every few seconds there.
    """
    _set({_M_ARENA_MAX: 1, _M_TRIM_THRESHOLD: 2**31 - 1, _M_MMAP_MAX: 0})


def trim_memory() -> None:
    """Gives the heap's free pages back to the system, also those between blocks in use.

    For servers: to give each block back at once costs page faults at every frame, a fifth of a small model's
    time on a CPU.
    """
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
