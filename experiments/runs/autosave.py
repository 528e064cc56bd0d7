"""When a run saves its state: after epochs, every few minutes, and when it is asked to end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

from ..system.errors import InterruptedRunError
from ..training.snapshot import Point
from . import snapshot_io
from .checkpoints import Checkpoints

# Least seconds between two checkpoints after epochs. Not every shorter epoch has one.
BETWEEN = 1.0


class Keeper:
    """What `loop.train` calls with its points, in the process that writes."""

    def __init__(
        self, checkpoints: Checkpoints, steps: int, seconds: float, received: Sequence[int]
    ) -> None:
        """Saves nothing yet.

        Args:
          checkpoints: where to save.
          steps: steps in an epoch.
          seconds: most seconds between two checkpoints.
          received: the signals that asked the run to end. It may grow at any time.
        """
        self._checkpoints, self._steps = checkpoints, steps
        self._seconds, self._received = seconds, received
        self._latest = time.monotonic()
        self._number: int | None = None

    def __call__(self, take: Callable[[], Point], epoch_ended: bool) -> None:
        """Saves a point if it is time, and ends the run if a signal asks for it.

        Args:
          take: returns the point.
          epoch_ended: whether an epoch has just ended.

        Raises:
          RunFailedError: a checkpoint cannot be written, or a figure is not finite.
          InterruptedRunError: a signal was received, and the point is saved.
        """
        if self._received:
            point = take()
            self._save(point)
            self._checkpoints.wait()
            raise InterruptedRunError(self._message(point), self._received[0])
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
        name = signal.Signals(self._received[0]).name
        return f"{name}; saved at {where}; repeat the command to resume"
