"""What a run has trained: the network, its weights, its images' shape and its classes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from l2t_jax import Network, Variables

from ..data import crops
from ..networks import zoo
from ..options.run_options import RunOptions
from . import inputs, layout, resume, snapshot_io
from .checkpoints import Checkpoints


class Trained(NamedTuple):
    """A trained network, as ``result.json`` describes it.

    Attributes:
      network: its name, as in `zoo.NAMES`.
      weights: the name of the file of its weights in the run's folder.
      precision: type that its convolutions' operands are rounded to.
      image_shape: height, width and channels of its images.
      crop_share: share of the shorter side of an image in a file that the centre crop keeps.
      classes: the classes' names, in the order of its logits.
    """

    network: str
    weights: str
    precision: str
    image_shape: tuple[int, int, int]
    crop_share: float
    classes: tuple[str, ...]


KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("network", "weights", "precision"), str),
    **dict.fromkeys(("image_shape", "classes"), list),
    "crop_share": (int, float),
}


def describe(network: str, weights: str, options: RunOptions, splits: inputs.Splits) -> Trained:
    """The network that a run with these options and data trains."""
    shape, share = splits.train.image_shape, options.crop_share
    return Trained(
        network,
        weights,
        options.precision,
        shape,
        crops.share_for(shape[0], share),
        splits.train.classes,
    )


def read(folder: Path) -> Trained:
    """The network that the run in a folder has trained, or trains.

    Raises:
      ValueError: there is no run, or it does not describe the network.
    """
    path = folder / layout.RESULT
    result = resume.read_json(path)
    if result is None and path.exists():
        raise ValueError(f"{path} must be whole (got a damaged file); give another run")
    if result is None:
        path = folder / layout.TRAINS
        result = {layout.TRAINED: resume.read_json(path)}
        if result[layout.TRAINED] is None:
            raise ValueError(
                f"{folder} must be the folder of a run (got neither {layout.RESULT} nor "
                f"{layout.TRAINS})"
            )
    found = result.get(layout.TRAINED)
    known = found if isinstance(found, dict) else {}
    if wrong := [name for name, kind in KINDS.items() if not isinstance(known.get(name), kind)]:
        raise ValueError(
            f"{path} must tell what was trained (got no {', '.join(wrong)}); give a run of l2t "
            "train or l2t pretrain"
        )
    shape, classes = tuple(known["image_shape"]), tuple(map(str, known["classes"]))
    # Other keys are ignored, since a later version may write more.
    kept = {name: known[name] for name in KINDS}
    return Trained(**kept | {"image_shape": shape, "classes": classes})


def load(folder: Path, trained: Trained) -> tuple[Network, Variables]:
    """The network of a run, with its weights: of an unfinished one, of its best epoch so far.

    Raises:
      ValueError: the weights do not fit the network or its classes, or there are none yet.
      OSError: they cannot be read.
    """
    path, shape = folder / trained.weights, trained.image_shape
    if not (folder / layout.RESULT).exists():
        return so_far(folder, trained)
    network, variables = zoo.load(trained.network, path, shape, trained.precision)
    count = zoo.classes_of(network, variables, shape)
    if count != len(trained.classes):
        raise ValueError(
            f"{path} must have {len(trained.classes)} classes, as {folder / layout.RESULT} "
            f"says (got {count}); take both files from one run"
        )
    return network, variables


def so_far(folder: Path, trained: Trained) -> tuple[Network, Variables]:
    """The network of an unfinished run, with the weights of its best epoch so far.

    Raises:
      ValueError: no epoch was saved yet, or the checkpoints are damaged.
    """
    network = zoo.network(trained.network, len(trained.classes), trained.precision)
    images = jax.ShapeDtypeStruct((1, *trained.image_shape), jnp.float32)
    like = jax.eval_shape(network.init, jax.random.key(0), images)
    checkpoints = Checkpoints(folder / layout.CHECKPOINTS)
    try:
        # The run may go on meanwhile. What it has not written to its end is left out.
        saved = checkpoints.newest({}, tell=lambda line: None)
    finally:
        checkpoints.close()
    epochs = [] if saved is None else saved.record["epochs"]
    if saved is None or not epochs:
        raise ValueError(f"{folder} must have saved an epoch (got none so far); wait for it")
    best = max(epochs, key=lambda epoch: epoch["val_accuracy"])
    print(
        f"{folder} is not finished: these are the weights of the best of {len(epochs)} epochs so "
        f"far, epoch {best['epoch']} with validation accuracy {best['val_accuracy']:.1%}",
        file=sys.stderr,
    )
    return network, snapshot_io.restore(saved.arrays, like, "best")
