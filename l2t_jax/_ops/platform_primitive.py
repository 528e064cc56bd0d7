"""Primitives whose form is decided when a program is lowered for a platform.

A model that asks for a platform while it is traced, or a switch inside it, would differentiate the
form; these are differentiated first, and take their form last.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from l2t_jax._typing import Array


def define(name: str, native: Callable[..., Array], cpu: Callable[..., Array]) -> Primitive:
    """A primitive of arrays with one form for CPUs and one for all else, and its batching.

    Args:
      name: what it is called in printed programs.
      native: its form, ``(*arrays, **options) -> array``; options are hashable.
      cpu: the same function as CPUs run it best.

    Returns:
      The primitive, without rules for its derivatives.
    """
    primitive = Primitive(name)

    def outside_jit(*operands: Array, **options: Any) -> Array:
        forms = {"cpu": partial(cpu, **options), "default": partial(native, **options)}
        return lax.platform_dependent(*operands, **forms)

    def shape(*operands: Any, **options: Any) -> Any:
        result = jax.eval_shape(partial(native, **options), *operands)
        return operands[0].update(shape=result.shape, dtype=result.dtype)

    def batched(operands: Any, axes: Any, /, **options: Any) -> tuple[Array, int]:
        return jax.vmap(partial(native, **options), axes)(*operands), 0

    primitive.def_impl(outside_jit)
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(native, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    batching.primitive_batchers[primitive] = batched
    return primitive
