"""Learning rates by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable


def cosine(lr: float, epochs: int, warmup: int = 0) -> Callable[[int], float]:
    """Learning rate of an epoch (from 0), which rises in a line and falls as a cosine.

    ``lr · (epoch + 1) / (warmup + 1)`` in the first epochs. Then, with ``t = epoch - warmup`` of
    the ``T`` epochs that are left, ``lr · (1 + cos(π t / T)) / 2``.
    """

    def rate(epoch: int) -> float:
        if epoch < warmup:
            return lr * (epoch + 1) / (warmup + 1)
        return lr * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2

    return rate


def step_decay(lr: float, epochs: int) -> Callable[[int], float]:
    """Learning rate of an epoch (from 0), in three steps.

    ``lr`` in the first half of the epochs, ``lr / 10`` until three quarters of them, then
    ``lr / 100``.
    """
    return lambda epoch: lr / 10 ** ((2 * epoch >= epochs) + (4 * epoch >= 3 * epochs))
