"""The packages of the wheel; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

# A package named `experiments` would be in the way of others' in an environment.
COMMANDS, INSTALLED = "experiments", "l2t_jax_experiments"

setup(
    packages=[
        *find_packages(include=["l2t_jax", "l2t_jax.*"]),
        *(
            name.replace(COMMANDS, INSTALLED, 1)
            for name in find_packages(include=[COMMANDS, f"{COMMANDS}.*"])
        ),
    ],
    package_dir={INSTALLED: COMMANDS},
)
