"""Experiments with the library: data, training, commands; see `experiments.train` to begin with."""

import ctypes
import sys


def keep_memory() -> None:
    """Has glibc keep what large arrays took, for the next ones.

    It would give it back to the system at the end of each step and take it anew in the next, where
    each page of it is zeroed first.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no array is mapped by itself
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: nothing goes back
        libc.mallopt(-8, 1)  # M_ARENA_MAX: all threads share what is kept


if sys.platform == "linux":
    keep_memory()
