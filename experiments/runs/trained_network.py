"""What a run has trained: the network, its weights, its images' shape and its classes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from l2t_jax import Network, Variables

from ..data import crops
from ..networks import zoo
from ..options.run_options import RunOptions
from . import inputs, layout, resume


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
    """The network that the run in a folder has trained.

    Raises:
      ValueError: there is no finished run, or its result does not describe the network.
    """
    path = folder / layout.RESULT
    result = resume.read_json(path)
    if result is None:
        raise ValueError(f"{folder} must be the folder of a finished run (got no {layout.RESULT})")
    found = result.get(layout.TRAINED)
    known = found if isinstance(found, dict) else {}
    if wrong := [name for name, kind in KINDS.items() if not isinstance(known.get(name), kind)]:
        raise ValueError(
            f"{path} must tell what was trained (got no {', '.join(wrong)}); give a finished run "
            "of l2t train or l2t pretrain"
        )
    shape, classes = tuple(known["image_shape"]), tuple(map(str, known["classes"]))
    # Other keys are ignored, since a later version may write more.
    kept = {name: known[name] for name in KINDS}
    return Trained(**kept | {"image_shape": shape, "classes": classes})


def load(folder: Path, trained: Trained) -> tuple[Network, Variables]:
    """The network of a run, with its weights.

    Raises:
      ValueError: the weights do not fit the network or its classes.
      OSError: they cannot be read.
    """
    path, shape = folder / trained.weights, trained.image_shape
    network, variables = zoo.load(trained.network, path, shape, trained.precision)
    count = zoo.classes_of(network, variables, shape)
    if count != len(trained.classes):
        raise ValueError(
            f"{path} must have {len(trained.classes)} classes, as {folder / layout.RESULT} "
            f"says (got {count}); take both files from one run"
        )
    return network, variables
