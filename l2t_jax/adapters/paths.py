"""Feature maps chosen by their paths in a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2t_jax._typing import Array

Mode = Callable[[bool], Mapping[str, Any]]

_CALL = "__call__"


def jax_arrays(images: Any) -> Any:
    """NumPy's arrays as JAX's, so that a module sees one type, whoever calls it."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, images
    )


class Path(NamedTuple):
    """Which output of a network is wanted.

    Attributes:
      name: names of modules, and of a method or a sown value, joined by slashes.
      call: which of its outputs, where it has several.
    """

    name: str
    call: int | None

    def __str__(self) -> str:
        return self.name if self.call is None else f"{self.name}[{self.call}]"


def parse(features: Sequence[str]) -> tuple[Path, ...]:
    """Paths from strings such as ``stage1/block2`` or ``block[3]``.

    Raises:
      ValueError: a single string instead of several, or none at all.
    """
    if isinstance(features, str) or not features:
        raise ValueError(f"features must be paths of at least one feature map (got {features!r})")
    found = [re.fullmatch(r"(.*?)(?:\[(\d+)\])?", feature) for feature in features]
    return tuple(Path(m[1], int(m[2]) if m[2] else None) for m in found if m)


def name_of(modules: Sequence[Any], method: str) -> str:
    """The name of a module's method; a call has the module's own."""
    return "/".join(map(str, [*modules, *([] if method == _CALL else [method])]))


def flatten(seen: Mapping[Any, Any]) -> dict[str, tuple[Any, ...]]:
    """All outputs of each name, from nested dicts of what was captured.

    Args:
      seen: names to dicts of the same kind, or to tuples of outputs.

    Example:
      >>> flatten({"block": {"__call__": (1, 2), "conv": {"__call__": (3,)}}})
      {'block': (1, 2), 'block/conv': (3,)}
    """
    flat: dict[str, tuple[Any, ...]] = {}

    def walk(tree: Mapping[Any, Any], modules: tuple[Any, ...]) -> None:
        for key, value in tree.items():
            if isinstance(value, Mapping):
                walk(value, (*modules, key))
            else:
                flat[name_of(modules, str(key))] = value if isinstance(value, tuple) else (value,)

    walk(seen, ())
    return {name: outputs for name, outputs in flat.items() if name}


def choices(seen: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The arrays among the outputs by the paths that choose them."""
    return {
        str(Path(name, index if len(outputs) > 1 else None)): output
        for name, outputs in seen.items()
        for index, output in enumerate(outputs)
        if hasattr(output, "shape")
    }


def select(
    seen: Mapping[str, tuple[Any, ...]],
    wanted: Sequence[Path],
    every: Callable[[], Mapping[str, jax.ShapeDtypeStruct]],
) -> tuple[Array, ...]:
    """The wanted outputs, in the order wanted.

    Args:
      seen: outputs by name, as from `flatten`.
      wanted: the paths.
      every: gives all paths that there are, for the error.

    Raises:
      ValueError: a path that is not there, that is no array, or that was reached several times
        where the path does not say which.
    """
    there = choices({path.name: seen[path.name] for path in wanted if path.name in seen})
    # Also the first of one: nothing but its being the only one tells the two apart.
    there |= {f"{name}[0]": value for name, value in there.items() if not name.endswith("]")}
    problems = [str(path) for path in wanted if str(path) not in there]
    if problems:
        listed = ", ".join(f"{name} {list(leaf.shape)}" for name, leaf in every().items())
        raise ValueError(
            f"features must be among the network's maps {listed} (got {', '.join(problems)})"
        )
    return tuple(there[str(path)] for path in wanted)


def logits_alone(outputs: Any) -> Array:
    """What a network gives beside feature maps that were chosen by path.

    Raises:
      ValueError: it is no array.
    """
    if not hasattr(outputs, "shape"):
        raise ValueError(
            "the network must give logits alone, one array, where feature maps are chosen by path "
            f"(got {type(outputs).__name__})"
        )
    return outputs


def logits_and_maps(outputs: Any) -> tuple[Array, tuple[Array, ...]]:
    """What a network gives where no feature maps are chosen by path.

    Args:
      outputs: ``(logits, feature maps)``, or logits alone where nothing is matched.

    Raises:
      ValueError: they are neither.
    """
    if hasattr(outputs, "shape"):
        return outputs, ()
    if not isinstance(outputs, tuple | list) or len(outputs) != 2:
        raise ValueError(
            "the network must give logits, or (logits, feature maps) (got "
            f"{type(outputs).__name__})"
        )
    logits, maps = outputs
    return logits, tuple(maps)
