"""A method's jitted functions, in the form that the training loop calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from l2t_jax import Batch, Method, Network, Variables

from ..data.batches import TrainingData
from ..data.preprocess import normalise
from ..system.devices import Devices
from . import step_info
from .evaluation import compile_evaluation


class Compiled(NamedTuple):
    """A method's jitted functions. One set serves any number of runs with the same shapes.

    Attributes:
      devices: where they run. Batches are split over these; everything else is on each device.
      init: ``(key, source_variables, uint8 batch) -> state``.
      step: ``(state, source_variables, uint8 batches) -> (state, info, whether all figures are
        finite)``. The batches are a dict: ``batch``, which it trains on, and those of
        ``outer_batch`` and ``unlabelled`` that the method is to have; of ``unlabelled`` only the
        images count. The input state is donated: its memory is reused, so do not read it
        afterwards.
      evaluate: ``(variables, uint8 images) -> classes``, in evaluation mode.
    """

    devices: Devices
    init: Callable[..., Any]
    step: Callable[..., Any]
    evaluate: Callable[[Variables, Any], Array]


def compile_method(
    method: Method, target: Network, devices: Devices, *, drop: bool = False
) -> Compiled:
    """Wraps a method and its target network for `train`. Each function compiles at its first call.

    Args:
      method: the method, with an optimiser made with `optax.inject_hyperparams`.
      target: the network that the method trains.
      devices: where to run it.
      drop: whether a step with figures that are not finite keeps the state unchanged.

    Returns:
      The jitted functions.
    """

    def init(key: Array, source_variables: Variables, batch: Batch) -> Any:
        return method.init(key, source_variables, normalised(batch))

    def step(
        state: Any, source_variables: Variables, batches: Mapping[str, Batch]
    ) -> tuple[Any, Any, Array]:
        given: dict[str, Any] = {name: normalised(batch) for name, batch in batches.items()}
        if "unlabelled" in given:
            given["unlabelled"] = given["unlabelled"].images
        after, info = method.step(state, source_variables, **given)
        finite = step_info.all_finite(info)
        if drop:
            after = jax.tree.map(partial(jax.lax.select, finite), after, state)
        return after, info, finite

    whole, split = devices.replicated, devices.split
    jit = partial(jax.jit, in_shardings=(whole, whole, split), out_shardings=whole)
    return Compiled(
        devices,
        jit(init),
        jit(step, donate_argnums=0),
        compile_evaluation(target, devices),
    )


def normalised(batch: Batch) -> Batch:
    """A batch of uint8 images in the form of a network's input."""
    return batch._replace(images=normalise(batch.images))


def first_state(
    compiled: Compiled, source_variables: Variables | None, training: TrainingData, seed: int
) -> Any:
    """The method's state before the first step. Of the training data only the shapes matter."""
    key = jax.random.split(jax.random.key(seed))[0]
    return compiled.init(key, source_variables, blank(compiled, training))


def blank(compiled: Compiled, training: TrainingData) -> Batch:
    """A batch of zeros in the shapes of the training data."""
    size, rows = training.batch_size, len(compiled.devices.rows(training.batch_size))
    return Batch(
        compiled.devices.batch(np.zeros((rows, *training.image_shape), np.uint8), size),
        compiled.devices.batch(np.zeros(rows, np.int32), size),
    )


def with_learning_rate(state: Any, lr: float, devices: Devices) -> Any:
    """The state with another learning rate in its optimiser (`optax.inject_hyperparams`).

    All other arrays are shared with the given state. A step that donates one donates both.
    """
    old = state.opt_state.hyperparams
    # Placed like the rest of the state; otherwise the step would be compiled again.
    rate = devices.replicate(jnp.asarray(lr, old["learning_rate"].dtype))
    new = old | {"learning_rate": rate}
    return state._replace(opt_state=state.opt_state._replace(hyperparams=new))
