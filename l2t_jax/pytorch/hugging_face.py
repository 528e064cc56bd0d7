"""Parameter names of Hugging Face's ResNets, in torchvision's, which the bundled ones have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

_NAME = re.compile(
    r"(?:resnet\.)?"
    r"(?:embedder\.embedder|encoder\.stages\.(?P<stage>\d+)\.layers\.(?P<block>\d+)"
    r"\.(?:layer\.(?P<layer>\d+)|shortcut))"
    r"\.(?P<kind>convolution|normalization)\.(?P<leaf>\w+)"
)


def torchvision_names(state_dict: Mapping[str, T]) -> dict[str, T]:
    """A state dict under torchvision's names, where it has those of Hugging Face's ResNets.

    Args:
      state_dict: names to anything.

    Returns:
      The same values; names of other kinds stay as they are.

    Example:
      >>> name = "resnet.encoder.stages.2.layers.0.shortcut.normalization.running_var"
      >>> list(torchvision_names({name: 1, "classifier.1.bias": 2}))
      ['layer3.0.downsample.1.running_var', 'fc.bias']
    """
    names = {name: _NAME.fullmatch(name) for name in state_dict}
    if not any(names.values()):
        return dict(state_dict)
    return {
        _renamed(match) if match else re.sub(r"^classifier\.1\.", "fc.", name): state_dict[name]
        for name, match in names.items()
    }


def _renamed(match: re.Match[str]) -> str:
    convolution = match["kind"] == "convolution"
    if match["stage"] is None:
        module = "conv1" if convolution else "bn1"
    else:
        block = f"layer{int(match['stage']) + 1}.{match['block']}"
        if match["layer"] is None:
            module = f"{block}.downsample.{0 if convolution else 1}"
        else:
            module = f"{block}.{'conv' if convolution else 'bn'}{int(match['layer']) + 1}"
    return f"{module}.{match['leaf']}"
