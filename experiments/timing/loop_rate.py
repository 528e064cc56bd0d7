"""Compares the speed of the training loop with that of its bare step."""

from __future__ import annotations

import time

import jax
import numpy as np

from l2t_jax import Network, baselines

from ..data.dataset import Dataset
from ..data.in_memory import InMemory
from ..options.builders import scheduled_sgd
from ..system import devices
from ..training import jitted, loop
from ..training.snapshot import Epoch

EPOCH = 8  # steps


def seconds_per_step(
    target: Network, side: int, batch: int, repeats: int
) -> tuple[list[float], list[float]]:
    """Times a plain step in `loop.train`, with data, augmentation and metrics, and by itself.

    Epochs of the loop and the same number of bare steps take turns.

    Args:
      target: the network to train, with 10 classes.
      side: the images' height and width in pixels.
      batch: images a step.
      repeats: number of turns.

    Returns:
      Seconds a step in the loop and bare, for each turn.
    """
    generator = np.random.default_rng(0)

    def images(number: int) -> Dataset:
        pixels = generator.integers(0, 256, (number, side, side, 3), np.uint8)
        return Dataset(pixels, np.arange(number, dtype=np.int32) % 10, tuple("0123456789"))

    optimizer = scheduled_sgd(learning_rate=0.01)
    device = devices.one_device()
    compiled = jitted.compile_method(baselines.scratch(target, optimizer=optimizer), target, device)
    training = InMemory(images(EPOCH * batch), device, batch, seed=0, augment=True)
    samples = next(training.epoch(0))
    state = jitted.first_state(compiled, None, training, seed=0)
    in_loop: list[float] = []
    bare: list[float] = []

    def on_epoch(epoch: Epoch) -> None:
        nonlocal state
        # An epoch's seconds count from the end of the one before, bare steps included.
        in_loop.append(epoch.seconds / EPOCH - (bare[-1] if bare else 0.0))
        begin = time.perf_counter()
        for _ in range(EPOCH):
            state, *_ = compiled.step(state, None, {"batch": samples})
        jax.block_until_ready(state)
        bare.append((time.perf_counter() - begin) / EPOCH)

    # The validation part is as small as can be, because an epoch's time includes its evaluation.
    schedule = loop.Schedule(1 + repeats, lambda epoch: 0.01, seed=0)
    loop.train(compiled, None, training, images(1), images(1), schedule, on_epoch=on_epoch)
    return in_loop[1:], bare[1:]  # the first turn includes compilation
