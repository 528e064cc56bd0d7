"""PyTorch's parameter names and layouts to and from a network's variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2t_jax.base import Variables
from l2t_jax.pytorch.prefixes import shown, without_prefixes

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_PARTS = ("params", "batch_stats")
# Axes of the kernels, by their rank.
_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0)}
_FROM_TORCH = {4: (2, 3, 1, 0), 2: (1, 0)}
# Of what does not fit, as much as a person reads.
LISTED = 5


def torch_names(variables: Variables) -> dict[str, tuple[str, ...]]:
    """PyTorch's name of every array of a network, and its path in the variables.

    A Linen path joined by dots *is* PyTorch's name once the last part is renamed (kernel and
    scale to weight, mean to running_mean, var to running_var), because the bundled modules are
    named that way.

    Args:
      variables: the network's variables or their shapes.

    Returns:
      ``{torch name: (collection, module, …, leaf)}``.

    Example:
      >>> from l2t_jax.models import vgg
      >>> network = vgg(9, classes=10)
      >>> variables = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))
      >>> torch_names(variables)["features.1.running_var"]
      ('batch_stats', 'features.1', 'var')
    """
    names = {}
    for path in _flatten(variables):
        *modules, leaf = path[1:]
        names[".".join([*modules, _LEAVES.get(leaf, leaf)])] = path
    return names


def from_torch(
    state_dict: Mapping[str, Any],
    like: Variables,
    *,
    ignore: Sequence[str] = ("*num_batches_tracked", "n_averaged"),
) -> Variables:
    """Variables with the values of a PyTorch state dict.

    Convolution kernels go from (out, in, h, w) to (h, w, in, out), linear ones from (out, in) to
    (in, out); all else stays as it is.

    Args:
      state_dict: names to arrays, in PyTorch's layout. Usual prefixes, such as ``module.``, may
        stand before all names.
      like: variables of the network or their shapes, which give structure and dtypes. Parts that
        PyTorch has no name for, such as dropout keys, are kept.
      ignore: patterns of names that may be there without being used.

    Returns:
      The variables.

    Raises:
      ValueError: entries are missing, unexpected or of another shape; the first of each kind are
        listed, the file's names beside the network's.

    Example:
      >>> from l2t_jax.models import cifar_resnet
      >>> network = cifar_resnet(8, classes=10)
      >>> variables = network.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
      >>> again = from_torch(to_torch(variables), variables)
      >>> bool(jnp.all(again.params["fc"]["kernel"] == variables.params["fc"]["kernel"]))
      True
    """
    flat = _flatten(like)
    names = torch_names(like)
    given = state_dict
    if not names.keys() <= given.keys():  # the file's names, or the network's, have a prefix
        bare, bare_names = without_prefixes(given), without_prefixes(names)
        if len(bare.keys() & bare_names.keys()) > len(given.keys() & names.keys()):
            given, names = bare, bare_names
    problems: dict[str, list[str]] = {"missing": [], "of another kind": [], "unexpected": []}
    new = {}
    for name, path in names.items():
        shape, dtype = _torch_shape(flat[path].shape), flat[path].dtype
        if name not in given:
            problems["missing"].append(f"{name} {list(shape)}")
        elif tuple(np.shape(given[name])) != shape:
            problems["of another kind"].append(
                f"{name} {list(np.shape(given[name]))}, which must be {list(shape)}"
            )
        elif not jnp.issubdtype((value := np.asarray(given[name])).dtype, jnp.floating):
            problems["of another kind"].append(f"{name} {value.dtype}, which must be real floats")
        else:
            new[path] = jnp.asarray(_from_torch_layout(value), dtype)
    problems["unexpected"] = [
        f"{name} {list(np.shape(value))}"
        for name, value in given.items()
        if name not in names and not any(fnmatchcase(name, pattern) for pattern in ignore)
    ]
    if any(problems.values()):
        listed = [f"{kind}: {shown(found, LISTED)}" for kind, found in problems.items() if found]
        raise ValueError(
            f"the weights must be those of the network ({len(new)} of {len(names)} fit). "
            f"{'; '.join(listed)}"
        )

    def rebuild(tree: Any, path: tuple[str, ...]) -> Any:
        if isinstance(tree, Mapping):
            return {key: rebuild(value, (*path, key)) for key, value in tree.items()}
        return new[path]

    state = {
        key: rebuild(value, (key,)) if key in _PARTS else value
        for key, value in like.model_state.items()
    }
    return Variables(rebuild(like.params, ("params",)), state)


def to_torch(variables: Variables) -> dict[str, np.ndarray]:
    """The inverse of `from_torch`: PyTorch names to arrays in PyTorch's layout.

    Args:
      variables: the variables of a bundled network.

    Returns:
      Names to NumPy arrays.

    Example:
      >>> from l2t_jax.models import cifar_resnet
      >>> variables = cifar_resnet(8, classes=10).init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
      >>> to_torch(variables)["conv1.weight"].shape  # out, in, height, width
      (16, 3, 3, 3)
    """
    flat = _flatten(variables)
    return {
        name: _to_torch_layout(np.asarray(flat[path]))
        for name, path in torch_names(variables).items()
    }


def _flatten(variables: Variables) -> dict[tuple[str, ...], Any]:
    tree = {"params": variables.params}
    tree |= {key: value for key, value in variables.model_state.items() if key in _PARTS}
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {tuple(key.key for key in path): leaf for path, leaf in paths}


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in _TO_TORCH.get(len(shape), range(len(shape))))


def _to_torch_layout(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(_TO_TORCH.get(array.ndim, range(array.ndim))))


def _from_torch_layout(array: np.ndarray) -> np.ndarray:
    return array.transpose(_FROM_TORCH.get(array.ndim, range(array.ndim)))
