"""Where a training run is: all that it needs to go on exactly."""

from __future__ import annotations

from typing import Any, NamedTuple


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


class Point(NamedTuple):
    """What a run is between two steps.

    Attributes:
      state: the method's state.
      best: the target's variables after the best epoch so far; None before the first one's end.
      infos: the method's infos of this epoch's steps so far, on the host, one after the other.
      epoch: the epoch, from 0; that of the last is over where it is the number of epochs.
      step: the steps taken in it.
      epochs: the epochs before it.
      dropped: batches that were dropped so far, since their figures were not finite.
      epoch_seconds: duration of this epoch so far.
      seconds: duration of it all so far.
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
