"""How exactly products are computed, by the name of ``--precision``.

An accelerator rounds the operands of float32 products unless it is told not to: to bfloat16 on a
TPU, to TensorFloat-32 on a GPU.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import jax

Name = Literal["float32", "tensorfloat32", "bfloat16"]

# By JAX's names. With bfloat16 only the networks' convolutions are rounded, by `operands`.
PRODUCTS = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "highest"}


def products(name: str) -> AbstractContextManager[None]:
    """A context in which programs are traced whose float32 products have this precision."""
    return jax.default_matmul_precision(PRODUCTS[name])


def operands(name: str) -> str | None:
    """The type that the networks' convolutions round their operands to; None for none."""
    return "bfloat16" if name == "bfloat16" else None
