"""Trains by several methods, on several tasks, with several seeds and numbers of images."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .comparison import grid, processes
from .comparison.grid import Run
from .comparison.progress import Progress, Start
from .options import cli, tasks
from .runs import resume

# Options that say which images a run gets, and how many at a time.
CHOICE = (
    *("data", "data_dir", "test_data", "image_size", "crop_share"),
    *("test_fraction", "val_fraction", "per_class", "batch_size"),
)

HINT = "options of the train command come after --"


@dataclass(frozen=True)
class Options:
    """Compare methods: one run of the train command for each method, task, seed and number of
    images, the smallest number first, then seed by seed.

    Each run is a process of its own, with a folder and a log in --out. The same command again
    goes on where this one ended: runs that are done are skipped, those that were broken off go on
    from their latest checkpoints. What comes after -- are options of the train command for
    all runs.

    Example: l2t compare --methods scratch fm:pairs=one-to-one l2t-ww --tasks
    cifar10 --per-class 50 100 --seeds 0 1 2 --out results --
    --source-weights tinyimagenet200_resnet32.pth.tar --epochs 100
    """

    #: Methods of the train command, each with options of its own where wanted:
    #: fm:pairs=one-to-one, l2t-ww:where=constant,beta=1, l2t-ww:scheme=bilevel. Values that have
    #: blanks between them are put in quotes: "fm:source=resnet32 resnet20". scratch gets no source
    #: weights.
    methods: Annotated[tuple[str, ...], arg(metavar="METHOD[:OPTION=VALUE,...] ...")]
    #: Tasks of the paper. With none, --data after -- says what to train on, as for
    #: the train command.
    tasks: Annotated[tuple[str, ...], arg(metavar=f"{tasks.CHOICES} ...")] = ()
    #: Seeds; every combination is run once with each.
    seeds: Annotated[tuple[int, ...], arg(metavar="SEED ...")] = (0, 1, 2)
    #: Numbers of training images of each class; with none all images are taken.
    per_class: Annotated[tuple[int, ...], arg(metavar="N ...")] = ()
    #: Folder for all runs, a folder and a log each.
    out: Annotated[Path, arg(metavar="FOLDER")] = Path("runs")
    #: Runs at once. They share the processors and the accelerator's memory, which has to be enough
    #: for all of them.
    jobs: int = 1
    #: Options of the train command for all runs, such as --source-weights FILE or --epochs 100;
    #: its --help lists them.
    common: Annotated[Positional[tuple[str, ...]], arg(metavar="-- OPTION ...")] = ()


def main(options: Options, start: Start = processes.Process) -> int:
    """Runs what is not done yet.

    Args:
      options: what to run.
      start: starts a process.

    Returns:
      0, 1 if a run failed, 130 if it was interrupted.

    Raises:
      ValueError, OSError: bad input; nothing was started.
    """
    if options.jobs < 1:
        raise ValueError(f"--jobs {options.jobs} came; wanted 1 or more")
    runs = grid.expand(
        options.methods,
        options.tasks,
        options.seeds,
        options.per_class,
        options.common,
        options.out,
    )
    # A folder with another configuration's run is told before anything is started.
    left = [run for run in runs if resume.result(run.folder, run.config) is None]
    check_data(left)
    options.out.mkdir(parents=True, exist_ok=True)
    before = len(runs) - len(left)
    plural = "s" * (len(runs) > 1)
    print(
        f"{len(runs)} run{plural} in {options.out}: {before} done before, {len(left)} to go",
        flush=True,
    )
    progress = Progress(left, options.jobs, start)
    try:
        processes.work_off(left, options.jobs, progress.begin, progress.end)
    except KeyboardInterrupt:
        print(f"interrupted: {progress.summary()}\nThe same command goes on from here.", flush=True)
        return 130
    print(progress.summary(), flush=True)
    return 1 if progress.failed else 0


def check_data(runs: Sequence[Run]) -> None:
    """Raises a ValueError where a run would find its data unfit; each choice is read once."""
    from .runs import inputs  # and JAX, which the help can do without

    # Which images of a class a run gets goes by its seed; whether there are enough does not.
    key = attrgetter(*CHOICE)
    one_of_each = {key(run.config): run for run in reversed(runs)}
    for run in one_of_each.values():
        try:
            inputs.parts_to_use(run.config)
        except (ValueError, OSError) as error:
            raise ValueError(f"{run.name}: {error}") from error


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t compare", hint=HINT, args=words)


if __name__ == "__main__":
    sys.exit(command())
