"""Images whose labels are not known, or not to be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import crops, public_sets
from .class_folders import images_below
from .dataset import Dataset
from .image_files import Folder, ImageFiles
from .load import check_exists, digits, read_images

CLASSES = ("unlabelled",)


def load(
    source: str, data_dir: Path, image_size: int, crop_share: float | None
) -> Dataset | ImageFiles:
    """Reads images. Labels that they have do not count: all are of one class.

    Args:
      source: a public set, of which the training images are taken; ``digits``; an ``.npz`` file
        with ``images``; or a folder with images at any depth.
      data_dir: the folder that holds public sets.
      image_size: side in pixels that the digits and images in files are scaled to.
      crop_share: how much of a file image's shorter side the centre crop keeps; None for the
        default, see `crops.share_for`.

    Returns:
      The images.

    Raises:
      ValueError: the data do not have this form.
      OSError: the data cannot be read.
    """
    if public_sets.is_public(source):
        known = public_sets.read(source, data_dir, image_size, crop_share)[0]
        return known.relabelled(np.zeros_like(known.labels), CLASSES)
    check_exists(source)
    path = Path(source)
    if source == "digits" or path.is_file():
        images = digits(image_size).images if source == "digits" else read_images(path)
        return Dataset(images, np.zeros(len(images), np.int32), CLASSES)
    names = [str(found.relative_to(path)) for found in images_below(path)]
    return ImageFiles(
        Folder(path),
        np.array(names, np.str_),
        np.zeros(len(names), np.int32),
        CLASSES,
        image_size,
        crops.share_for(image_size, crop_share),
    )
