"""The state of a training run at one point: all that is needed to resume it exactly."""

from __future__ import annotations

from typing import Any, NamedTuple


class Epoch(NamedTuple):
    """The result of an epoch.

    Attributes:
      epoch: its number, from 1.
      lr: its learning rate.
      seconds: its duration with the evaluation.
      train: means of the method's info over its steps, by name.
      val_accuracy: share of the validation images classified correctly after it.
    """

    epoch: int
    lr: float
    seconds: float
    train: dict[str, Any]
    val_accuracy: float


class Point(NamedTuple):
    """The state of a run between two steps.

    Attributes:
      state: the method's state.
      best: the target's variables after the best epoch so far; None before the first epoch ends.
      infos: the method's infos of this epoch's steps so far, in order, on the host.
      epoch: the epoch, from 0. After the last epoch it is the number of epochs.
      step: number of steps taken in this epoch.
      epochs: the epochs before this one.
      dropped: number of batches dropped so far, whose figures were not finite.
      epoch_seconds: duration of this epoch so far.
      seconds: duration of the run so far.
    """

    state: Any
    best: Any
    infos: list[Any]
    epoch: int
    step: int
    epochs: list[Epoch]
    dropped: int
    epoch_seconds: float
    seconds: float
