"""Checksums by which a run recognises its data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

import numpy as np

from .dataset import Dataset
from .image_files import ImageFiles
from .splits import Splits


def of_images(parts: Iterable[Dataset | ImageFiles]) -> str:
    """SHA-256 of all images with their labels, whatever their order and their part.

    Images in files count by their names.
    """
    samples = (
        hashlib.sha256(sample + f" {label}".encode()).digest()
        for part in parts
        for sample, label in zip(_contents(part), part.labels, strict=True)
    )
    return hashlib.sha256(b"".join(sorted(samples))).hexdigest()


def _contents(part: Dataset | ImageFiles) -> Iterator[bytes]:
    if isinstance(part, Dataset):
        return (image.tobytes() for image in part.images)
    return (os.fsencode(str(name)) for name in part.names)


def of_splits(splits: Splits[Dataset | ImageFiles]) -> str:
    """SHA-256 of the three parts in their order, with their labels.

    Images in files count by their names.
    """
    total = hashlib.sha256()
    for part in splits.parts():
        content = part.images if isinstance(part, Dataset) else part.names
        for array in (content, part.labels):
            total.update(f"{array.dtype} {array.shape}\n".encode())
            total.update(np.ascontiguousarray(array).view(np.uint8))
    return total.hexdigest()
