"""Tensors and storages as a PyTorch pickle describes them, and the arrays they stand for."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from l2t_jax.pytorch.pickles import Builders, Name

STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

MAX_DIMENSIONS = 32  # below NumPy's own limit in every version
MAX_DEPTH = 64  # of containers in containers


class Storage:
    """A flat buffer; in a legacy stream its values follow after the pickle."""

    __slots__ = ("dtype", "size", "values")

    def __init__(self, dtype: np.dtype, size: int) -> None:
        self.dtype, self.size = dtype, size
        self.values: np.ndarray | None = None


class Tensor:
    """A view into a storage, made into an array once the storage has its values."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any) -> None:
        if not (isinstance(storage, Storage) and _sizes(shape) and _sizes(strides)):
            raise ValueError("a tensor in the file is not described by a storage and integers")
        if type(offset) is not int or offset < 0:
            raise ValueError("a tensor in the file does not begin at an index of its storage")
        if len(shape) != len(strides):
            raise ValueError(f"a tensor of shape {shape} has strides {strides}")
        # No more elements than the storage has: a broadcast view could claim any amount of memory.
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        count = math.prod(shape)
        if count > storage.size or (count and last >= storage.size):
            raise ValueError(
                f"a tensor of shape {shape}, strides {strides} and offset {offset} does not fit "
                f"its storage of {storage.size} elements"
            )
        self.storage, self.offset = storage, offset
        self.shape, self.strides = tuple(shape), tuple(strides)

    def array(self) -> np.ndarray:
        """A view: arrays share memory where the tensors did, and take no more than the file."""
        values = self.storage.values
        if values is None:
            raise ValueError("the file ends before the values of one of its tensors")
        if not math.prod(self.shape):
            return np.zeros(self.shape, values.dtype)
        width = values.itemsize
        return np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, [width * s for s in self.strides]
        )


def _sizes(values: Any) -> bool:
    """Whether a shape or strides came: not too many integers that NumPy can take."""
    return (
        isinstance(values, tuple | list)
        and len(values) <= MAX_DIMENSIONS
        and all(type(value) is int and 0 <= value < 2**48 for value in values)
    )


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    del rest  # requires_grad, hooks, metadata: nothing of the values
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *rest: Any) -> Any:
    del rest
    return tensor


def _size(shape: Any) -> Any:
    if not _sizes(shape):
        raise ValueError("a torch.Size must be of integers, and not too many (got something else)")
    return shape


BUILDERS: Builders = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): _size,
    **{("torch", name): None for name in STORAGES},
}


def refer_to(find: Callable[[np.dtype, str, int, Any], Storage]) -> Callable[[Any], Storage]:
    """A reader of the persistent ids that stand for storages.

    Args:
      find: gives a storage by its type, key, size in elements, and view metadata.

    Returns:
      What reads an id. It raises a ValueError for any other.
    """

    def refer(pid: Any) -> Storage:
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
            raise ValueError(f"the file refers to {reprlib.repr(pid)}; only storages are read")
        _, kind, key, _, size = pid[:5]
        named = isinstance(kind, Name) and kind.module == "torch" and kind.name in STORAGES
        if not (named and isinstance(key, str | int) and type(size) is int and size >= 0):
            raise ValueError(f"the file describes a storage as {reprlib.repr(pid)}")
        return find(np.dtype(STORAGES[kind.name]), str(key), size, (*pid, None)[5])

    return refer


def arrays(tree: Any) -> Any:
    """Turns the tensors of a tree of containers into arrays, and tuples into lists.

    Raises:
      ValueError: containers lie in containers more than `MAX_DEPTH` deep.
    """
    made: dict[int, Any] = {}  # what is in the tree many times is turned once

    def turn(node: Any, depth: int) -> Any:
        if not isinstance(node, Tensor | Mapping | list | tuple) or isinstance(node, Name):
            return node
        if id(node) not in made:
            if depth > MAX_DEPTH:
                raise ValueError(f"containers must not be nested more than {MAX_DEPTH} deep")
            if isinstance(node, Tensor):
                made[id(node)] = node.array()
            elif isinstance(node, Mapping):
                made[id(node)] = {key: turn(value, depth + 1) for key, value in node.items()}
            else:
                made[id(node)] = [turn(value, depth + 1) for value in node]
        return made[id(node)]

    return turn(tree, 0)
