"""Settings of the process, made when `experiments` is imported."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import MutableMapping
from importlib import metadata

EMITTERS = "--xla_cpu_use_fusion_emitters"
# XLA refuses to start with a flag that it does not know, and newer versions were not measured.
MEASURED = ("0.10.2",)


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


def divide_loops(
    version: str | None = None, environment: MutableMapping[str, str] = os.environ
) -> None:
    """Makes XLA divide elementwise loops over a CPU's cores, before JAX has started.

    By default jaxlib 0.10.2 takes new emitters for them, whose loops run on one core, as if there
    were no other. A plain training step took 15 to 20 % longer on two cores with those, and as long
    on one (docs/benchmarks.md). Nothing is done for another jaxlib, nor where ``XLA_FLAGS`` has
    this flag with any value.

    Args:
      version: jaxlib's; that of the one that is installed if None.
      environment: the variables to read and to set.
    """
    flags = environment.get("XLA_FLAGS", "")
    if EMITTERS not in flags and (version or metadata.version("jaxlib")) in MEASURED:
        environment["XLA_FLAGS"] = f"{flags} {EMITTERS}=false".strip()
