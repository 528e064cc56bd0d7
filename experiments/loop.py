"""The training loop: epochs of jitted steps, the best epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.classify import accuracy, compile_evaluation
from experiments.dataset import Images
from experiments.devices import Devices
from experiments.errors import RunFailedError
from experiments.feed import TrainingData
from experiments.preprocess import normalise
from l2t_jax import Batch, Method, Network, Variables, target_variables


class Schedule(NamedTuple):
    """How long and how fast to train.

    Attributes:
      epochs: passes over the training data.
      rate: learning rate of an epoch (from 0), such as `cosine` or `step_decay` gives.
      seed: of the initialisation.
    """

    epochs: int
    rate: Callable[[int], float]
    seed: int


class Epoch(NamedTuple):
    """What an epoch gave.

    Attributes:
      epoch: its number, from 1.
      lr: its learning rate.
      seconds: its duration, evaluation included.
      train: means over its steps of the method's info, by name.
      val_accuracy: share of the validation images classified right after it.
    """

    epoch: int
    lr: float
    seconds: float
    train: dict[str, Any]
    val_accuracy: float


class Result(NamedTuple):
    """What a run gave.

    Attributes:
      epochs: every epoch.
      best_epoch: the first epoch with the highest validation accuracy.
      test_accuracy: share of the test images classified right after the best epoch.
      variables: the target's variables after the best epoch.
      state: the method's state after the last epoch.
      seconds: duration of it all, compilation, validation and test included.
    """

    epochs: list[Epoch]
    best_epoch: Epoch
    test_accuracy: float
    variables: Variables
    state: Any
    seconds: float


def cosine(lr: float, epochs: int) -> Callable[[int], float]:
    """Learning rate of an epoch (from 0): ``lr · (1 + cos(π epoch / epochs)) / 2``."""
    return lambda epoch: lr * (1 + math.cos(math.pi * epoch / epochs)) / 2


def step_decay(lr: float, epochs: int) -> Callable[[int], float]:
    """Learning rate of an epoch (from 0): ``lr``, a tenth from half of the epochs on, and a
    hundredth from three quarters on."""
    return lambda epoch: lr / 10 ** ((2 * epoch >= epochs) + (4 * epoch >= 3 * epochs))


def with_learning_rate(state: Any, lr: float, devices: Devices) -> Any:
    """The state with another learning rate in its optimiser (`optax.inject_hyperparams`).

    All other arrays are those of the given state, which a step takes with them.
    """
    old = state.opt_state.hyperparams
    # Placed like the rest of the state; else the step would be compiled once more for it.
    rate = devices.replicate(jnp.asarray(lr, old["learning_rate"].dtype))
    new = old | {"learning_rate": rate}
    return state._replace(opt_state=state.opt_state._replace(hyperparams=new))


class Compiled(NamedTuple):
    """A method's jitted functions; one set serves any number of runs of the same shapes.

    Attributes:
      devices: where they run; batches are split over these, all else is whole on each.
      init: ``(key, source_variables, uint8 batch) -> state``.
      step: ``(state, source_variables, uint8 batch) -> (state, info)``. The state that goes in is
        donated: its memory is used again, and it cannot be read any more.
      evaluate: ``(variables, uint8 images) -> classes``, in evaluation mode.
    """

    devices: Devices
    init: Callable[..., Any]
    step: Callable[..., Any]
    evaluate: Callable[[Variables, Any], Array]


def compile_method(method: Method, target: Network, devices: Devices) -> Compiled:
    """Wraps a method and its target network for `train`; nothing is compiled before it is called.

    Args:
      method: the method, over an optimiser made with `optax.inject_hyperparams`.
      target: the network that the method trains.
      devices: where to run it.

    Returns:
      The jitted functions.
    """

    def init(key: Array, source_variables: Variables, batch: Batch) -> Any:
        return method.init(key, source_variables, normalised(batch))

    def step(state: Any, source_variables: Variables, batch: Batch) -> Any:
        return method.step(state, source_variables, normalised(batch))

    whole, split = devices.replicated, devices.split
    jit = partial(jax.jit, in_shardings=(whole, whole, split), out_shardings=whole)
    return Compiled(
        devices,
        jit(init),
        jit(step, donate_argnums=0),
        compile_evaluation(target, devices),
    )


def normalised(batch: Batch) -> Batch:
    """A batch of uint8 images as the networks take it."""
    return batch._replace(images=normalise(batch.images))


def train(
    compiled: Compiled,
    source_variables: Variables | None,
    training: TrainingData,
    validation: Images,
    test: Images,
    schedule: Schedule,
    *,
    on_step: Callable[[int, Any], None] = lambda step, info: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Result:
    """Trains a target network and tests it at its best validation epoch.

    Args:
      compiled: the method, from `compile_method`.
      source_variables: the frozen source's variables; None where the method has no source.
      training: the data to train on, on the same devices.
      validation: the data that choose the best epoch.
      test: the data to test on.
      schedule: how long and how fast.
      on_step: called with each step's number and info, one step late so that the device never
        waits.
      on_epoch: called after each epoch.

    Returns:
      The result.

    Raises:
      ValueError: an image cannot be read.
      RunFailedError: a loss became infinite or no number.
    """
    start = time.perf_counter()
    source_variables = compiled.devices.replicate(source_variables)
    state = first_state(compiled, source_variables, training, schedule.seed)
    accuracy_of = partial(accuracy, compiled.evaluate, compiled.devices)
    done: list[Epoch] = []
    best: tuple[Epoch, Variables] | None = None
    for number in range(schedule.epochs):
        begin = time.perf_counter()
        lr = schedule.rate(number)
        state = with_learning_rate(state, lr, compiled.devices)
        infos: list[Any] = []
        for i, batch in enumerate(training.epoch(number)):
            state, info = compiled.step(state, source_variables, batch)
            if infos:
                on_step(i - 1, infos[-1])
            infos.append(info)
        on_step(len(infos) - 1, infos[-1])
        means = mean_info(infos)
        if not np.isfinite(means["loss"]):
            raise RunFailedError(f"the loss became {means['loss']} in epoch {number + 1}")
        val_accuracy = accuracy_of(target_variables(state), validation)
        epoch = Epoch(number + 1, lr, time.perf_counter() - begin, means, val_accuracy)
        done.append(epoch)
        if best is None or val_accuracy > best[0].val_accuracy:
            # A copy: the next step takes the state's own arrays.
            best = epoch, jax.tree.map(jnp.copy, target_variables(state))
        on_epoch(epoch)
    assert best is not None
    test_accuracy = accuracy_of(best[1], test)
    return Result(done, best[0], test_accuracy, best[1], state, time.perf_counter() - start)


def first_state(
    compiled: Compiled, source_variables: Variables | None, training: TrainingData, seed: int
) -> Any:
    """The method's state before the first step; the training data give shapes only."""
    size, rows = training.batch_size, len(compiled.devices.rows(training.batch_size))
    blank = Batch(
        compiled.devices.batch(np.zeros((rows, *training.image_shape), np.uint8), size),
        compiled.devices.batch(np.zeros(rows, np.int32), size),
    )
    key = jax.random.split(jax.random.key(seed))[0]
    return compiled.init(key, source_variables, blank)


def mean_info(infos: list[Any]) -> dict[str, Any]:
    """Means over steps of each field of a method's info.

    But for the loss, where no number is a failure, NaN stands for what a step did not have, and
    the mean is over the others.
    """
    host = jax.device_get(infos)
    means = jax.tree.map(lambda *values: mean_of_numbers(np.array(values)), *host)
    return means._asdict() | {"loss": np.mean([info.loss for info in host])}


def mean_of_numbers(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is not NaN there; NaN where all is."""
    numbers = ~np.isnan(values)
    total = np.sum(values, axis=0, where=numbers)
    return np.where(np.any(numbers, axis=0), total / np.maximum(np.sum(numbers, axis=0), 1), np.nan)
