"""The paper's tasks: their settings by name, all in this place."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# The last layer of each stage, counted from 0.
STAGE_ENDS = {"resnet20": (2, 5, 8), "resnet32": (4, 9, 14)}

# TinyImageNet to small images: three stages of the source to the five of the target.
SMALL: dict[str, Any] = {
    "image_size": 32,
    "source": ("resnet32",),
    "target": "vgg9_bn",
    "pairs": ",".join(f"{m}-{n}" for m in STAGE_ENDS["resnet32"] for n in range(5)),
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


def stl10_from(*sources: str) -> dict[str, Any]:
    """STL-10 from several sources: the stages of each to the five of the target."""
    ends = [(number, m) for number, source in enumerate(sources) for m in STAGE_ENDS[source]]
    return SMALL | {
        "data": "stl10",
        "source": sources,
        "pairs": ",".join(f"{number}:{m}-{n}" for number, m in ends for n in range(5)),
    }


# The other options have the paper's values as their defaults.
TASKS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "cifar10": SMALL | {"data": "cifar10"},
        "cifar100": SMALL | {"data": "cifar100"},
        "stl10": SMALL | {"data": "stl10"},
        # Several sources. The last two have the same settings: what their second networks were
        # trained on shows in the weights alone.
        "stl10-resnet20": stl10_from("resnet32", "resnet20"),
        "stl10-twice": stl10_from("resnet32", "resnet32"),
        "stl10-cifar10": stl10_from("resnet32", "resnet32"),
        "cub200": LARGE | {"data": "cub200"},
        "mit67": LARGE | {"data": "mit67"},
        "stanford40": LARGE | {"data": "stanford40", "meta_lr": 1e-3},
        "dogs": LARGE | {"data": "dogs"},
    }
)

# Every task is in it, as a test checks.
DESCRIPTION = """
- cifar10, cifar100, stl10: ResNet-32 to VGG-9-BN. The source was trained on TinyImageNet.
- stl10-resnet20: likewise, with a ResNet-20 as second source, trained on TinyImageNet.
- stl10-twice: likewise, with a ResNet-32 as second source, trained there with another seed.
- stl10-cifar10: likewise, with a ResNet-32 as second source, trained on CIFAR-10.
- cub200, mit67, stanford40, dogs: ResNet-34 to ResNet-18. The source was trained on ImageNet.
""".strip()


def settings(task: str, *, same_stage: bool) -> dict[str, Any]:
    """A task's settings.

    Args:
      task: its name.
      same_stage: whether to pair only stages of equal size.

    Returns:
      Values by the options' names.

    Raises:
      ValueError: there is no such task.
    """
    if task not in TASKS:
        raise ValueError(f"--task must be one of {', '.join(TASKS)} (got {task})")
    chosen = dict(TASKS[task])
    if same_stage:
        stages = ",".join(f"{m}-{m}" for m in range(1, 5))
        chosen["pairs"] = stages if chosen["pairs"] == LARGE["pairs"] else "one-to-one"
    return chosen
