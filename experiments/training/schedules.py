"""Learning rates by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable


def cosine(lr: float, epochs: int) -> Callable[[int], float]:
    """Learning rate of an epoch (from 0): ``lr · (1 + cos(π epoch / epochs)) / 2``."""
    return lambda epoch: lr * (1 + math.cos(math.pi * epoch / epochs)) / 2


def step_decay(lr: float, epochs: int) -> Callable[[int], float]:
    """Learning rate of an epoch (from 0), in three steps.

    ``lr`` in the first half of the epochs, ``lr / 10`` until three quarters of them, then
    ``lr / 100``.
    """
    return lambda epoch: lr / 10 ** ((2 * epoch >= epochs) + (4 * epoch >= 3 * epochs))
