"""Image sets: reading them, checking them, and dividing them with a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from PIL import Image

from experiments.files import read_npz
from experiments.folders import ImageFiles, list_folder


class Images(Protocol):
    """Labelled images, in memory or in files.

    Attributes:
      labels: int32, ``[N]``, from 0 to the number of classes minus 1.
      classes: the classes' names, in the labels' order.
      image_shape: height, width and channels, the same for all.
    """

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    def take(self, indices: np.ndarray) -> Self:
        """The samples at these indices."""
        ...

    def load(self, indices: np.ndarray) -> np.ndarray:
        """The images at these indices, uint8 RGB."""
        ...


Part = TypeVar("Part", bound=Images)


class Dataset(NamedTuple):
    """Labelled images in memory.

    Attributes:
      images: uint8 RGB, ``[N, H, W, 3]``.
      labels: int32, ``[N]``, from 0 to the number of classes minus 1.
      classes: the classes' names, in the labels' order.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def take(self, indices: np.ndarray) -> Dataset:
        """The samples at these indices."""
        return self._replace(images=self.images[indices], labels=self.labels[indices])

    def load(self, indices: np.ndarray) -> np.ndarray:
        """The images at these indices."""
        return self.images[indices]


class Splits(NamedTuple, Generic[Part]):
    """The three parts of an experiment's data.

    Attributes:
      train: to train on.
      validation: to choose the best epoch on.
      test: to test on.
      division: how they were divided, in words.
    """

    train: Part
    validation: Part
    test: Part
    division: str = "a seeded split"


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
    if source == "digits":
        return digits(image_size)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no such data: {source}; wanted digits, an .npz file or a folder")
    if path.is_dir():
        return list_folder(path, image_size, crop_share)
    return npz(path)


def in_memory(images: Dataset | ImageFiles) -> Dataset:
    """The images, all decoded."""
    if isinstance(images, Dataset):
        return images
    return Dataset(images.load(np.arange(len(images.labels))), images.labels, images.classes)


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


def npz(path: Path) -> Dataset:
    """Reads ``images`` (uint8, ``[N, H, W]`` or ``[N, H, W, 1 or 3]``) and ``labels`` (``[N]``).

    An optional ``classes`` names the classes; else they are numbered up to the largest label.
    """
    arrays = read_npz(path)
    if missing := [key for key in ("images", "labels") if key not in arrays]:
        raise ValueError(f"{path} has no {' and no '.join(missing)}, only {', '.join(arrays)}")
    images, labels = arrays["images"], arrays["labels"]
    names = [str(name) for name in arrays["classes"].ravel()] if "classes" in arrays else None
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{path}: images of shape {images.shape} and type {images.dtype} came; wanted uint8, "
            "[N, H, W, 3] or greys [N, H, W]"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        raise ValueError(
            f"{path}: labels of shape {labels.shape} and type {labels.dtype} came; wanted "
            f"{len(images)} integers, one an image"
        )
    if not images.size:
        raise ValueError(f"{path} holds no image: shape {images.shape}")
    if names is None and labels.max() >= len(labels):
        raise ValueError(
            f"{path}: label {labels.max()} came among {len(labels)} images; wanted fewer classes "
            "than images, numbered from 0, or names of the classes (classes)"
        )
    count = int(labels.max()) + 1 if names is None else len(names)
    if labels.min() < 0 or labels.max() >= count:
        raise ValueError(
            f"{path}: labels from {labels.min()} to {labels.max()} came; wanted 0 to {count - 1}"
        )
    classes = tuple(names or (str(label) for label in range(count)))
    if images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    return Dataset(images, labels.astype(np.int32), classes)


def hold_out(data: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Divides off a part of every class.

    Args:
      data: what to divide.
      fraction: share of each class that is held out, between 0 and 1; at least one image of each
        class that has two, and never all.
      seed: of the choice.

    Returns:
      What remains, and what is held out.
    """
    generator = np.random.default_rng(seed)
    held = np.zeros(len(data.labels), bool)
    for label in np.unique(data.labels):
        members = np.flatnonzero(data.labels == label)
        count = max(round(fraction * len(members)), 1)
        count = min(count, len(members) - 1)  # no class is held out whole
        held[generator.permutation(members)[:count]] = True
    return data.take(np.flatnonzero(~held)), data.take(np.flatnonzero(held))


def per_class(data: Part, count: int, seed: int) -> Part:
    """Takes ``count`` images of each class.

    Raises:
      ValueError: a class has fewer.
    """
    sizes = np.bincount(data.labels, minlength=len(data.classes))
    if count < 1 or count > sizes.min():
        raise ValueError(
            f"{count} images per class came; wanted 1 to {sizes.min()}, the size of the smallest "
            f"class ({data.classes[int(sizes.argmin())]}) in the training part"
        )
    generator = np.random.default_rng(seed)
    chosen = [
        generator.permutation(np.flatnonzero(data.labels == label))[:count]
        for label in range(len(data.classes))
    ]
    return data.take(np.sort(np.concatenate(chosen)))


def check_test(train: Images, test: Images) -> None:
    """Raises a ValueError unless test images and labels are of the training data's kind."""
    if test.image_shape != train.image_shape:
        raise ValueError(
            f"test images of shape {test.image_shape} came; wanted {train.image_shape}, as in the "
            "training data"
        )
    # Fewer classes will do where they are the first ones: their labels mean the same.
    if test.classes != train.classes[: len(test.classes)]:
        raise ValueError(
            f"test data of {len(test.classes)} classes ({', '.join(test.classes[:3])}, …) came; "
            f"wanted the training data's {len(train.classes)} ({', '.join(train.classes[:3])}, …)"
        )
