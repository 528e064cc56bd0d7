"""Keeps a jaxlib whose CPU back end computes wrong sums from doing so.

jaxlib 0.10.2 hands products and sums to YNNPACK and gets wrong values for some of them: of 40,000
points in three dimensions, ``jnp.sum(jnp.square(matrix @ points.T), axis=0)`` has 7,222 wrong ones
in float32, and wrong ones in float64 too. An empty list of what is handed over turns that off. XLA
reads its flags once, when JAX starts its first back end.

Source: JAX issue 39103; `docs/studies/ynnpack.py` tries many forms on any version.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import MutableMapping

import jax.extend.backend
import jaxlib
from jax._src import xla_bridge  # no public name says whether a back end has started

FLAG = "--xla_cpu_experimental_ynn_fusion_type"
FAULTY = ("0.10.2",)


def turn_off(
    version: str = jaxlib.__version__, environment: MutableMapping[str, str] = os.environ
) -> None:
    """Sets XLA's flag for a faulty jaxlib, or warns that JAX has started without it.

    Nothing is done for another jaxlib, nor where ``XLA_FLAGS`` has this flag with any value.

    Args:
      version: jaxlib's version.
      environment: the variables to read and to set.
    """
    flags = environment.get("XLA_FLAGS", "")
    if version not in FAULTY or FLAG in flags:
        return
    if not xla_bridge.backends_are_initialized():
        environment["XLA_FLAGS"] = f"{flags} {FLAG}=".strip()
    elif "cpu" in jax.extend.backend.backends():
        warnings.warn(
            f"jaxlib {version} computes wrong sums on the CPU, and JAX had started before l2t_jax "
            f"was imported. Import l2t_jax first, or set XLA_FLAGS={FLAG}= in the environment, or "
            "install another jaxlib.",
            stacklevel=3,
        )
