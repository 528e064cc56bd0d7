"""The options of a finished run: those that matter, and those that are not the defaults."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..options.checks import flag
from ..options.config_file import WEIGHTS_USED
from ..options.methods import uses
from ..options.run_options import PLACES, RunOptions
from ..options.tasks import TASKS
from ..options.train_options import Config
from ..runs.finished import Run
from ..system.files import plain

# Options that say which images. The others say how to learn from them.
DATA = ("task", "data", "data_sha256", "test_data", "image_size", "test_fraction", "val_fraction",
        "crop_share", "per_class", "division", "images")  # fmt: skip

# Of l2t pretrain, beside the options of all runs. A test compares them with the command's.
PRETRAINING: dict[str, Any] = {"network": "resnet32"}


def _common() -> dict[str, Any]:
    """The options of all runs, with their defaults; without the file that they may come from."""
    fields = dataclasses.fields(RunOptions)
    known = {field.name: field.default for field in fields if field.name != "config"}
    return plain(known, digits=17)


def options(run: Run) -> dict[str, Any]:
    """The options that matter to a run; of l2t train, with the method's default pairs."""
    if "method" not in run.config:
        names = [*PRETRAINING, *_common()]
        return {name: run.config[name] for name in names if name in run.config}
    method = run.config["method"]
    # A run from before an option existed did what is now its default, as in `resume`.
    known = plain(dataclasses.asdict(Config()), digits=17)
    given = {name: run.config.get(name, known[name]) for name in known if uses(method, name)}
    # What a preset and a file of options say is what the other options are.
    del given["preset"], given["config"]
    if "pairs" in given and given["pairs"] is None:
        given["pairs"] = Config(method=method).pairs_or_default()
    return given


def defaults(run: Run) -> dict[str, Any]:
    """The options of a run if only method and task are given, or nothing of l2t pretrain."""
    if "method" not in run.config:
        return PRETRAINING | _common()
    method, task = run.config["method"], run.config.get("task")
    source = tuple(run.config.get("source", Config.source))
    given = Config(method=method, task=task if task in TASKS else None, source=source)
    config = dataclasses.replace(given.with_presets(), method=method, task=task)
    return plain(dataclasses.asdict(config) | {"pairs": config.pairs_or_default()}, digits=17)


def command(run: Run, *, seed: bool = True) -> str:
    """A command line that starts the run, with its seed or without."""
    default = defaults(run)
    kind, what = ("train", "method") if "method" in run.config else ("pretrain", "network")
    words = [flag(what), run.config[what]]
    for name, value in options(run).items():
        said = name in ("task", "data", "seed") or value != default[name]
        left_out = name in (what, "run_dir") or (name == "seed" and not seed)
        if said and not left_out and value is not None:
            values = value if isinstance(value, list) else [value]
            words += [flag(name), *map(str, values)]
    return f"l2t {kind} {shlex.join(words)}"


def identity(run: Run) -> dict[str, Any]:
    """All that must be the same for two runs to be averaged; weights count by their digests."""
    # It includes everything else in the run's config.
    config = run.config | options(run) | {"images": run.result["images"]}
    # The seed decides how the data are divided.
    left_out = PLACES | {"seed", "split_sha256", "source_weights", "source_layers", "weights_of"}
    left_out |= {WEIGHTS_USED}
    method = config["method"]
    # Each seed takes the weights that a search with that seed has found. Where that search lies
    # says nothing; its options, where they are recorded, do.
    if config.get("weights_from") is not None:
        config["weights_from"] = config.get("weights_of", "a search")
    return {k: v for k, v in config.items() if k not in left_out and uses(method, k)}


def data_name(config: Mapping[str, Any]) -> str:
    """The data set's name; of a file or a folder, its name without its place."""
    return Path(config["data"]).stem or config["data"]


def text(value: Any) -> str:
    """The value of an option, short."""
    return f"{value:g}" if isinstance(value, float) else str(value)
