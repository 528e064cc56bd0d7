"""Steps of optax's optimisers that can be differentiated, and which optimisers can take them."""

from __future__ import annotations

import re

import jax
import optax

from l2t_jax._typing import PyTree
from l2t_jax.finite_derivatives import finite_derivatives


def apply_gradient(
    optimizer: optax.GradientTransformation, gradient: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    """One optimiser step: ``(gradient, opt_state, params) -> (params, opt_state)``.

    Its values are optax's. Where the update has no derivative, as at the root of a zero in Adam or
    at a zero norm in clipping, `finite_derivatives` defines one.
    """
    updates, opt_state = finite_derivatives(optimizer.update)(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def check_optimizer(optimizer: optax.GradientTransformation, name: str, params: PyTree) -> None:
    """Raises a ValueError if an optimiser wants more than gradients, its state and parameters.

    It is asked for an update of parameters that stand for any. If it is made for others, as with
    a mask for certain parameters, the answer is open, and nothing is raised.

    Args:
      optimizer: any optax transformation.
      name: what the caller's argument is called.
      params: a pytree of arrays or shapes.

    Raises:
      ValueError: the update wants further arguments, as that of `optax.polyak_sgd` does.

    Example:
      >>> import jax.numpy as jnp
      >>> check_optimizer(optax.sgd(0.1), "optimizer", jnp.zeros(2))
    """
    try:
        jax.eval_shape(
            lambda params: optimizer.update(params, optimizer.init(params), params), params
        )
    except (TypeError, ValueError) as error:
        if re.search(r"missing \d+ required .*argument|must be provided", str(error)):
            raise ValueError(
                f"`{name}` must need gradients, its state and parameters only (got one that needs "
                f"more: {error}); take another one, such as optax.sgd or optax.adam"
            ) from error
    except Exception:
        # Made for other parameters than these.
        return
