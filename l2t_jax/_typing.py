"""Names for shape annotations.

The annotations document shapes everywhere. They are *checked* only where jaxtyping was imported
before this package, as the tests do; a user's program neither needs jaxtyping nor pays for it.
"""

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
from jax import Array

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Float, Int, Num
else:

    class _Unchecked:
        def __class_getitem__(cls, item: Any) -> Any:
            return item[0]

    Float = Int = Num = _Unchecked

PyTree: TypeAlias = Any
ArrayOrShape: TypeAlias = Array | jax.ShapeDtypeStruct

__all__ = ["Array", "ArrayOrShape", "Float", "Int", "Num", "PyTree"]
