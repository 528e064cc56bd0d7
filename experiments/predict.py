"""Classify new images with the network that a run has trained."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import contextlib
import csv
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
from jax import Array
from tqdm import tqdm
from tyro.conf import Positional, arg

from .data import image_files
from .data.class_folders import images_below
from .data.image_files import Folder, ImageFiles
from .options import cli
from .options.checks import at_least, check_can_be_written, check_ranges
from .options.descriptions import AnyRun, ForwardBatch
from .runs import trained_network
from .system import devices, files
from .training import evaluation

# So many suffixes of files that are left out are named.
LISTED = 10


@dataclass(frozen=True)
class Options:
    """Classify new images with the network that a run has trained.

    It prints a CSV table:
    - Each image has a line, with its most probable class and that probability.
    - In a folder, files that are no images by their suffix are left out. It says how many.
    - With --top K the line has the K most probable classes.

    Example:
      l2t predict runs/l2t-ww-photos-0 new/ one.jpg --out classes.csv
    """

    run: AnyRun
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
    #: Number of classes to name for each image, the most probable first.
    top: int = 1
    #: What to do about images that cannot be read.
    #: - refuse: name up to ten, count the others, and classify none.
    #: - skip: name them all on standard error, and classify the others.
    unreadable: Literal["refuse", "skip"] = "refuse"
    batch_size: ForwardBatch = None


def main(options: Options) -> int:
    """Classifies, and prints or writes the table."""
    check_ranges(options, *at_least(1, options, ("batch_size", "top")))
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
    if options.top > len(model.classes):
        raise ValueError(
            f"--top must be at most the number of classes, {len(model.classes)} (got {options.top})"
        )
    network, variables = trained_network.load(options.run, model)
    left_out: list[Path] = []
    names = [str(path) for given in options.images for path in images_below(given, left_out)]
    if left_out:
        kinds = ", ".join(sorted({path.suffix or "no suffix" for path in left_out})[:LISTED])
        print(f"left out: {len(left_out)} files that are no images ({kinds})", file=sys.stderr)
    images = ImageFiles(
        Folder(Path()),
        np.array(names, np.str_),
        np.zeros(len(names), np.int32),
        model.classes,
        side,
        model.crop_share,
    )
    if options.unreadable == "skip":
        images, problems = images.readable()
        if not len(images.names):
            image_files.tell(problems)
        for problem in problems:
            print(f"skipped: {problem}", file=sys.stderr)
    else:
        image_files.check([images])
    everywhere = devices.all_devices()
    evaluate = evaluation.compile_evaluation(
        network, everywhere, partial(most_probable, options.top)
    )
    with tqdm(total=len(images.names), unit="image", dynamic_ncols=True) as bar:
        found = evaluation.predict(
            evaluate,
            everywhere,
            everywhere.replicate(variables),
            images,
            options.batch_size,
            on_batch=bar.update,
        )
    rows = []
    for name, numbers, probabilities in zip(images.names, *found, strict=True):
        row = [name]
        for number, probability in zip(numbers, probabilities, strict=True):
            row += [model.classes[number], f"{probability:.4f}"]
        rows.append(row)
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if options.out is not None:
            unfinished = stack.enter_context(files.replacing(options.out))
            # A file's name may have bytes that are no text. They are written as they are.
            file = stack.enter_context(
                unfinished.open("w", encoding="utf-8", errors="surrogateescape", newline="")
            )
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns(options.top))
        table.writerows(rows)
    return 0


def columns(top: int) -> list[str]:
    """The table's header: that of one class has no number."""
    header = ["image", "class", "probability"]
    for place in range(2, top + 1):
        header += [f"class {place}", f"probability {place}"]
    return header


def most_probable(top: int, logits: Array) -> tuple[Array, Array]:
    """The numbers of the most probable classes of each image, and their probabilities."""
    probabilities, numbers = jax.lax.top_k(jax.nn.softmax(logits), top)
    return numbers, probabilities


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t predict", args=words)


if __name__ == "__main__":
    sys.exit(command())
