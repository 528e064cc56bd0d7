"""Image sets in files of any kind: reading and checking them."""

from __future__ import annotations

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

MAX_CLASSES = 100_000  # a file of few bytes could name any number


def check_exists(source: str) -> None:
    """Raises a FileNotFoundError where data are neither the digits nor a file or folder."""
    if source != "digits" and not Path(source).exists():
        raise FileNotFoundError(
            f"no such data: {source}; give digits, an .npz file, a folder or a public set's name"
        )


def load(source: str, image_size: int, crop_share: float | None = None) -> Dataset | ImageFiles:
    """Reads an image set; of a folder the list of its files, whose headers alone are read.

    Args:
      source: ``digits`` (scikit-learn's 1797 handwritten digits), an ``.npz`` file with ``images``
        and ``labels``, or a folder with one folder of images a class.
      image_size: side in pixels that the digits and the images of a folder are brought to.
      crop_share: of the shorter side of a folder's images, how much the centre crop keeps; see
        `list_folder`.

    Returns:
      The data.

    Raises:
      ValueError: the data are not of the described form.
      OSError: they cannot be read.
    """
    check_exists(source)
    if source == "digits":
        return digits(image_size)
    path = Path(source)
    if path.is_dir():
        return list_folder(path, image_size, crop_share)
    return read_npz(path)


def in_memory(*parts: Dataset | ImageFiles) -> list[Dataset]:
    """The images, all decoded.

    Raises:
      ValueError: names all that cannot be read, of all parts.
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
    """Scikit-learn's digits, 8x8 greys, enlarged bilinearly."""
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

    An optional ``classes`` names the classes; else they are numbered up to the largest label.
    """
    arrays = npz.read(path)
    if missing := [key for key in ("images", "labels") if key not in arrays]:
        raise ValueError(f"{path} has no {' and no '.join(missing)}, only {', '.join(arrays)}")
    images, labels = arrays["images"], arrays["labels"]
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{path}: images must be uint8, [N, H, W, 3] or greys [N, H, W] (got shape "
            f"{images.shape} and type {images.dtype})"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        raise ValueError(
            f"{path}: labels must be {len(images)} integers, one an image (got shape "
            f"{labels.shape} and type {labels.dtype})"
        )
    if not images.size:
        raise ValueError(f"{path} holds no image: shape {images.shape}")
    names = names_of(path, arrays["classes"]) if "classes" in arrays else None
    check_labels(path, labels, names)
    if images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    classes = class_names.numbers(int(labels.max()) + 1) if names is None else names
    return Dataset(images, labels.astype(np.int32), classes, named=names is not None)


def names_of(path: Path, array: np.ndarray) -> tuple[str, ...]:
    """The names of an npz file's classes, in Unicode's composed form as those of a folder."""
    if array.size > MAX_CLASSES:
        raise ValueError(f"{path}: classes must be at most {MAX_CLASSES} names (got {array.size})")
    names = tuple(unicodedata.normalize("NFC", str(name)) for name in array.ravel())
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"{path}: classes must name every class once (got {class_names.listed(twice)} again)"
        )
    return names


def check_labels(path: Path, labels: np.ndarray, names: tuple[str, ...] | None) -> None:
    """Raises a ValueError unless all labels are numbers of classes."""
    count = MAX_CLASSES if names is None else len(names)
    outside = labels[(labels < 0) | (labels >= count)]
    if not outside.size:
        return
    named = "" if names is None else f", as classes names {count}"
    raise ValueError(
        f"{path}: labels must be 0 to {count - 1}{named} (got {labels.min()} to {labels.max()}, "
        f"outside {len(outside)} times){class_names.ignored(outside)}"
    )
