"""Where compiled programs are kept between tests and between runs of them.

Most of the tests' time goes into compiling. The folder is the user's own, so that a fresh clone
finds what another has compiled. Delete it at any time.
"""

import hashlib
import os
import platform
from pathlib import Path

import jax

LARGEST = 4 * 2**30


def folder() -> Path:
    """One for each kind of processor: programs are compiled for its instructions."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    processor = platform.machine() + platform.processor()
    known = Path("/proc/cpuinfo")
    if known.exists():
        lines = known.read_text().splitlines()
        processor += next((line for line in lines if line.startswith("flags")), "")
    return caches / "l2t_jax_tests" / hashlib.sha256(processor.encode()).hexdigest()[:16]


def keep() -> None:
    """Has JAX keep them there, in this process and in those that it starts."""
    settings = {
        "jax_compilation_cache_dir": str(folder()),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    for name, value in settings.items():
        if name.upper() not in os.environ:
            os.environ[name.upper()] = str(value)
            jax.config.update(name, value)


def clear_if_large() -> None:
    """Deletes all when it has grown too much, as it does while code is edited."""
    files = [path for path in folder().glob("*") if path.is_file()]
    if sum(path.stat().st_size for path in files) > LARGEST:
        for path in files:
            path.unlink(missing_ok=True)
