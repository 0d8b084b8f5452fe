"""Memory that a step frees stays with the process for the next step."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt, malloc.h
_TRIM_BYTES, _MMAP_BYTES = 2**31 - 1, 2**30


def keep_freed_memory() -> bool:
    """Ask glibc not to hand freed memory back to the system, for the rest of this process.

    A training step on a CPU frees what the next one asks for again. By default glibc hands much of it back, and each
    page is then zeroed anew: a tenth of the CPU time of the demo's training.

    Returns:
        Whether it was asked; another C library is left as it is.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _TRIM_BYTES) and mallopt(_MMAP_THRESHOLD, _MMAP_BYTES))
