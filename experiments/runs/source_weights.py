"""The files of a run's source weights, and what config.json says about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..networks import sources, weight_files
from ..options.config_file import WEIGHTS_USED
from ..options.train_options import Config
from ..system import devices
from . import layout, resume


class Weights(NamedTuple):
    """The weights of each source of a run.

    Attributes:
      given: their names, as the run was first given them.
      used: what they were found by. A name on the Hub has its commit and its file in it.
      files: where they are on this machine.
      sha256: of each file.
    """

    given: tuple[str, ...]
    used: tuple[str, ...]
    files: tuple[Path, ...]
    sha256: tuple[str, ...]

    def recorded(self) -> dict[str, Any]:
        """What config.json says about them."""
        found: dict[str, Any] = {"source_sha256": [*self.sha256]}
        if any(map(weight_files.on_hub, self.used)):
            found |= {"source_weights": [*self.given], WEIGHTS_USED: [*self.used]}
        return found


def names(config: Config) -> tuple[Sequence[str], Sequence[str]]:
    """The names that a run was given, and those to find its weights by.

    A run in the folder has used names with a commit. The options may have either.
    """
    known = resume.read_json(config.folder() / layout.CONFIG) or {}
    given, used = known.get("source_weights"), known.get(WEIGHTS_USED)
    if given and used and [*config.source_weights] in (given, used):
        return given, used
    return config.source_weights, config.source_weights


def find(config: Config) -> Weights:
    """Finds the weights, from the Hub where they have a name there.

    Raises:
      ValueError: a name on the Hub does not lead to a safetensors file that may be read.
      OSError: the Hub cannot be reached, or a file cannot be read.
    """
    given, wanted = names(config)
    if any(map(weight_files.on_hub, wanted)):
        # All processes take the same commit, which only the first one asks for.
        wanted = devices.on_first_process(lambda: [weight_files.find(each).name for each in wanted])
    files = tuple(weight_files.find(each).file for each in wanted)
    return Weights(tuple(given), tuple(wanted), files, tuple(map(sources.digest, files)))
