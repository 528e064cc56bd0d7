"""Says in one line which packages of the commands are not installed.

Commands import this module before all others. Otherwise a missing package would end them in a
traceback.
"""

from __future__ import annotations

import importlib.util
import sys

# The packages of the extra `experiments`, each with the name of its module. TensorFlow Datasets is
# not among them: `data.tfds` checks for it when it reads one of its sets.
PACKAGES = {
    "absl-py": "absl",
    "grain": "grain",
    "matplotlib": "matplotlib",
    "orbax-checkpoint": "orbax.checkpoint",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "tqdm": "tqdm",
    "tyro": "tyro",
}
INSTALL = 'pip install "l2t_jax[experiments]"'


def is_installed(module: str) -> bool:
    """Whether a module can be found. It is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the package that holds it is missing
        return False


if missing := [name for name, module in PACKAGES.items() if not is_installed(module)]:
    print(
        f"error: the commands need packages that are not installed ({', '.join(missing)}); "
        f"install them: {INSTALL}",
        file=sys.stderr,
    )
    sys.exit(2)
