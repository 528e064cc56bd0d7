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


def define(
    name: str,
    native: Callable[..., Array],
    cpu: Callable[..., Array],
    tpu: Callable[..., Array] | None = None,
) -> Primitive:
    """A primitive of arrays with forms for CPUs, for TPUs and for all else, and its batching.

    Args:
      name: what it is called in printed programs.
      native: its form, ``(*arrays, **options) -> array``; options are hashable.
      cpu: the same function as CPUs run it best.
      tpu: the same function as TPUs run it best; ``native`` if None.

    Returns:
      The primitive, without rules for its derivatives.
    """
    primitive = Primitive(name)
    tpu = native if tpu is None else tpu

    def outside_jit(*operands: Array, **options: Any) -> Array:
        forms = {"cpu": cpu, "tpu": tpu, "default": native}
        chosen = {platform: partial(form, **options) for platform, form in forms.items()}
        return lax.platform_dependent(*operands, **chosen)

    def shape(*operands: Any, **options: Any) -> Any:
        result = jax.eval_shape(partial(native, **options), *operands)
        return operands[0].update(shape=result.shape, dtype=result.dtype)

    def batched(operands: Any, axes: Any, /, **options: Any) -> tuple[Array, int]:
        return jax.vmap(partial(native, **options), axes)(*operands), 0

    primitive.def_impl(outside_jit)
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(native, multiple_results=False))
    for platform, form in (("cpu", cpu), ("tpu", tpu)):
        lowered = mlir.lower_fun(form, multiple_results=False)
        mlir.register_lowering(primitive, lowered, platform=platform)
    batching.primitive_batchers[primitive] = batched
    return primitive
