"""The folder of an exported network: its files, and what describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from l2t_jax import Network, Variables

from ..data.preprocess import MEAN, STD
from ..networks import sources, zoo
from ..runs import resume
from ..runs.trained_network import Trained
from ..system import files, provenance
from . import program

# The description is moved last: a folder that has it is whole.
PROGRAM, WEIGHTS, MODEL = "program.jax", "model.safetensors", "model.json"
BYTES = "bytes"  # of the program and the weights, in the description


def describe(run: Path, trained: Trained) -> dict[str, Any]:
    """What model.json says: all that a program in any language needs to know.

    Args:
      run: the run's folder.
      trained: the network that it has trained.

    Raises:
      OSError: the weights cannot be read.
    """
    height, width, channels = trained.image_shape
    versions = provenance.versions()
    return {
        "classes": trained.classes,
        "image_shape": trained.image_shape,
        "crop_share": trained.crop_share,
        "mean": MEAN,
        "std": STD,
        "normalisation": "(pixel / 255 - mean) / std, within the program",
        "input": f"uint8 [N, {height}, {width}, {channels}], RGB",
        "output": f"float32 [N, {len(trained.classes)}], probabilities",
        "platforms": program.PLATFORMS,
        "network": trained.network,
        "weights_sha256": sources.digest(run / trained.weights),
        "made_by": {name: versions[name] for name in ("l2t_jax", "jax", "jaxlib")},
    }


def is_done(folder: Path, description: dict[str, Any]) -> bool:
    """Whether a folder has this export already.

    Raises:
      ValueError: it has something else.
    """
    if not folder.exists():
        return False
    if folder.is_dir() and all(path.name == files.UNFINISHED for path in folder.iterdir()):
        return False
    known = resume.read_json(folder / MODEL) or {}
    sizes, wanted = known.pop(BYTES, None), files.plain(description, digits=17)
    what = "something else"
    if known == wanted:
        if sizes == sizes_in(folder):
            return True
        what = "this export, damaged"
    elif known | {"made_by": None} == wanted | {"made_by": None}:
        made_by = ", ".join(f"{name} {version}" for name, version in known["made_by"].items())
        what = f"this export, made by {made_by}"
    raise ValueError(
        f"--out must be a new or empty folder (got {folder}, which has {what}); give another "
        "folder, or remove this one"
    )


def sizes_in(folder: Path) -> dict[str, int]:
    """The sizes in bytes of the program and the weights that are in a folder."""
    paths = [folder / name for name in (PROGRAM, WEIGHTS)]
    return {path.name: path.stat().st_size for path in paths if path.is_file()}


def write(
    folder: Path,
    network: Network,
    variables: Variables,
    description: dict[str, Any],
    texts: dict[str, str],
) -> None:
    """Writes the program, the weights, the description and texts, all or none.

    Args:
      folder: a new or empty folder.
      network: the trained network.
      variables: its variables.
      description: from `describe`.
      texts: more files, by name.

    Raises:
      OSError: they cannot be written.
    """
    content = program.write(network, variables, description["image_shape"])
    # Values of the metadata must be texts. PyTorch's format is that of the names and layouts.
    known = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in description.items()
        if name not in ("normalisation", "input", "output", "platforms")
    }
    with files.filling(folder, last=MODEL) as unfinished:
        (unfinished / PROGRAM).write_bytes(content)
        zoo.save(unfinished / WEIGHTS, variables, {"format": "pt", **known})
        for name, text in texts.items():
            (unfinished / name).write_text(text, encoding="utf-8", errors="surrogateescape")
        files.write_json(unfinished / MODEL, description | {BYTES: sizes_in(unfinished)})
