"""The file formats that the commands read: a valid file of each, and its reading."""

from __future__ import annotations

import io
import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import safetensors.numpy

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
import torch_files

from experiments.data import load
from experiments.networks import zoo
from experiments.reference import records
from experiments.training import learned_weights
from l2t_jax.pytorch import to_torch

NETWORK, IMAGE = "resnet8", (8, 8, 3)
Arrays = dict[str, np.ndarray]


class Format(NamedTuple):
    """A format: its valid files, how the commands read one, and whether it is a zip file."""

    files: list[bytes]
    read: Callable[[Path], Arrays]
    zipped: bool = False


def weights() -> Arrays:
    """A small network's, in PyTorch's names."""
    network = zoo.network(NETWORK, 3)
    variables = network.init(jax.random.key(0), np.zeros((1, *IMAGE), np.float32))
    return to_torch(variables) | {"bn1.num_batches_tracked": np.array(7)}


def read_weights(path: Path) -> Arrays:
    return to_torch(zoo.load(NETWORK, path, IMAGE)[1])


def checkpoint(arrays: Arrays) -> dict:
    tensors = OrderedDict((name, torch_files.Tensor(a)) for name, a in arrays.items())
    tensors._metadata = {"version": 1}
    return {"epoch": 3, "best": 0.5, "state_dict": tensors}


def image_sets() -> list[bytes]:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 6, 6, 3), np.uint8), np.arange(12) % 3
    return [
        npz(images=images, labels=labels),
        npz(images=images[..., 0], labels=labels, classes=np.array(["a", "bird", "c"])),
        npz(True, images=images, labels=labels.astype(np.uint8)),
    ]


def read_images(path: Path) -> Arrays:
    found = load.read_npz(path)
    count = len(found.labels)
    assert found.images.dtype == np.uint8
    assert found.images.ndim == 4
    assert (len(found.images), found.images.shape[3]) == (count, 3)
    assert found.labels.dtype == np.int32
    assert 0 <= found.labels.min() <= found.labels.max() < len(found.classes)
    return {"images": found.images, "labels": found.labels, "classes": np.array(found.classes)}


def channel_weights() -> list[bytes]:
    pairs = [(0, 0), (0, 1), (1, 1)]
    file = io.BytesIO()
    channels = [np.full(4, 0.25), np.full(4, 0.25), np.arange(5) / 10]
    learned_weights.write(
        file, learned_weights.Transferred(pairs, channels, np.array([0.1, 0.5, 2]))
    )  # type: ignore[arg-type]
    return [file.getvalue()]


def read_channels(path: Path) -> Arrays:
    found = learned_weights.read(path)
    assert len(found.pairs) == len(found.channels) == len(found.pair_weights)
    assert all(channels.ndim == 1 for channels in found.channels)
    channels = {f"{i}": channels for i, channels in enumerate(found.channels)}
    return {"pairs": np.array(found.pairs), "weights": found.pair_weights, **channels}


def read_record(path: Path) -> Arrays:
    record = records.load(path)
    return {"config": np.array(json.dumps(record.config)), **record.figures}


def npz(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


READERS: dict[str, Callable[[Path], Arrays]] = {
    "legacy .pth": read_weights,
    "zip .pth": read_weights,
    "safetensors": read_weights,
    "npz images": read_images,
    "channel weights": read_channels,
    "record": read_record,
}


def all_formats() -> dict[str, Format]:
    """By their names."""
    arrays = weights()
    files = {
        "legacy .pth": [torch_files.legacy(checkpoint(arrays))],
        "zip .pth": [torch_files.zipped(checkpoint(arrays))],
        "safetensors": [safetensors.numpy.save(arrays)],
        "npz images": image_sets(),
        "channel weights": channel_weights(),
        "record": [(Path(__file__).parents[1] / "data" / "tiny.npz").read_bytes()],
    }
    unzipped = ("legacy .pth", "safetensors")
    return {name: Format(files[name], read, name not in unzipped) for name, read in READERS.items()}
