"""The training loop: epochs of jitted steps, evaluation, the best epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.cli import RunFailedError
from experiments.data import Dataset, Splits
from experiments.preprocess import normalise, pad_crop_flip
from l2t_jax import Batch, Method, Network, Variables, target_variables


class Schedule(NamedTuple):
    """How long and how fast to train.

    Attributes:
      epochs: passes over the training data.
      batch_size: images a step.
      lr: learning rate of the first epoch; later ones follow a cosine.
      seed: of the order of the images and of the augmentation.
    """

    epochs: int
    batch_size: int
    lr: float
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
    """

    epochs: list[Epoch]
    best_epoch: Epoch
    test_accuracy: float
    variables: Variables


def cosine(lr: float, epoch: int, epochs: int) -> float:
    """Learning rate in epoch ``epoch`` (from 0): ``lr · (1 + cos(π epoch / epochs)) / 2``."""
    return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2


def with_learning_rate(state: Any, lr: float) -> Any:
    """The state with another learning rate in its optimiser (`optax.inject_hyperparams`)."""
    old = state.opt_state.hyperparams
    new = old | {"learning_rate": jnp.asarray(lr, old["learning_rate"].dtype)}
    return state._replace(opt_state=state.opt_state._replace(hyperparams=new))


class Compiled(NamedTuple):
    """A method's jitted functions; one set serves any number of runs of the same shapes.

    Attributes:
      init: ``(key, source_variables, batch) -> state``.
      step: ``(state, source_variables, data, indices, key) -> (state, info)``, over data that
        live on the device.
      evaluate: ``(variables, uint8 images) -> logits``, in evaluation mode.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]
    evaluate: Callable[[Variables, Any], Array]


def compile_method(method: Method, target: Network, *, augment: bool) -> Compiled:
    """Wraps a method and its target network for `train`; nothing is compiled before it is called.

    Args:
      method: the method, over an optimiser made with `optax.inject_hyperparams`.
      target: the network that the method trains.
      augment: whether training images are cropped and mirrored at random.

    Returns:
      The jitted functions.
    """

    def step(
        state: Any, source_variables: Variables, data: Batch, indices: Array, key: Array
    ) -> Any:
        images = data.images[indices]
        if augment:
            images = pad_crop_flip(key, images)
        batch = Batch(normalise(images), data.labels[indices])
        return method.step(state, source_variables, batch)

    return Compiled(jax.jit(method.init), jax.jit(step), compile_evaluation(target))


def on_device(data: Dataset) -> Batch:
    """The data as device arrays, images still uint8."""
    return Batch(jnp.asarray(data.images), jnp.asarray(data.labels))


def check_batch_size(batch_size: int, train: Dataset) -> None:
    """Raises a ValueError where a batch is larger than the training data."""
    if batch_size > len(train.labels):
        raise ValueError(
            f"a batch of {batch_size} came; wanted at most the {len(train.labels)} training images"
        )


def train(
    compiled: Compiled,
    source_variables: Variables | None,
    splits: Splits,
    schedule: Schedule,
    *,
    on_step: Callable[[int, Any], None] = lambda step, info: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Result:
    """Trains a target network and tests it at its best validation epoch.

    Args:
      compiled: the method, from `compile_method`.
      source_variables: the frozen source's variables; None where the method has no source.
      splits: the data.
      schedule: how long and how fast.
      on_step: called with each step's number and info, one step late so that the device never
        waits.
      on_epoch: called after each epoch.

    Returns:
      The result.

    Raises:
      ValueError: the batch is larger than the training data.
      RunFailedError: a loss became infinite or no number.
    """
    check_batch_size(schedule.batch_size, splits.train)
    init_key, epoch_key = jax.random.split(jax.random.key(schedule.seed))
    order = np.random.default_rng(schedule.seed)
    data = on_device(splits.train)
    example = Batch(
        normalise(data.images[: schedule.batch_size]), data.labels[: schedule.batch_size]
    )
    state = compiled.init(init_key, source_variables, example)
    done: list[Epoch] = []
    best: tuple[Epoch, Variables] | None = None
    for number in range(schedule.epochs):
        begin = time.perf_counter()
        lr = cosine(schedule.lr, number, schedule.epochs)
        state = with_learning_rate(state, lr)
        infos: list[Any] = []
        key = jax.random.fold_in(epoch_key, number)
        for i, indices in enumerate(batches(order, len(splits.train.labels), schedule.batch_size)):
            state, info = compiled.step(
                state, source_variables, data, indices, jax.random.fold_in(key, i)
            )
            if infos:
                on_step(i - 1, infos[-1])
            infos.append(info)
        on_step(len(infos) - 1, infos[-1])
        means = mean_info(infos)
        if not np.isfinite(means["loss"]):
            raise RunFailedError(f"the loss became {means['loss']} in epoch {number + 1}")
        val_accuracy = accuracy(compiled.evaluate, target_variables(state), splits.validation)
        epoch = Epoch(number + 1, lr, time.perf_counter() - begin, means, val_accuracy)
        done.append(epoch)
        if best is None or val_accuracy > best[0].val_accuracy:
            best = epoch, target_variables(state)
        on_epoch(epoch)
    assert best is not None
    return Result(done, best[0], accuracy(compiled.evaluate, best[1], splits.test), best[1])


def batches(order: np.random.Generator, size: int, batch_size: int) -> Iterator[np.ndarray]:
    """Indices of an epoch's batches in a new random order, all batches of the same size.

    Every image comes at least once: the last batch is filled up with the first ones.
    """
    permutation = order.permutation(size).astype(np.int32)
    wrapped = np.concatenate([permutation, permutation])
    for begin in range(0, size, batch_size):
        yield wrapped[begin : begin + batch_size]


def steps_per_epoch(size: int, batch_size: int) -> int:
    """How many batches `batches` gives."""
    return -(-size // batch_size)


def mean_info(infos: list[Any]) -> dict[str, Any]:
    """Means over steps of each field of a method's info."""
    host = jax.device_get(infos)
    return {
        name: np.mean([getattr(info, name) for info in host], axis=0) for name in host[0]._fields
    }


def compile_evaluation(network: Network) -> Callable[[Variables, Any], Array]:
    """The jitted forward pass in evaluation mode, ``(variables, uint8 images) -> logits``."""
    return jax.jit(
        lambda variables, images: network.apply(variables, normalise(images), train=False).logits
    )


def predict(
    evaluate: Callable[[Variables, Any], Array],
    variables: Variables,
    images: np.ndarray,
    batch_size: int = 500,
    on_batch: Callable[[int], object] = lambda images: None,
) -> np.ndarray:
    """The predicted class of every image; the last batch is padded, so one shape is compiled."""
    batch_size = min(batch_size, len(images))
    predictions = []
    for begin in range(0, len(images), batch_size):
        batch = images[begin : begin + batch_size]
        padding = np.zeros((batch_size - len(batch), *batch.shape[1:]), batch.dtype)
        logits = evaluate(variables, np.concatenate([batch, padding]))
        predictions.append(np.asarray(jnp.argmax(logits, axis=-1))[: len(batch)])
        on_batch(len(batch))
    return np.concatenate(predictions)


def accuracy(
    evaluate: Callable[[Variables, Any], Array], variables: Variables, data: Dataset
) -> float:
    """Share of the images classified right, from 0 to 1."""
    return float(np.mean(predict(evaluate, variables, data.images) == data.labels))
