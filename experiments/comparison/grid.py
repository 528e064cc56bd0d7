"""The runs of a comparison: methods × tasks × seeds × images per class."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

from ..data.load import short_name
from ..options import cli, method_text
from ..options.checks import flag
from ..options.methods import METHODS, uses
from ..options.train_options import SOME_METHODS_ONLY, Config

TRAIN = "l2t train"
# Options of a run that a comparison sets itself, and what to do instead of giving them.
RESERVED = {
    "method": "give --methods before the --",
    "task": "give --tasks before the --",
    "seed": "give --seeds before the --",
    "per-class": "give --per-class before the --",
    "run-dir": "give --out before the --",
    "resume": "a comparison resumes by itself, and starts anew with another --out",
    **dict.fromkeys(
        ("coordinator", "processes", "process"),
        "each run of a comparison has one process; leave it out",
    ),
}

# What a run with found weights has in common with the run that has found them.
MATCHED = ("source", "source_weights", "target", "source_scale", "pairs")


class Run(NamedTuple):
    """One training run of a comparison.

    Attributes:
      method: as given, such as ``fm:pairs=one-to-one``.
      config: its options, with its folder.
      folder: that folder.
    """

    method: str
    config: Config
    folder: Path

    @property
    def name(self) -> str:
        """The folder's name, which no other run of the comparison has."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """The file beside the folder that the run prints to."""
        return self.folder.with_name(f"{self.name}.log")


def expand(
    methods: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    per_class: Sequence[int],
    common: Sequence[str],
    out: Path,
) -> list[Run]:
    """All runs of a comparison, checked: the smallest number of images first, then by seed.

    Args:
      methods: names of methods, optionally with options: ``fm:pairs=one-to-one,beta=1``.
      tasks: names of tasks; if there are none, ``common`` names the data.
      seeds: of each combination.
      per_class: numbers of training images of each class; if there are none, all are taken.
      common: options of `experiments.train` for all runs, as words of a command line.
      out: folder for all runs.

    Returns:
      The runs.

    Raises:
      ValueError: an option does not parse, is out of range or must not be given here; or two
        runs have the same options or the same folder.
      FileNotFoundError: a source's weights are missing.
    """
    for name, values in (("--methods", methods), ("--seeds", seeds)):
        if not values:
            raise ValueError(f"{name} must have at least one value (got none)")
    check_common(common, tasks)
    chosen: list[str | None] = [*tasks] or [None]
    configs = {
        (task, method): configure(method, task, common) for task, method in product(chosen, methods)
    }
    searches = {
        (task, method): search_of(method, {other: configs[task, other] for other in methods})
        for task, method in configs
    }

    def run(number: int | None, seed: int, task: str | None, method: str) -> Run:
        config = replace(configs[task, method], seed=seed, per_class=number)
        folder = out / run_name(config, method)
        if (search := searches[task, method]) is not None:
            config = replace(config, weights_from=run(number, seed, task, search).folder)
        config = replace(config, run_dir=folder)
        config.check()
        return Run(method, config, folder)

    numbers: list[int | None] = [*sorted(per_class)] or [None]
    runs = [run(*choice) for choice in product(numbers, seeds, chosen, methods)]
    check_distinct(runs)
    return runs


def check_common(common: Sequence[str], tasks: Sequence[str]) -> None:
    """Raises a ValueError for words that are no options of a run, or must not be given."""
    names = [word[2:].partition("=")[0].replace("_", "-") for word in common if word[:2] == "--"]
    for name in names:
        if name in RESERVED:
            raise ValueError(
                f"options after -- must be for all runs (got --{name}); {RESERVED[name]}"
            )
    if "data" in names and len(tasks) > 1:
        raise ValueError(
            f"--tasks must be one task with --data after -- (got {' '.join(tasks)}); all would "
            "train on the same data"
        )
    try:
        cli.parse(Config, TRAIN, [*common])
    except ValueError as error:
        raise ValueError(f"after --: {error}") from None


