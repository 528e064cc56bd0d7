"""The figures of steps: whether they are finite, which one is not, and their means."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# A step's figures, each with its name in messages. A bad figure spoils those after it.
NAMES = {
    "task_loss": "the task's loss",
    "matching_loss": "the matching loss",
    "penalties": "the penalty",
    "pair_weights": "a pair's weight",
    "loss": "the loss",
    "gradient_norm": "the gradient's norm",
    "outer_loss": "the outer loss",
    "meta_gradient_norm": "the meta-gradient's norm",
}
# These are NaN on purpose in iterations without a meta-step.
IN_META_STEPS = ("outer_loss", "meta_gradient_norm")


def all_finite(info: Any) -> Array:
    """Whether all figures of a step are finite: a bool scalar, for use under jit.

    Args:
      info: a method's info.
    """
    figures = info._asdict()
    if "meta_step" in figures:
        figures |= {name: jnp.where(info.meta_step, figures[name], 0.0) for name in IN_META_STEPS}
    leaves = jax.tree.leaves(figures)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def first_not_finite(info: Any) -> str:
    """Names the first bad figure of a step, and its value, such as ``the loss became nan``.

    Args:
      info: a method's info on the host. `all_finite` must be false for it.
    """
    figures = info._asdict()
    for name, called in NAMES.items():
        if name not in figures or (name in IN_META_STEPS and not figures["meta_step"]):
            continue
        value = figures[name]
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, values in parts:
            bad = np.asarray(values)[~np.isfinite(values)]
            if bad.size:
                return f"{called}{part and ' '}{part} became {bad[0]}"
    raise AssertionError(f"a figure must not be finite (got {figures})")


def means(infos: list[Any]) -> dict[str, Any]:
    """Means of each figure over steps. The score is called ``accuracy`` here.

    A figure that a step does not have is NaN and does not count.

    Args:
      infos: methods' infos on the host.
    """
    mean = jax.tree.map(lambda *values: mean_of_numbers(np.array(values)), *infos)
    return {{"score": "accuracy"}.get(name, name): value for name, value in mean._asdict().items()}


def mean_of_numbers(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis without NaN; NaN where there is nothing else."""
    numbers = ~np.isnan(values)
    total = np.sum(values, axis=0, where=numbers)
    return np.where(np.any(numbers, axis=0), total / np.maximum(np.sum(numbers, axis=0), 1), np.nan)
