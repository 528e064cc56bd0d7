"""The versions and devices that a run used."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import jax

from .devices import Devices

PACKAGES = ("jax", "jaxlib", "flax", "optax", "l2t_jax")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the numbers."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a checkout that is only on the path
        return "not installed"


def hardware(devices: Devices) -> dict[str, Any]:
    """The devices' kind and number, the number of processes, and this machine's cores."""
    return {
        "kind": devices.kind,
        "number": devices.number,
        "processes": jax.process_count(),
        "cpu_cores": os.cpu_count(),
    }
