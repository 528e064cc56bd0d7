"""The images that a finished run has trained, validated and tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..data import digests, image_files
from ..data.dataset import Dataset
from ..data.image_files import ImageFiles
from ..options.train_options import Config
from . import division, inputs, layout, resume

Part = Literal["train", "validation", "test"]
# What decides how a run's data are divided.
DIVIDES = (
    *("data", "test_data", "image_size", "crop_share", "test_fraction", "val_fraction"),
    *("per_class", "seed", "batch_size", "method"),
)


def read(run: Path, part: Part) -> Dataset | ImageFiles:
    """Divides a run's data as the run did, and checks that they are the same.

    Args:
      run: the run's folder.
      part: which of its images to take.

    Returns:
      The images.

    Raises:
      ValueError: the run does not tell its data, the data are not those of the run, or they cannot
        be read.
      OSError: they cannot be read.
    """
    config = resume.read_json(run / layout.CONFIG) or {}
    if "data" not in config or "data_sha256" not in config:
        raise ValueError(
            f"{run / layout.CONFIG} must tell the run's data (got no data or no data_sha256); give "
            f"the images: l2t evaluate {run} DATA"
        )
    known = {name: config[name] for name in DIVIDES if name in config}
    options = Config(**known, data_dir=Path(config.get("data_dir", Config.data_dir)))
    try:
        options.check_data()
        whole = division.whole_parts(options)
    except FileNotFoundError as error:
        raise ValueError(
            f"{run} must find its images where they were (got {error}); run the command in the "
            f"same folder, or give the images: l2t evaluate {run} DATA"
        ) from error
    if digests.of_images(whole.parts()) != config["data_sha256"]:
        raise ValueError(
            f"the images of {options.data} must be those that {run} was trained on (got others, or "
            f"more or fewer); to evaluate on the new ones, give l2t evaluate {run} DATA"
        )
    images = getattr(inputs.taken(whole, options), part)
    image_files.check([images])
    return images
