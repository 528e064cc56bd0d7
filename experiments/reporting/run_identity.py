"""What the options of a finished run say: which of them mattered, which are not the defaults."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from ..options.methods import uses
from ..options.run_options import PLACES
from ..options.tasks import TASKS
from ..options.train_options import Config
from ..runs.finished import Run
from ..system.files import plain

# Which images; the rest of the options says how they are learned.
DATA = ("task", "data", "data_sha256", "test_data", "image_size", "test_fraction", "val_fraction",
        "crop_share", "per_class", "division", "images")  # fmt: skip


def options(run: Run) -> dict[str, Any]:
    """The options of `Config` that matter to a run, with the pairs that a method takes itself."""
    method = run.config["method"]
    # A run from before there was an option did what is now its default, as `resume` has it.
    known = plain(dataclasses.asdict(Config()), digits=17)
    given = {name: run.config.get(name, known[name]) for name in known if uses(method, name)}
    if "pairs" in given and given["pairs"] is None:
        given["pairs"] = Config(method=method).pairs_or_default()
    return given


def defaults(run: Run) -> dict[str, Any]:
    """The options that a run has if only method and task are given."""
    method, task = run.config["method"], run.config.get("task")
    given = Config(method=method, task=task if task in TASKS else None)
    config = dataclasses.replace(given.with_presets(), method=method, task=task)
    return plain(dataclasses.asdict(config) | {"pairs": config.pairs_or_default()}, digits=17)


def command(run: Run) -> str:
    """The command line that a run was, or could have been, started with."""
    default = defaults(run)
    words = ["--method", run.config["method"]]
    for name, value in options(run).items():
        said = name in ("task", "data", "seed") or value != default[name]
        if name not in ("method", "run_dir") and said and value is not None:
            values = value if isinstance(value, list) else [value]
            words += [option(name), *map(str, values)]
    return f"l2t train {shlex.join(words)}"


def option(name: str) -> str:
    """The option as it is given."""
    return f"--{name.replace('_', '-')}"


def identity(run: Run) -> dict[str, Any]:
    """All that has to be alike for two runs to be averaged; weights count by what they are."""
    # Whatever else a run's config names is part of it too.
    config = run.config | options(run) | {"images": run.result["images"]}
    # How the data were divided is the seed's doing.
    left_out = PLACES | {"seed", "split_sha256", "source_weights", "source_layers"}
    method = config["method"]
    return {k: v for k, v in config.items() if k not in left_out and uses(method, k)}


def text(value: Any) -> str:
    """A value of an option, short."""
    return f"{value:g}" if isinstance(value, float) else str(value)
