"""The paper's tasks: the settings of each by name, the only place that has them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# TinyImageNet to small images: three stages of the source to the five of the target.
SMALL: dict[str, Any] = {
    "image_size": 32,
    "source": ("resnet32",),
    "target": "vgg9_bn",
    "pairs": ",".join(f"{m}-{n}" for m in (4, 9, 14) for n in range(5)),
    "batch_size": 128,
}
# ImageNet to large images: the four stages of both, without the stem.
LARGE: dict[str, Any] = {
    "image_size": 224,
    "source": ("resnet34",),
    "target": "resnet18",
    "pairs": ",".join(f"{m}-{n}" for m in range(1, 5) for n in range(1, 5)),
    "batch_size": 64,
}
# What is not named here has the paper's value as the option's own default.
TASKS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "cifar10": SMALL | {"data": "cifar10"},
        "cifar100": SMALL | {"data": "cifar100"},
        "stl10": SMALL | {"data": "stl10"},
        "cub200": LARGE | {"data": "cub200"},
        "mit67": LARGE | {"data": "mit67"},
        "stanford40": LARGE | {"data": "stanford40", "meta_lr": 1e-3},
        "dogs": LARGE | {"data": "dogs"},
    }
)
