"""Accuracy of a network with given weights on given data."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from tqdm import tqdm
from tyro.conf import arg

from .networks import zoo
from .options import cli
from .options.run_options import DATA
from .runs import inputs
from .system import devices
from .training import evaluation


@dataclass(frozen=True)
class Options:
    """Print the accuracy of a trained network on labelled images.

    Example: l2t evaluate --network resnet32
    --weights tinyimagenet200_resnet32.pth.tar --data images.npz
    """

    #: The network: resnetN, cifar-resnetN, vggN, vggN_bn or vit_SIZE_patchN, where SIZE is
    #: micro, tiny, small or base.
    network: str
    #: Its weights: .pth, .pth.tar or .safetensors, such as the target.safetensors of a run.
    weights: Annotated[Path, arg(metavar="FILE")]
    #: Images: scikit-learn's digits, an npz file with uint8 images [N,H,W,3] and labels [N],
    #: a folder with one folder of images a class, or the test images of a public set by its name,
    #: whose unpacked official archive is below --data-dir; with tfds: before it, by its name in
    #: TensorFlow Datasets, which has prepared it there.
    data: Annotated[str, arg(metavar=DATA)]
    #: Folder that the public sets' archives were unpacked into, or TensorFlow Datasets' own.
    data_dir: Annotated[Path, arg(metavar="FOLDER")] = Path("data")
    #: Side in pixels that the digits and the images of a folder are brought to.
    image_size: int = 32
    #: Of the shorter side of a folder's image, how much the centre crop keeps; 0.875 at
    #: --image-size 128 or more, else 1, if not given.
    crop_share: float | None = None
    #: Images a forward pass, divided over all devices.
    batch_size: int = 500
    #: Where to write the predicted classes, in the images' order, as an npz file with the key
    #: predictions.
    predictions: Annotated[Path | None, arg(metavar="FILE.npz")] = None


def main(options: Options) -> int:
    """Evaluates, and prints right, total and per cent."""
    if options.batch_size < 1:
        raise ValueError(f"--batch-size {options.batch_size} came; wanted 1 or more")
    if options.predictions is not None and options.predictions.suffix != ".npz":
        raise ValueError(f"--predictions {options.predictions} came; wanted a name ending in .npz")
    if options.predictions is not None and not options.predictions.parent.is_dir():
        raise ValueError(f"no folder {options.predictions.parent} for --predictions")
    if options.image_size < 8:
        raise ValueError(f"--image-size {options.image_size} came; wanted 8 or more")
    if options.crop_share is not None and not 0 < options.crop_share <= 1:
        raise ValueError(f"--crop-share {options.crop_share} came; wanted above 0, up to 1")
    dataset = inputs.to_evaluate(
        options.data, options.data_dir, options.image_size, options.crop_share
    )
    network, variables = zoo.load(options.network, options.weights, dataset.image_shape)
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), np.float32)
    classes = jax.eval_shape(
        lambda variables, images: network.apply(variables, images, train=False).logits,
        variables,
        images,
    ).shape[-1]
    if classes < len(dataset.classes):
        raise ValueError(
            f"data of {len(dataset.classes)} classes came for a network of {classes}; wanted at "
            "most as many"
        )
    everywhere = devices.all_devices()
    evaluate = evaluation.compile_evaluation(network, everywhere)
    with tqdm(total=len(dataset.labels), unit="image", dynamic_ncols=True) as bar:
        predictions = evaluation.predict(
            evaluate,
            everywhere,
            everywhere.replicate(variables),
            dataset,
            options.batch_size,
            on_batch=bar.update,
        )
    right = int(np.sum(predictions == dataset.labels))
    print(f"{right} of {len(predictions)} right: {100 * right / len(predictions):.2f} %")
    if options.predictions is not None:
        np.savez_compressed(options.predictions, predictions=predictions)
    return 0


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t evaluate", args=words)


if __name__ == "__main__":
    sys.exit(command())
