"""A finished run on made-up photographs, written by the commands' own code, untrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from experiments.networks import zoo
from experiments.options.run_options import RunOptions
from experiments.runs import layout, recorded_training, run, trained_network
from experiments.training.loop import Result
from experiments.training.snapshot import Epoch

CLASSES = ("beetle", "moth", "wasp")


def photos(folder: Path, number: int = 10) -> Path:
    """A folder of photographs of each class, of noise; some are turned by EXIF."""
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for i in range(1, number + 1):
            image = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize((50, 40))
            image.save(folder / name / f"{i}.jpg", exif=turned if i % 3 == 0 else b"")
    return folder


def make(options: RunOptions, network: str, weights: str = layout.TARGET, **more: Any) -> Path:
    """The folder of a run with these options, with weights as drawn; training takes too long."""
    everywhere, splits = run.prepare(options)
    made = zoo.network(network, len(splits.train.classes), options.precision)
    images = jnp.zeros((1, *splits.train.image_shape), jnp.float32)
    variables = jax.jit(made.init)(jax.random.key(0), images)
    info = {"loss": 1.0, "task_loss": 1.0, "penalties": {}, "accuracy": 0.5}
    epochs = [Epoch(n + 1, 0.1, 1.0, info, 0.5) for n in range(options.epochs)]
    matrix = np.diag(np.bincount(splits.test.labels, minlength=len(splits.test.classes)))
    matrix[0] = np.roll(matrix[0], -1)  # the first class is taken for the last
    result = Result(epochs, epochs[-1], matrix, variables, None, 0, 3.5)
    trained = trained_network.describe(network, weights, options, splits)
    with run.opened(options, splits, everywhere, trained, "a run", **more):
        recorded_training.write_metrics(options.folder(), epochs, "w")
        run.finish(options, trained, result, splits, everywhere)
    return options.folder()
