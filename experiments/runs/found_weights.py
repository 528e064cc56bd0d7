"""Weights of pairs and channels that another run has found, fixed in this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..options import search_text
from ..options.builders import Parts
from ..options.train_options import Config
from ..training import learned_weights
from . import layout, resume


def fixed(parts: Parts, config: Config, source_sha256: Sequence[str]) -> Parts:
    """Parts with the weights that a run has learned, and its pairs.

    Args:
      parts: of this run.
      config: its options.
      source_sha256: of each source's weights.

    Raises:
      ValueError: the run has learned none, or between other networks, or on other pairs than the
        options name.
      OSError: the weights cannot be read.
    """
    folder = config.weights_from
    assert folder is not None
    known = resume.read_json(folder / layout.CONFIG)
    path = folder / layout.CHANNEL_WEIGHTS
    if known is None or resume.read_json(folder / layout.RESULT) is None or not path.exists():
        raise ValueError(
            f"--weights-from must be a finished run of l2t-w or l2t-ww (got {folder}); give the "
            "folder of one"
        )
    given = {
        "source": list(config.source),
        "source_sha256": [*source_sha256],
        "target": config.target,
        "source_scale": config.source_scale,
    }
    # Runs from before an option have no value of it.
    other = {name: value for name, value in given.items() if known.get(name, value) != value}
    if other:
        was = ", ".join(f"{name} {known[name]}, not {value}" for name, value in other.items())
        raise ValueError(f"--weights-from must be a run on the same networks (got {was})")
    found = learned_weights.read(path)
    if config.pairs is not None and found.pairs != list(parts.pairs):
        raise ValueError(
            f"--pairs must be those of --weights-from (got {config.pairs}); leave it out"
        )
    return parts._replace(
        pairs=found.pairs, pair_weights=found.pair_weights, channel_weights=found.channels
    )


def recorded(config: Config) -> dict[str, str]:
    """What config.json says about the run that found the weights, see `options.search_text`."""
    if config.weights_from is None:
        return {}
    known = resume.read_json(config.weights_from / layout.CONFIG) or {}
    return {"weights_of": search_text.written(known, dataclasses.asdict(config))}
