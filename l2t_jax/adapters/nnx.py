"""From NNX modules to `l2t_jax.Network`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from l2t_jax._typing import Array, PyTree
from l2t_jax.adapters import paths
from l2t_jax.adapters.paths import Mode
from l2t_jax.base import Network, Outputs, Variables


def from_nnx(
    create: Callable[[nnx.Rngs], nnx.Module],
    *,
    features: Sequence[str] | None = None,
    mode: Mode = lambda train: {},
) -> Network:
    """An NNX module as a `l2t_jax.Network`, through `flax.nnx.split` and `flax.nnx.merge`.

    Parameters (`flax.nnx.Param`) become ``params``; all other variables, such as batch
    statistics and the random state of dropout, become the model state and are updated in training
    passes. Both are plain dicts of arrays. `nnx_variables` gives those of a module at hand.

    Args:
      create: makes the module from random streams, such as ``lambda rngs: MyNet(10, rngs=rngs)``.
        The module is put into training or evaluation mode (`flax.nnx.Module.train`, ``eval``),
        and called as ``module(images, **mode(train))``; it returns ``(logits, feature maps)``, or
        logits alone, where ``features`` are given or nothing is matched.
      features: paths of the feature maps inside of a module that was not written for this, such
        as ``("stem", "blocks/2")``: outputs of submodules, or what was sown as
        `flax.nnx.Intermediate`. Where one is called several times, ``path[i]`` is its i-th output.
      mode: keyword arguments of a call from whether it is one of training.

    Returns:
      The network.

    Raises:
      ValueError: when it is applied: a path is not there or is no array, or the variables are not
        the module's.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> class Foreign(nnx.Module):
      ...     def __init__(self, rngs):
      ...         self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
      ...         self.head = nnx.Linear(4, 2, rngs=rngs)
      ...     def __call__(self, images):
      ...         return self.head(nnx.relu(self.conv(images)).mean((1, 2)))
      >>> network = from_nnx(Foreign, features=["conv"])
      >>> variables = network.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
      >>> [f.shape for f in network.apply(variables, jnp.ones((1, 8, 8, 3)), train=True).features]
      [(1, 8, 8, 4)]
    """
    wanted = None if features is None else paths.parse(features)

    def init(key: Array, images: Any) -> Variables:
        del images
        return nnx_variables(create(nnx.Rngs(key)))

    def run(module: nnx.Module, images: Any, train: bool) -> tuple[Array, tuple[Array, ...]]:
        # Captured in any case: what was sown is no state, it would grow with every pass.
        outputs = None if wanted is None else nnx.Intermediate
        call: Any = nnx.capture(module, nnx.Intermediate, method_outputs=outputs)
        result, intermediates = call(images, **mode(train))
        if wanted is None:
            return paths.logits_and_maps(result)
        seen = paths.flatten(nnx.to_pure_dict(intermediates))
        maps = paths.select(seen, wanted, lambda: paths.choices(seen))
        return paths.logits_alone(result), maps

    def apply(variables: Variables, images: Any, *, train: bool) -> Outputs:
        # The structure is made anew in each trace, so that nothing of it outlives one.
        abstract = nnx.eval_shape(lambda: create(nnx.Rngs(0)))
        graphdef, *states = nnx.split(abstract, nnx.Param, nnx.Intermediate, ...)
        params, sown, state = states
        for name, expected, given in (
            ("params", params, variables.params),
            ("model_state", state, variables.model_state),
        ):
            _check_fits(name, nnx.to_pure_dict(expected), given)
            nnx.replace_by_pure_dict(expected, given)
        module = nnx.merge(graphdef, params, sown, state)
        module.train() if train else module.eval()
        logits, maps = run(module, paths.jax_arrays(images), train)
        moved = nnx_variables(module).model_state if train else variables.model_state
        return Outputs(logits, maps, moved)

    return Network(init, apply)


def _check_fits(name: str, expected: PyTree, given: PyTree) -> None:
    """Raises a ValueError unless variables have the leaves and shapes of a module's."""
    wanted, there = (
        {
            "/".join(str(getattr(key, "key", key)) for key in path): jnp.shape(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (expected, given)
    )
    wrong = [
        *(f"no {path}" for path in wanted if path not in there),
        *(f"{path}, which it does not have" for path in there if path not in wanted),
        *(
            f"{path} of shape {there[path]}, not {shape}"
            for path, shape in wanted.items()
            if there.get(path, shape) != shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"{name} must be those of the module (got {'; '.join(wrong[:3])}{more}); take them "
            "from `init` of this network, or from `nnx_variables`"
        )


def nnx_variables(module: nnx.Module) -> Variables:
    """The variables of an NNX module, such as a trained one, for the network of `from_nnx`.

    Args:
      module: any NNX module.

    Returns:
      Its parameters and all its other variables, as plain dicts of arrays, but not what it has
      sown.

    Example:
      >>> module = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
      >>> params, model_state = nnx_variables(module)
      >>> sorted(params), sorted(model_state)
      (['bias', 'scale'], ['mean', 'var'])
    """
    _, *states = nnx.split(module, nnx.Param, nnx.Intermediate, ...)
    params, _, state = states
    return Variables(nnx.to_pure_dict(params), nnx.to_pure_dict(state))
