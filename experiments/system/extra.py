"""Says in one line what is missing where the commands' packages are not installed.

Commands import this module before all others; what a command imports itself would end it in a
traceback.
"""

from __future__ import annotations

import importlib.util
import sys

# What the extra `experiments` installs, and the name that each is imported by. TensorFlow Datasets
# is not among them: `data.tfds` asks for it where a set of it is read.
PACKAGES = {
    "absl-py": "absl",
    "grain": "grain",
    "matplotlib": "matplotlib",
    "orbax-checkpoint": "orbax.checkpoint",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "tqdm": "tqdm",
    "tyro": "tyro",
}
INSTALL = 'pip install "l2t_jax[experiments]"'


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of the package that it is in
        return False


if missing := [name for name, module in PACKAGES.items() if not is_installed(module)]:
    print(
        f"error: the commands need packages that are not installed ({', '.join(missing)}); "
        f"install them: {INSTALL}",
        file=sys.stderr,
    )
    sys.exit(2)
