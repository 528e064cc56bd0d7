"""When a run's points are saved: after epochs, every few minutes, and when it is asked to end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

from ..system.errors import InterruptedRunError
from ..training.snapshot import Point
from . import snapshot_io
from .checkpoints import Checkpoints

# Seconds that have to go by between two checkpoints after epochs; shorter epochs get fewer.
BETWEEN = 1.0


class Keeper:
    """What `loop.train` hands its points to, in the process that writes."""

    def __init__(
        self, checkpoints: Checkpoints, steps: int, seconds: float, came: Sequence[int]
    ) -> None:
        """Saves nothing yet.

        Args:
          checkpoints: where to.
          steps: steps an epoch.
          seconds: how long may go by between two checkpoints.
          came: the signals that asked the run to end; they may come any time.
        """
        self._checkpoints, self._steps = checkpoints, steps
        self._seconds, self._came = seconds, came
        self._latest = time.monotonic()
        self._number: int | None = None

    def __call__(self, take: Callable[[], Point], epoch_ended: bool) -> None:
        """Saves a point if it is time, and ends the run if that is asked for.

        Args:
          take: gives the point.
          epoch_ended: whether an epoch has.

        Raises:
          RunFailedError: a checkpoint cannot be written, or a figure is not finite.
          InterruptedRunError: a signal came; the point is saved.
        """
        if self._came:
            point = take()
            self._save(point)
            self._checkpoints.wait()
            raise InterruptedRunError(self._message(point), self._came[0])
        waited = time.monotonic() - self._latest
        if waited >= (BETWEEN if epoch_ended else self._seconds):
            self._save(take())

    def _save(self, point: Point) -> None:
        number = point.epoch * self._steps + point.step
        if number != self._number:
            self._checkpoints.write(number, snapshot_io.save(point))
        self._latest, self._number = time.monotonic(), number

    def _message(self, point: Point) -> str:
        where = f"step {point.step} of {self._steps} in epoch {point.epoch + 1}"
        if not point.step:
            where = f"the end of epoch {point.epoch}"
        name = signal.Signals(self._came[0]).name
        return f"{name} came; saved at {where}. The same command goes on from there."
