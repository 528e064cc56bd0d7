"""Distillation of the source's classes through a second head: learning without forgetting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from l2t_jax._known import known
from l2t_jax._precision import at_least_float32, widen
from l2t_jax._typing import Array, Float
from l2t_jax.affine import Affine, uniform_affine
from l2t_jax.base import Outputs
from l2t_jax.baselines.penalties import Penalty
from l2t_jax.feature_maps import pool


def distillation_loss(
    source_logits: Float[Array, "b _classes"],
    target_logits: Float[Array, "b _classes"],
    *,
    temperature: float | Array = 2.0,
    classes: Sequence[int] | None = None,
) -> Float[Array, ""]:
    """Softened divergence, ``T²/B Σ_b KL(softmax(s_b / T) || softmax(t_b / T))``.

    The factor ``T²`` is that of Hinton et al.: the gradient keeps its size whatever the
    temperature, and a weight need not be chosen anew for each. Li & Hoiem have the cross-entropy
    without it, which differs by a constant: their λ = 1 at T = 2 is a weight of 1/4 here.

    Args:
      source_logits: what to imitate, ``[B, classes]``.
      target_logits: likewise.
      temperature: T, above 0.
      classes: number of classes of each distribution that stands side by side in the logits, such
        as those of several sources (see `l2t_jax.concatenate`); their divergences are added. All
        logits are one distribution if None.

    Returns:
      A scalar in nats; 0 where the distributions are alike.

    Raises:
      ValueError: logits that are not of one shape ``[B, classes]``, a temperature that is not
        positive, or numbers of classes that do not add up to the logits.

    Example:
      >>> source = jnp.log(jnp.array([[0.9, 0.1]]))
      >>> loss = distillation_loss(source, jnp.zeros((1, 2)), temperature=1.0)
      >>> round(float(loss), 4)  # log 2 - entropy(0.9, 0.1)
      0.3681

    Source: Hinton et al. (2015), "Distilling the Knowledge in a Neural Network", section 2;
    Li & Hoiem (2016), "Learning without Forgetting", section 3 (T = 2, a sum over sources).
    """
    check_temperature(temperature)
    if source_logits.ndim != 2 or source_logits.shape != target_logits.shape:
        raise ValueError(
            "both logits must have the same shape, [batch, classes] (got "
            f"{source_logits.shape} and {target_logits.shape})"
        )
    width = source_logits.shape[1]
    classes = (width,) if classes is None else tuple(classes)
    if sum(classes) != width or min(classes, default=0) < 1:
        raise ValueError(f"classes must add up to the {width} logits (got {classes})")
    ends = list(itertools.accumulate(classes))[:-1]
    divergences = [
        optax.losses.kl_divergence_with_log_targets(
            jax.nn.log_softmax(widen(t) / temperature), jax.nn.log_softmax(widen(s) / temperature)
        )
        for s, t in zip(
            jnp.split(source_logits, ends, axis=1),
            jnp.split(target_logits, ends, axis=1),
            strict=True,
        )
    ]
    return temperature**2 * jnp.mean(sum(divergences))


def distillation(temperature: float | Array = 2.0, classes: Sequence[int] | None = None) -> Penalty:
    """Learning without forgetting: a second head of the target learns the source's classes.

    The head is an affine map of the target's last feature map, averaged over positions.

    Args:
      temperature: T of `distillation_loss`, above 0.
      classes: number of classes of each source where there are several; see `distillation_loss`.

    Returns:
      A `Penalty` with the head, an `l2t_jax.Affine`, as its parameters.

    Raises:
      ValueError: a temperature that is not positive (at once); a target without feature maps, or
        numbers of classes that do not add up to the source's logits (when it is used).

    Example:
      >>> penalty, maps = distillation(), jnp.ones((2, 4, 4, 8))
      >>> source, target = Outputs(jnp.ones((2, 5)), (), ()), Outputs(jnp.ones((2, 3)), (maps,), ())
      >>> head = penalty.init(jax.random.key(0), source, target)
      >>> head.kernel.shape, penalty.apply(head, source, target).shape
      ((8, 5), ())

    Source: Li & Hoiem (2016), "Learning without Forgetting".
    """
    check_temperature(temperature)

    def init(key: Array, source: Outputs, target: Outputs) -> Affine:
        if not target.features:
            raise ValueError(
                "distillation must have a feature map of the target for its head (got a target "
                "with none); let the network give one, see docs/networks.md"
            )
        last = target.features[-1]
        dtype = at_least_float32(last.dtype)
        return uniform_affine(key, last.shape[-1], source.logits.shape[-1], dtype)

    def apply(head: Affine, source: Outputs, target: Outputs) -> Array:
        (pooled,) = pool(target.features[-1:])
        logits = pooled @ head.kernel + head.bias
        return distillation_loss(source.logits, logits, temperature=temperature, classes=classes)

    return Penalty(init, apply)


def check_temperature(temperature: float | Array) -> None:
    """Raises a ValueError unless the temperature is positive and finite, if its value is known."""
    value = known(temperature)
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"temperature must be positive and finite (got {temperature})")
