"""Settings of the process, made when `experiments` is imported."""

from __future__ import annotations

import ctypes
import sys


def keep_memory() -> None:
    """Makes glibc keep the memory of large arrays for the next ones.

    By default it gives the memory back to the system after each step. The next step takes it again,
    and the system zeroes each page first. Elsewhere than on Linux with glibc nothing is done.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: map no array by itself
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: give nothing back
        libc.mallopt(-8, 1)  # M_ARENA_MAX: let all threads share what is kept
