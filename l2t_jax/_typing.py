"""Names for shape annotations.

The annotations document shapes everywhere. The tests check them, by jaxtyping's import hook; for
that they import jaxtyping before this package. A user's program neither needs nor imports it.
"""

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
from jax import Array

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Int, Integer
else:

    class _Unchecked:
        def __class_getitem__(cls, item: Any) -> Any:
            return item[0]

    Bool = Float = Int = Integer = _Unchecked

PyTree: TypeAlias = Any
# Of an axis: an int, or where a program is exported a symbol for any.
Size: TypeAlias = Any
ArrayOrShape: TypeAlias = Array | jax.ShapeDtypeStruct

__all__ = ["Array", "ArrayOrShape", "Bool", "Float", "Int", "Integer", "PyTree", "Size"]
