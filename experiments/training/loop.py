"""The training loop: it runs epochs of jitted steps and keeps the best epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from l2t_jax import Batch, Variables, target_variables

from ..data.batches import TrainingData
from ..data.dataset import Images
from ..system.errors import RunFailedError
from . import step_info
from .evaluation import accuracy, confusion, predict, share_right
from .jitted import Compiled, first_state, with_learning_rate
from .snapshot import Epoch, Point

# What helps a run whose loss is infinite or not a number.
REMEDY = "try a lower --lr, or l2t train with --warmup-epochs 10"


class Schedule(NamedTuple):
    """How long and how fast to train.

    Attributes:
      epochs: number of passes over the training data.
      rate: epoch (from 0) → learning rate; see `experiments.training.schedules`.
      seed: seed of the initialisation.
      patience: end after so many epochs without a better validation accuracy; None for never.
    """

    epochs: int
    rate: Callable[[int], float]
    seed: int
    patience: int | None = None


class Result(NamedTuple):
    """The result of a run.

    Attributes:
      epochs: every epoch.
      best_epoch: the first epoch with the highest validation accuracy.
      confusion: how many test images of each class are taken for each after the best epoch, as
        `evaluation.confusion` counts them.
      variables: the target's variables after the best epoch.
      state: the method's state after the last epoch.
      dropped: number of dropped batches, whose figures were not finite.
      seconds: duration of the whole run, with compilation, validation and test.
    """

    epochs: list[Epoch]
    best_epoch: Epoch
    confusion: np.ndarray
    variables: Variables
    state: Any
    dropped: int
    seconds: float

    @property
    def test_accuracy(self) -> float:
        """Share of the test images classified correctly after the best epoch."""
        return share_right(self.confusion)


def train(
    compiled: Compiled,
    source_variables: Variables | None,
    training: TrainingData,
    validation: Images,
    test: Images,
    schedule: Schedule,
    *,
    more: Mapping[str, TrainingData] | None = None,
    begin: Point | None = None,
    drop_at_most: int = 0,
    on_step: Callable[[int, Any], None] = lambda step, info: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_point: Callable[[Callable[[], Point], bool], None] = lambda point, ended: None,
) -> Result:
    """Trains a target network and tests it at its best validation epoch.

    Args:
      compiled: the method, from `experiments.training.jitted`; made with ``drop`` if batches may be
        dropped.
      source_variables: the frozen source's variables; None if the method has no source.
      training: the data to train on, on the same devices.
      validation: the data that choose the best epoch.
      test: the data to test on.
      schedule: how long and how fast to train.
      more: the data for the further batches of each step, by the name that `Compiled.step` has
        for them, with as many batches an epoch; None for no more than one batch a step.
      begin: the point that an earlier run with the same arguments reached. The result is that of a
        run without a break.
      drop_at_most: how many batches with figures that are not finite may be dropped.
      on_step: called with each step's number in its epoch and its info. The call comes one step
        late, so that the device never waits.
      on_epoch: called after each epoch.
      on_point: called after each step and each epoch. Its arguments are a function that returns the
        run's current `Point`, and whether an epoch has ended. It may raise to end the run.

    Returns:
      The result.

    Raises:
      ValueError: an image cannot be read.
      RunFailedError: a figure became infinite or not a number.
    """
    source_variables = compiled.devices.replicate(source_variables)
    if begin is None:
        state = first_state(compiled, source_variables, training, schedule.seed)
        begin = Point(state, None, [], 0, 0, [], 0, 0.0, 0.0)
    else:
        placed = compiled.devices.replicate((begin.state, begin.best))
        begin = begin._replace(state=placed[0], best=placed[1])
    run = Training(compiled, source_variables, begin, drop_at_most, on_step)
    feeds = {"batch": training} | dict(more or {})
    accuracy_of = partial(accuracy, compiled.evaluate, compiled.devices)
    while run.epoch < schedule.epochs and not is_stale(run.epochs, schedule.patience):
        lr = schedule.rate(run.epoch)
        run.state = with_learning_rate(run.state, lr, compiled.devices)
        epochs = [feed.epoch(run.epoch, run.step) for feed in feeds.values()]
        for batches in zip(*epochs, strict=True):
            run.take(dict(zip(feeds, batches, strict=True)))
            on_point(run.point, False)
        means = run.means()
        val_accuracy = accuracy_of(target_variables(run.state), validation)
        on_epoch(run.end_epoch(lr, means, val_accuracy))
        on_point(run.point, True)
    predictions = predict(compiled.evaluate, compiled.devices, run.best, test)
    point = run.point()
    return Result(
        point.epochs,
        best_epoch(point.epochs),
        confusion(test.labels, predictions, len(test.classes)),
        point.best,
        point.state,
        point.dropped,
        point.seconds,
    )


class Training:
    """The part of a run that changes from step to step."""

    def __init__(
        self,
        compiled: Compiled,
        source_variables: Variables | None,
        begin: Point,
        drop_at_most: int,
        on_step: Callable[[int, Any], None],
    ) -> None:
        """Starts at a point, with the arguments of `train`. All arrays must be on the devices."""
        self._compiled, self._source_variables = compiled, source_variables
        self._drop_at_most, self._on_step = drop_at_most, on_step
        self.state, self.best, self.epoch, self.step = (
            begin.state,
            begin.best,
            begin.epoch,
            begin.step,
        )
        self._infos, self.epochs = list(begin.infos), list(begin.epochs)
        self._dropped = begin.dropped
        now = time.perf_counter()
        self._epoch_begun, self._begun = now - begin.epoch_seconds, now - begin.seconds
        self._unread: tuple[Any, Array] | None = None

    def take(self, batches: dict[str, Batch]) -> None:
        """Starts a step, and meanwhile reads the info of the step before."""
        self.state, info, finite = self._compiled.step(self.state, self._source_variables, batches)
        self._read()
        self.step += 1
        self._unread = info, finite

    def point(self) -> Point:
        """The point that the run has reached. All steps before it have been checked."""
        self._read()
        now = time.perf_counter()
        return Point(
            self.state,
            self.best,
            list(self._infos),
            self.epoch,
            self.step,
            list(self.epochs),
            self._dropped,
            now - self._epoch_begun,
            now - self._begun,
        )

    def means(self) -> dict[str, Any]:
        """Means of each figure over the epoch's steps."""
        self._read()
        if not self._infos:
            raise RunFailedError(
                f"every batch of epoch {self.epoch + 1} was dropped, as no figure was finite; "
                + REMEDY
            )
        return step_info.means(self._infos)

    def end_epoch(self, lr: float, means: dict[str, Any], val_accuracy: float) -> Epoch:
        """Records the epoch and goes to the next one."""
        now = time.perf_counter()
        epoch = Epoch(self.epoch + 1, lr, now - self._epoch_begun, means, val_accuracy)
        self.epochs.append(epoch)
        if best_epoch(self.epochs) is epoch:
            # A copy, because the next step reuses the memory of the state's arrays.
            self.best = jax.tree.map(jnp.copy, target_variables(self.state))
        self.epoch, self.step, self._infos, self._epoch_begun = self.epoch + 1, 0, [], now
        return epoch

    def _read(self) -> None:
        """Reads the info of the latest step.

        Raises:
          RunFailedError: a figure is not finite, and no more batches may be dropped.
        """
        if self._unread is None:
            return
        info, finite = jax.device_get(self._unread)
        self._unread = None
        if finite:
            self._infos.append(info)
        elif self._dropped < self._drop_at_most:
            self._dropped += 1
        else:
            after = f" after {self._dropped} dropped batches" if self._drop_at_most else ""
            raise RunFailedError(
                f"{step_info.first_not_finite(info)} in step {self.step} of epoch "
                f"{self.epoch + 1}{after}; {REMEDY}"
            )
        self._on_step(self.step - 1, info)


def best_epoch(epochs: list[Epoch]) -> Epoch:
    """The first epoch with the highest validation accuracy."""
    return max(epochs, key=lambda epoch: epoch.val_accuracy)


def is_stale(epochs: list[Epoch], patience: int | None) -> bool:
    """Whether the last ``patience`` epochs have not been better than the best before them."""
    if patience is None or not epochs:
        return False
    return epochs[-1].epoch - best_epoch(epochs).epoch >= patience
