"""Accuracy of a trained network on given data."""

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

from .data import class_names, few_images, load, public_sets
from .data.dataset import Dataset
from .data.image_files import ImageFiles
from .networks import zoo
from .options import cli
from .options.run_options import DATA
from .runs import inputs, trained_network
from .system import devices
from .training import evaluation


@dataclass(frozen=True)
class Options:
    """Print the accuracy of a trained network on labelled images.

    Of what a run has trained, classes are matched by name, and the data may be of some of its
    classes. Weights alone have no class names: theirs are those of the data in their order, of
    which there must be as many.

    Example: l2t evaluate runs/l2t-ww-photos-0 new_photos
    """

    #: Folder of a finished run of the train or pretrain command.
    run: Positional[Annotated[Path | None, arg(metavar="RUN")]] = None
    #: Images to evaluate the run's network on: what --data takes.
    images: Positional[Annotated[str | None, arg(metavar="DATA")]] = None
    #: For weights without a run, the network: resnetN, cifar-resnetN, vggN, vggN_bn or
    #: vit_SIZE_patchN, where SIZE is micro, tiny, small or base.
    network: Annotated[str | None, arg(metavar="NETWORK")] = None
    #: Its weights: .pth, .pth.tar or .safetensors.
    weights: Annotated[Path | None, arg(metavar="FILE")] = None
    #: Images: scikit-learn's digits, an npz file with uint8 images [N,H,W,3] and labels [N],
    #: a folder with one folder of images a class, or the test images of a public set by its name,
    #: whose unpacked official archive is below --data-dir; with tfds: before it, by its name in
    #: TensorFlow Datasets, which has prepared it there.
    data: Annotated[str | None, arg(metavar=DATA)] = None
    #: Folder that the public sets' archives were unpacked into, or TensorFlow Datasets' own.
    data_dir: Annotated[Path, arg(metavar="FOLDER")] = Path("data")
    #: Side in pixels that the digits and the images of a folder are brought to; 32 if not given. A
    #: run has its own.
    image_size: int | None = None
    #: Of the shorter side of a folder's image, how much the centre crop keeps; 0.875 at
    #: --image-size 128 or more, else 1, if not given. A run has its own.
    crop_share: float | None = None
    #: Images a forward pass, divided over all devices.
    batch_size: int = 500
    #: Where to write the predicted classes, in the images' order, as an npz file with the key
    #: predictions, which are numbers among the names in the key classes.
    predictions: Annotated[Path | None, arg(metavar="FILE.npz")] = None


class Subject(NamedTuple):
    """What is evaluated.

    Attributes:
      network, variables: the trained network.
      images: what it is to classify, their labels in the order of its logits.
      how: what to say of the classes beside the accuracy.
    """

    network: Network
    variables: Variables
    images: Dataset | ImageFiles
    how: str


def main(options: Options) -> int:
    """Evaluates, and prints right, total and per cent."""
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
    if options.predictions is not None:
        classes = np.array(images.classes, np.str_)
        np.savez_compressed(options.predictions, predictions=predictions, classes=classes)
    return 0


def check(options: Options) -> None:
    """Raises a ValueError or FileNotFoundError for what can be told before anything is read."""
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1 (got {options.batch_size})")
    if options.predictions is not None and options.predictions.suffix != ".npz":
        raise ValueError(f"--predictions must end in .npz (got {options.predictions})")
    if options.predictions is not None and not options.predictions.parent.is_dir():
        raise ValueError(f"--predictions {options.predictions}: no folder to write it to")
    if options.image_size is not None and options.image_size < 8:
        raise ValueError(f"--image-size must be at least 8 (got {options.image_size})")
    if options.crop_share is not None and not 0 < options.crop_share <= 1:
        raise ValueError(f"--crop-share must be above 0 and up to 1 (got {options.crop_share})")
    own = ("network", "weights", "data", "image_size", "crop_share")
    given = [f"--{name.replace('_', '-')}" for name in own if getattr(options, name) is not None]
    if options.run is not None:
        if options.images is None:
            raise ValueError(
                f"RUN must have DATA after it (got {options.run} alone); give evaluate RUN DATA"
            )
        if given:
            raise ValueError(
                f"{', '.join(given)} must not be given with RUN DATA (got {options.run} "
                f"{options.images}): a run has its own"
            )
    elif missing := [f"--{name}" for name in own[:3] if getattr(options, name) is None]:
        raise ValueError(
            f"RUN DATA, or --network, --weights and --data, must be given (got no "
            f"{', '.join(missing)})"
        )
    for source in (options.images, options.data):
        if source is not None and not public_sets.is_public(source):
            load.check_exists(source)
    if options.weights is not None and not options.weights.is_file():
        raise FileNotFoundError(f"--weights {options.weights}: no such file")


def of_run(options: Options, run: Path) -> Subject:
    """What a run has trained, with images whose classes are matched by name.

    Raises:
      ValueError: there is no finished run, or the images are of other classes or of another shape.
      OSError: files cannot be read.
    """
    assert options.images is not None
    model = trained_network.read(run)
    network, variables = trained_network.load(run, model)
    side = model.image_shape[0]
    images = inputs.to_evaluate(options.images, options.data_dir, side, model.crop_share)
    inputs.check_shape(images, model.image_shape, options.images, str(run))
    images = class_names.by_name(images, model.classes, options.images, str(run))
    there = class_names.with_images(images)
    how = ""
    if len(there) < len(model.classes):
        how = f" ({len(there)} of {len(model.classes)} classes: {class_names.listed(there)})"
    return Subject(network, variables, images, how)


def of_weights(options: Options) -> Subject:
    """A network with given weights, with images whose classes are taken in their order.

    Raises:
      ValueError: the images are not of as many classes, or do not fit the network.
      OSError: files cannot be read.
    """
    assert options.network is not None
    assert options.weights is not None
    assert options.data is not None
    size = 32 if options.image_size is None else options.image_size
    images = inputs.to_evaluate(options.data, options.data_dir, size, options.crop_share)
    network, variables = zoo.load(options.network, options.weights, images.image_shape)
    count = zoo.classes_of(network, variables, images.image_shape)
    class_names.check_count(images, count, f"--data {options.data}")
    how = f" (the {count} classes taken by order: weights alone have no class names)"
    return Subject(network, variables, images, how)


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t evaluate", args=words)


if __name__ == "__main__":
    sys.exit(command())
