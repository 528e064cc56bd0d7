"""Train by several methods, on several tasks, with several seeds and numbers of images."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .comparison import grid, processes
from .comparison.grid import Run
from .comparison.progress import Progress, Start
from .options import cli
from .options.checks import at_least, check_ranges
from .runs import resume

# The options that decide which images a run gets, and how many at a time.
CHOICE = (
    *("data", "data_dir", "test_data", "image_size", "crop_share"),
    *("test_fraction", "val_fraction", "per_class", "batch_size"),
)

HINT = "give options of l2t train after --"


@dataclass(frozen=True)
class Options:
    r"""Train once by each method, on each task, with each seed and number of images.

    How it works:
    - Each run is a process of its own. It has a folder and a log in --out.
    - The smallest number of images comes first, then one seed after the other.
    - Repeat the command to resume. Finished runs are skipped.
    - Options after -- hold for all runs. l2t train --help lists them.

    Example:
      l2t compare --methods scratch fm:pairs=one-to-one l2t-ww \
          --tasks cifar10 --per-class 50 100 --seeds 0 1 2 --out results \
          -- --source-weights tinyimagenet200_resnet32.pth.tar --epochs 100
    """

    #: Methods, as l2t train --help lists them. The source weights are not given to scratch. A
    #: method may have options of its own:
    #: - fm:pairs=one-to-one
    #: - l2t-ww:where=constant,beta=1
    #: - "fm:source=resnet32 resnet20" (in quotes, because the value has a blank).
    #: - fm:weights-from=l2t-ww: with the weights that the comparison's l2t-ww has found with the
    #:   same seed and images.
    methods: Annotated[tuple[str, ...], arg(metavar="METHOD[:OPTION=VALUE,...] ...")]
    #: Tasks of the paper, as l2t train --help lists them. With none, give --data after --.
    tasks: Annotated[
        tuple[str, ...], arg(metavar="TASK ...", help_behavior_hint="(default: none)")
    ] = ()
    #: Seeds. Every combination is run once with each.
    seeds: Annotated[tuple[int, ...], arg(metavar="SEED ...")] = (0, 1, 2)
    #: Numbers of training images of each class.
    per_class: Annotated[
        tuple[int, ...], arg(metavar="N ...", help_behavior_hint="(default: all images)")
    ] = ()
    #: Folder for the runs' folders and logs.
    out: Annotated[Path, arg(metavar="FOLDER")] = Path("runs")
    #: Number of runs at once. They share the processors and the accelerator's memory.
    jobs: Annotated[int, arg(metavar="N")] = 1
    #: Options of l2t train for all runs, such as --source-weights FILE or --epochs 100.
    common: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="-- OPTION ...", help_behavior_hint="(default: none)"),
    ] = ()


def main(options: Options, start: Start = processes.Process) -> int:
    """Does the runs that are not done yet.

    Args:
      options: what to run.
      start: starts a process.

    Returns:
      0, 1 if a run failed, 130 if it was interrupted.

    Raises:
      ValueError, OSError: bad input. No run was started.
    """
    check_ranges(options, *at_least(1, options, ("jobs",)))
    runs = grid.expand(
        options.methods,
        options.tasks,
        options.seeds,
        options.per_class,
        options.common,
        options.out,
    )
    # A folder with a run of other options ends the command before any run starts.
    left = [run for run in runs if resume.result(run.folder, run.config) is None]
    find_weights(left)
    check_data(left)
    options.out.mkdir(parents=True, exist_ok=True)
    before = len(runs) - len(left)
    plural = "s" * (len(runs) > 1)
    print(
        f"{len(runs)} run{plural} in {options.out}: {before} done before, {len(left)} to do",
        flush=True,
    )
    progress = Progress(left, options.jobs, start)
    try:
        searches: dict[Path | None, Run] = {run.folder: run for run in left}
        processes.work_off(
            left,
            options.jobs,
            progress.begin,
            progress.end,
            needs=lambda run: searches.get(run.config.weights_from),
        )
    except KeyboardInterrupt:
        print(f"interrupted: {progress.summary()}\nRepeat the command to resume.", flush=True)
        return 130
    print(progress.summary(), flush=True)
    return 1 if progress.failed else 0


def find_weights(runs: Sequence[Run]) -> None:
    """Looks names of weights up on the Hub, and downloads what the cache does not have."""
    from .networks import weight_files
    from .runs import source_weights

    wanted = [name for run in runs for name in source_weights.names(run.config)[1]]
    for name in dict.fromkeys(filter(weight_files.on_hub, wanted)):
        weight_files.find(name)


def check_data(runs: Sequence[Run]) -> None:
    """Raises a ValueError if a run could not use its data; each choice of data is read once."""
    from .runs import inputs  # late, since the help does not need it

    # The seed decides which images of a class a run gets, but not whether there are enough.
    key = attrgetter(*CHOICE)
    one_of_each = {key(run.config): run for run in reversed(runs)}
    for run in runs:
        with told_of(run):
            run.config.check_data()
            run.config.check_apart()
    for run in one_of_each.values():
        with told_of(run):
            inputs.parts_to_use(run.config)


@contextlib.contextmanager
def told_of(run: Run) -> Iterator[None]:
    """Names the run in an error about its input."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(f"{run.name}: {error}") from error


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t compare", hint=HINT, args=words)


if __name__ == "__main__":
    sys.exit(command())
