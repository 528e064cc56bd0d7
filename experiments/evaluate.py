"""Print the accuracy of a trained network on labelled images."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional, arg

from l2t_jax import Network, Variables

from .data import class_names, few_images, image_files, load, public_sets
from .data.dataset import Dataset
from .data.image_files import ImageFiles
from .networks import weight_files, zoo
from .options import cli, descriptions
from .options.checks import at_least, check_can_be_written, check_ranges, flag
from .options.descriptions import (
    CROP_SHARE,
    CROP_SHARE_DEFAULT,
    DATA,
    IMAGE_SIZE,
    NETWORKS,
    WEIGHTS,
    DataDir,
    ForwardBatch,
)
from .reporting import confusion
from .runs import confusion_file, division, inputs, own_images, trained_network
from .system import devices, files
from .training import evaluation

OF_RUN = "A run has its own."
DATA_HELP = f"""Labelled images, for --weights. A public set's test images are taken, and
those in test/ of a folder that has it.
{DATA}"""


@dataclass(frozen=True)
class Options:
    """Print the accuracy of a trained network on labelled images, and that of each class.

    The network is a run's (RUN, or RUN DATA), or weights (--network, --weights, --data):
    - Without DATA the images are those that the run has held out. --part chooses others.
    - A run knows its classes' names. Classes are matched by name, and some may be missing.
    - Weights have no class names. The data must have all classes, in the same order.

    Example:
      l2t evaluate runs/l2t-ww-photos-0 new_photos --confusion mistakes.png
    """

    run: Positional[
        Annotated[Path | None, descriptions.RUN, arg(help_behavior_hint="(or give --weights)")]
    ] = None
    #: Images to evaluate the run's network on. It takes what --data takes.
    images: Positional[
        Annotated[
            str | None,
            arg(metavar="DATA", help_behavior_hint="(default: those that the run held out)"),
        ]
    ] = None
    #: Which of the run's own images to take, where no DATA is given.
    part: Annotated[
        own_images.Part | None,
        arg(metavar="{train,validation,test}", help_behavior_hint="(default: test)"),
    ] = None
    network: Annotated[
        str | None,
        arg(
            metavar="NETWORK",
            help=f"Network of --weights: {NETWORKS}.",
            help_behavior_hint="(with --weights)",
        ),
    ] = None
    weights: Annotated[
        str | None,
        arg(
            metavar="FILE|hf:ORG/NAME",
            help=f"Trained weights: {WEIGHTS}.",
            help_behavior_hint="(or give RUN)",
        ),
    ] = None
    data: Annotated[
        str | None,
        arg(metavar="DATA", help=DATA_HELP, help_behavior_hint="(with --weights)"),
    ] = None
    data_dir: DataDir = Path("data")
    image_size: Annotated[
        int | None,
        arg(
            metavar="PIXELS",
            help=f"{IMAGE_SIZE} {OF_RUN}",
            help_behavior_hint="(default: 32)",
        ),
    ] = None
    crop_share: Annotated[
        float | None,
        arg(
            metavar="FLOAT",
            help=f"{CROP_SHARE} {OF_RUN}",
            help_behavior_hint=CROP_SHARE_DEFAULT,
        ),
    ] = None
    batch_size: ForwardBatch = None
    #: Npz file to write the predicted classes to. Its key predictions has a number for each image,
    #: in the images' order. Its key classes has the names that the numbers stand for. Of images in
    #: files, its key images has the paths.
    predictions: Annotated[
        Path | None, arg(metavar="FILE.npz", help_behavior_hint="(default: not written)")
    ] = None
    #: File to write the confusion matrix to: how many images of each class are taken for which.
    #: It becomes a table or a picture, as its name says.
    confusion: Annotated[
        Path | None, arg(metavar="FILE.csv|FILE.png", help_behavior_hint="(default: not written)")
    ] = None


class Subject(NamedTuple):
    """A network and the images to evaluate it on.

    Attributes:
      network, variables: the trained network.
      images: the images, with labels in the order of the network's logits.
      how: what to print about the classes after the accuracy.
    """

    network: Network
    variables: Variables
    images: Dataset | ImageFiles
    how: str


def main(options: Options) -> int:
    """Evaluates, prints how many images are right, in all and by class, and writes the files."""
    check(options)
    subject = of_weights(options) if options.run is None else of_run(options, options.run)
    images = subject.images
    everywhere = devices.all_devices()
    with tqdm(total=len(images.labels), unit="image", dynamic_ncols=True) as bar:
        predictions = evaluation.predict(
            evaluation.compile_evaluation(subject.network, everywhere),
            everywhere,
            everywhere.replicate(subject.variables),
            images,
            options.batch_size,
            on_batch=bar.update,
        )
    right, total = int(np.sum(predictions == images.labels)), len(predictions)
    print(f"{right} of {total} right: {100 * right / total:.2f} %{subject.how}")
    for warning in few_images.of_count("labelled", total):
        print(f"warning: {warning}")
    matrix = evaluation.confusion(images.labels, predictions, len(images.classes))
    for line in confusion.by_class(matrix, images.classes):
        print(line)
    if options.confusion is not None:
        if options.confusion.suffix == ".csv":
            confusion_file.write(options.confusion, matrix, images.classes)
        else:
            title = f"{right} of {total} right, {100 * right / total:.1f} %"
            confusion.draw(options.confusion, matrix, images.classes, title)
    if options.predictions is not None:
        classes = np.array(images.classes, np.str_)
        found = {"predictions": predictions, "classes": classes}
        if isinstance(images, ImageFiles):
            found["images"] = np.array(image_files.paths(images), np.str_)
        with files.replacing(options.predictions) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, **found)
    return 0


def check(options: Options) -> None:
    """Raises a ValueError or FileNotFoundError for bad options, before anything is read."""
    share = options.crop_share
    check_ranges(
        options,
        *at_least(1, options, ("batch_size",)),
        *at_least(8, options, ("image_size",)),
        ("crop_share", share is None or 0.01 <= share <= 1, "0.01 to 1"),
    )
    check_can_be_written("predictions", options.predictions)
    if options.predictions is not None and options.predictions.suffix != ".npz":
        raise ValueError(f"--predictions must end in .npz (got {options.predictions})")
    check_can_be_written("confusion", options.confusion)
    if options.confusion is not None and options.confusion.suffix not in (".csv", ".png"):
        raise ValueError(f"--confusion must end in .csv or .png (got {options.confusion})")
    own = ("network", "weights", "data", "image_size", "crop_share")
    given = [flag(name) for name in own if getattr(options, name) is not None]
    if options.run is not None:
        if given:
            raise ValueError(
                f"{', '.join(given)} must not be given with RUN (got {options.run}); leave it out, "
                "since a run has its own"
            )
        if options.images is not None and options.part is not None:
            raise ValueError(
                f"--part must not be given with DATA (got {options.part} and {options.images}); "
                "leave one of them out"
            )
    elif missing := [f"--{name}" for name in own[:3] if getattr(options, name) is None]:
        raise ValueError(
            f"RUN, or --network, --weights and --data, must be given (got no {', '.join(missing)})"
        )
    for source in (options.images, options.data):
        if source is not None and not public_sets.is_public(source):
            load.check_exists(source)
    if options.weights is not None:
        weight_files.check("--weights", options.weights)


def of_run(options: Options, run: Path) -> Subject:
    """The network of a run, with images whose classes are matched by name.

    Raises:
      ValueError: there is no run, or the images have other classes or another shape.
      OSError: files cannot be read.
    """
    model = trained_network.read(run)
    network, variables = trained_network.load(run, model)
    side = model.image_shape[0]
    if options.images is None:
        part = options.part or "test"
        images = own_images.read(run, part)
        return Subject(network, variables, images, f" (the run's own {part} images)")
    images = inputs.to_evaluate(options.images, options.data_dir, side, model.crop_share)
    division.check_shape(images, model.image_shape, options.images, str(run))
    images = class_names.by_name(images, model.classes, options.images, str(run))
    there = class_names.with_images(images)
    how = ""
    if len(there) < len(model.classes):
        how = f" ({len(there)} of {len(model.classes)} classes: {class_names.listed(there)})"
    return Subject(network, variables, images, how)


def of_weights(options: Options) -> Subject:
    """A network with weights from a file, with images whose classes are taken in their order.

    Raises:
      ValueError: the images have another number of classes, or do not fit the network.
      OSError: files cannot be read.
    """
    assert options.network is not None
    assert options.weights is not None
    assert options.data is not None
    file = weight_files.find(options.weights).file
    size = 32 if options.image_size is None else options.image_size
    images = inputs.to_evaluate(options.data, options.data_dir, size, options.crop_share)
    network, variables = zoo.load(options.network, file, images.image_shape)
    count = zoo.classes_of(network, variables, images.image_shape)
    class_names.check_count(images, count, f"--data {options.data}")
    how = f" (the {count} classes taken by order: weights alone have no class names)"
    return Subject(network, variables, images, how)


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t evaluate", args=words)


if __name__ == "__main__":
    sys.exit(command())
