"""Classify new images with the network that a run has trained."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import contextlib
import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm
from tyro.conf import Positional, arg

from .data import image_files
from .data.class_folders import images_below
from .data.image_files import Folder, ImageFiles
from .options import cli
from .options.checks import at_least, check_can_be_written, check_ranges
from .options.descriptions import FinishedRun, ForwardBatch
from .runs import trained_network
from .system import devices, files
from .training import evaluation

COLUMNS = ("image", "class", "probability")


@dataclass(frozen=True)
class Options:
    """Classify new images with the network that a run has trained.

    It prints a CSV table: each image, its most probable class, and that probability.

    Example:
      l2t predict runs/l2t-ww-photos-0 new/ one.jpg --out classes.csv
    """

    run: FinishedRun
    #: Images, or folders with images at any depth.
    images: Positional[
        Annotated[
            tuple[Path, ...], arg(metavar="IMAGE|FOLDER ...", help_behavior_hint="(required)")
        ]
    ]
    #: File to write the table to.
    out: Annotated[
        Path | None, arg(metavar="FILE.csv", help_behavior_hint="(default: standard output)")
    ] = None
    batch_size: ForwardBatch = 500


def main(options: Options) -> int:
    """Classifies, and prints or writes the table."""
    check_ranges(options, *at_least(1, options, ("batch_size",)))
    check_can_be_written("out", options.out)
    if not options.images:
        raise ValueError("IMAGE|FOLDER must be images, or folders with images (got none)")
    model = trained_network.read(options.run)
    side, width, _ = model.image_shape
    if side != width:
        raise ValueError(
            f"{options.run} must be a run on square images (got one on {side}x{width}); resize "
            "your training images to squares, and train again"
        )
    network, variables = trained_network.load(options.run, model)
    names = [str(path) for given in options.images for path in images_below(given)]
    images = ImageFiles(
        Folder(Path()),
        np.array(names, np.str_),
        np.zeros(len(names), np.int32),
        model.classes,
        side,
        model.crop_share,
    )
    image_files.check([images])
    everywhere = devices.all_devices()
    evaluate = evaluation.compile_evaluation(network, everywhere, most_probable)
    with tqdm(total=len(names), unit="image", dynamic_ncols=True) as bar:
        numbers, probabilities = evaluation.predict(
            evaluate,
            everywhere,
            everywhere.replicate(variables),
            images,
            options.batch_size,
            on_batch=bar.update,
        )
    rows = [
        (name, model.classes[number], f"{probability:.4f}")
        for name, number, probability in zip(names, numbers, probabilities, strict=True)
    ]
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if options.out is not None:
            unfinished = stack.enter_context(files.replacing(options.out))
            file = stack.enter_context(unfinished.open("w", encoding="utf-8", newline=""))
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)
    return 0


def most_probable(logits: Array) -> tuple[Array, Array]:
    """The most probable class of each image, and its probability."""
    return evaluation.best_class(logits), jnp.max(jax.nn.softmax(logits), axis=-1)


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t predict", args=words)


if __name__ == "__main__":
    sys.exit(command())