def read_method(text: str) -> tuple[str, list[str]]:
    """Method and options of ``METHOD:OPTION=VALUE,…``; the options as words of a command line."""
    method, options = method_text.split(text)
    words: list[str] = []
    for option in options:
        name, equals, value = option.partition("=")
        name = name.replace("_", "-")
        if not equals:
            raise ValueError(
                f"--methods must be METHOD or METHOD:OPTION=VALUE,OPTION=VALUE (got {text})"
            )
        if name in RESERVED:
            raise ValueError(
                f"options of one method must not include {name} (got --methods {text}); "
                f"{RESERVED[name]}"
            )
        values = shlex.split(value)
        words += [f"--{name}={values[0]}"] if len(values) == 1 else [f"--{name}", *values]
    return method, words


def configure(text: str, task: str | None, common: Sequence[str]) -> Config:
    """The options of a method on a task, without seed, number of images and folder."""
    method, own = read_method(text)
    words = [*common, "--method", method, *(["--task", task] if task else [])]
    if method in METHODS and METHODS[method].sources == "none":
        words.append(
            "--source-weights"
        )  # without a value: those in common are for the other methods
    try:
        config = cli.parse(Config, TRAIN, [*words, *own])
        # Likewise what `check` refuses to a method that does not use it.
        config.entry()  # a mistyped name first
        given = {word.partition("=")[0] for word in own}
        unused = {
            name: getattr(Config, name)
            for name in SOME_METHODS_ONLY
            if not uses(config.method, name) and flag(name) not in given
        }
        if config.entry().keeps_network and flag("target") not in given:
            # What is given for all is the new network of the other methods.
            unused["target"] = config.source[0] if config.takes_steps else Config.target
        config = replace(config, **unused)
        config.check()
    except ValueError as error:
        where = f" on {task}" if task else ""
        raise ValueError(f"--methods {text}{where}: {error}") from None
    config.check_weights()
    return config


def search_of(method: str, configs: Mapping[str, Config]) -> str | None:
    """The method of a comparison whose runs find the weights of another one's.

    Args:
      method: the other one, such as ``fm:weights-from=l2t-ww``.
      configs: the options of all methods.

    Returns:
      The method as it was given, such as ``l2t-ww:epochs=50``; None if the weights are those of a
      folder, or equal.

    Raises:
      ValueError: several methods have that name or none, or it has other networks or pairs.
    """
    config = configs[method]
    name = str(config.weights_from)
    if name not in METHODS:
        return None
    found = [other for other in configs if configs[other].method == name]
    if len(found) != 1 or not METHODS[name].learns:
        raise ValueError(
            f"--methods {method}: weights-from must be the folder of a run, or l2t-w or l2t-ww if "
            f"--methods has it once (got {name}, and --methods {' '.join(configs)})"
        )
    search = configs[found[0]]
    for option in MATCHED:
        values = getattr(search, option), getattr(config, option)
        if values[0] != values[1] and values[1] is not None:
            raise ValueError(
                f"--methods {method}: {option.replace('_', '-')} must be that of {found[0]} (got "
                f"{values[1]} and {values[0] or 'none'})"
            )
    return found[0]


def run_name(config: Config, method: str) -> str:
    """A readable name for a run's folder, such as ``cifar10-n50-fm-pairs=one-to-one-seed0``."""
    name, words = read_method(method)
    parts = [config.task or short_name(config.data)]
    if config.per_class is not None:
        parts.append(f"n{config.per_class}")
    parts.append(name)
    # The last part of a path is enough to tell runs apart.
    parts += [re.sub(r"[^=\s]*/", "", word.removeprefix("--")) for word in words]
    return re.sub(r"[^\w.,+=-]", "_", "-".join([*parts, f"seed{config.seed}"]))


def check_distinct(runs: Sequence[Run]) -> None:
    """Raises a ValueError if two runs have the same folder, or differ in nothing else."""
    folders = Counter(run.folder for run in runs)
    if twice := [folder.name for folder, count in folders.items() if count > 1]:
        raise ValueError(
            f"each method, task, seed and number must be given once (got two runs {twice[0]})"
        )
    methods: dict[Config, str] = {}
    for run in runs:
        same = methods.setdefault(replace(run.config, run_dir=None), run.method)
        if same != run.method:
            raise ValueError(
                f"--methods must differ in their options (got {same} and {run.method}, which are "
                "the same); leave out one of them"
            )
    if long := [run.name for run in runs if len(run.name) > 200]:
        raise ValueError(
            f"the name of a run must be at most 200 characters (got {long[0]}); give fewer options "
            "in --methods"
        )
