"""Reads and checks image sets: the digits, npz files and folders."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from ..system import npz
from . import class_names
from .class_folders import list_folder
from .dataset import Dataset
from .image_files import ImageFiles, tell

MAX_CLASSES = 100_000  # else a small file could ask for any number of classes


def check_exists(source: str) -> None:
    """Raises a FileNotFoundError unless data are the digits, or a file or folder that exists."""
    if source != "digits" and not Path(source).exists():
        raise FileNotFoundError(
            f"no such data: {source}; give digits, an .npz file, a folder or a public set's name"
        )


def short_name(source: str) -> str:
    """The name of data: of a file or folder that of its path's end, without a suffix."""
    return Path(os.path.abspath(source)).stem or source


def load(source: str, image_size: int, crop_share: float | None = None) -> Dataset | ImageFiles:
    """Reads an image set. Of a folder it lists the files and reads only the images' headers.

    Args:
      source: ``digits`` (scikit-learn's 1797 handwritten digits), an ``.npz`` file with ``images``
        and ``labels``, or a folder with one folder of images a class.
      image_size: side in pixels that the digits and a folder's images are scaled to.
      crop_share: how much of a folder image's shorter side the centre crop keeps; None for the
        default, see `crops.share_for`.

    Returns:
      The data.

    Raises:
      ValueError: the data do not have this form.
      OSError: the data cannot be read.
    """
    check_exists(source)
    if source == "digits":
        return digits(image_size)
    path = Path(source)
    if path.is_dir():
        return list_folder(path, image_size, crop_share)
    return read_npz(path)


def in_memory(*parts: Dataset | ImageFiles) -> list[Dataset]:
    """Decodes all images of these parts.

    Raises:
      ValueError: images cannot be read; the message names those of all parts.
    """
    found, problems = [], []
    for part in parts:
        if isinstance(part, ImageFiles):
            images, wrong = part.decode(np.arange(len(part.labels)), "decoding")
            problems += wrong
            part = Dataset(images, part.labels, part.classes)
        found.append(part)
    tell(problems)
    return found


def digits(image_size: int) -> Dataset:
    """Scikit-learn's 8x8 grey digits, enlarged bilinearly."""
    from sklearn.datasets import load_digits

    data = load_digits()
    greys = np.round(data.images * (255 / 16)).astype(np.uint8)
    images = [
        Image.fromarray(grey).resize((image_size,) * 2, Image.Resampling.BILINEAR) for grey in greys
    ]
    return Dataset(
        np.repeat(np.stack([np.asarray(image) for image in images])[..., None], 3, axis=-1),
        data.target.astype(np.int32),
        tuple(str(name) for name in data.target_names),
    )


def read_npz(path: Path) -> Dataset:
    """Reads ``images`` (uint8, ``[N, H, W]`` or ``[N, H, W, 1 or 3]``) and ``labels`` (``[N]``).

    An optional array ``classes`` names the classes. Without it they are numbered.
    """
    arrays = _arrays(path, "images", "labels")
    images, labels = _checked_images(path, arrays["images"]), arrays["labels"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        raise ValueError(
            f"{path}: labels must be {len(images)} integers, one an image (got shape "
            f"{labels.shape} and type {labels.dtype})"
        )
    names = names_of(path, arrays["classes"]) if "classes" in arrays else None
    check_labels(path, labels, names)
    classes = class_names.numbers(int(labels.max()) + 1) if names is None else names
    return Dataset(images, labels.astype(np.int32), classes, named=names is not None)


def read_images(path: Path) -> np.ndarray:
    """The ``images`` of an npz file, as in `read_npz`, uint8 ``[N, H, W, 3]``."""
    return _checked_images(path, _arrays(path, "images")["images"])


def _arrays(path: Path, *needed: str) -> dict[str, np.ndarray]:
    """The arrays of an npz file; a ValueError unless these are among them."""
    arrays = npz.read(path)
    if not set(needed) <= arrays.keys():
        words = f"arrays {' and '.join(needed)}" if len(needed) > 1 else f"array {needed[0]}"
        raise ValueError(f"{path} must have the {words} (got {', '.join(arrays) or 'none'})")
    return arrays


def _checked_images(path: Path, images: np.ndarray) -> np.ndarray:
    """The images of an npz file with three channels; a ValueError if they have another form."""
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{path}: images must be uint8, [N, H, W, 3] or greys [N, H, W] (got shape "
            f"{images.shape} and type {images.dtype})"
        )
    if not images.size:
        raise ValueError(f"{path} must hold an image (got shape {images.shape})")
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def names_of(path: Path, array: np.ndarray) -> tuple[str, ...]:
    """The class names of an npz file, in Unicode's composed form like those of a folder."""
    if array.size > MAX_CLASSES:
        raise ValueError(f"{path}: classes must be at most {MAX_CLASSES} names (got {array.size})")
    text = os.fsdecode if array.dtype.kind == "S" else str
    names = tuple(unicodedata.normalize("NFC", text(name)) for name in array.ravel())
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"{path}: classes must name every class once (got {class_names.listed(twice)} again)"
        )
    return names


def check_labels(path: Path, labels: np.ndarray, names: tuple[str, ...] | None) -> None:
    """Raises a ValueError unless every label is the number of a class."""
    count = MAX_CLASSES if names is None else len(names)
    outside = labels[(labels < 0) | (labels >= count)]
    if not outside.size:
        return
    named = "" if names is None else f", as classes names {count}"
    raise ValueError(
        f"{path}: labels must be 0 to {count - 1}{named} (got {labels.min()} to {labels.max()}, "
        f"outside {len(outside)} times){class_names.ignored(outside)}"
    )
