"""Python in a process that has neither this project nor Flax, as on a machine that serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MISSING = ("l2t_jax", "l2t_jax_experiments", "experiments", "flax")


def run(code: str, folder: Path) -> str:
    """What the code prints, run in a folder."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({MISSING}))\n"
    # The library sets XLA's flags for the processes that it starts too.
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", hidden + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=kept | {"PYTHONPATH": "", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
