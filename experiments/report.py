"""Make one table and the pictures of many runs."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import datetime
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .options import cli
from .reporting import each_class, groups, paired, pictures, run_identity, table
from .reporting.groups import Arranged, Group
from .runs import finished
from .runs.finished import Found, Run
from .system import provenance


@dataclass(frozen=True)
class Options:
    """Make one table and the pictures of many runs.

    It writes report.md, which has everything, table.md, table.csv, table.tex and pictures:
    - A row is a method, with the options in which the runs differ.
    - A column is a data set, with a number of images per class.
    - A cell is the mean test accuracy over the seeds.
    - A second table has the validation accuracy, to choose options by.
    - Only runs that differ in nothing but the seed are averaged.
    - Of runs with the same options and seed the last one counts.

    Example:
      l2t report runs --out report
    """

    #: Folders of runs of l2t train, or folders that have some at any depth.
    runs: Positional[
        Annotated[tuple[Path, ...], arg(metavar="RUNS ...", help_behavior_hint="(required)")]
    ]
    #: Folder for the report. It replaces the files of an earlier one.
    out: Annotated[Path, arg(metavar="FOLDER")] = Path("report")


def main(options: Options) -> int:
    """Reads the runs and writes the report."""
    if not options.runs:
        raise ValueError("RUNS must be folders of runs, or folders that have some (got none)")
    found = finished.find(options.runs)
    if not found.runs:
        raise ValueError(
            f"RUNS must have a finished run of l2t train (got {' '.join(map(str, options.runs))} "
            f"with {len(found.unfinished)} unfinished and {len(found.unreadable)} unreadable ones)"
            + "".join(f"; {folder}: {why}" for folder, why in found.unreadable[:1])
        )
    arranged = groups.arrange(found.runs)
    results, validation = table.tabulate(arranged), table.tabulate(arranged, "validation")
    options.out.mkdir(parents=True, exist_ok=True)
    texts = {
        "table.md": table.markdown(results),
        "table.csv": table.comma_separated(results, validation),
        "table.tex": table.latex(results),
    }
    drawn = [
        *pictures.of_accuracies(options.out, arranged, results),
        *each_class.pictures(options.out, arranged, validation),
        *pictures.of_transfer(options.out, arranged),
    ]
    texts["report.md"] = "\n\n".join(
        [
            "# Report",
            f"{len(found.runs) - len(arranged.repeated)} runs. The table has the test accuracy in "
            "per cent, at the epoch with the best validation accuracy: mean ± sample standard "
            "deviation over the seeds (number of seeds). Bold: the highest mean of each column "
            "and all that the spread does not separate from it.",
            texts["table.md"].strip(),
            *what_it_shows(results),
            *to_choose_by(validation),
            *paired.section(results, validation),
            *each_class.tables(arranged, validation),
            *few_images(arranged),
            *alike(arranged),
            *left_out(found, arranged),
            "## Pictures",
            *(f"![{name}]({name})\n\n*{caption}*" for name, caption in drawn),
            *how_made(arranged),
        ]
    )
    for name, text in texts.items():
        # A class's name may have bytes that are no text. They are written as they are.
        path = options.out / name
        path.write_text(text.strip() + "\n", encoding="utf-8", errors="surrogateescape")
    if len(results.rows) > 1:
        print(f"On the validation images, to choose by:\n\n{table.markdown(validation)}")
    print(
        f"On the test images:\n\n{texts['table.md']}\nwrote {options.out / 'report.md'} with "
        f"{len(drawn)} pictures"
    )
    for name, runs in (("unfinished", found.unfinished), ("unreadable", found.unreadable)):
        for folder, why in runs:
            print(f"not in the table, {name}: {folder} ({why})")
    return 0


def what_it_shows(results: table.Table) -> Iterable[str]:
    """How small a difference the figures of each column can show."""
    yield table.grid(table.LIMITS, table.limits(results)).strip()
    yield (
        "Chance is the accuracy of a class drawn at random for each image. The standard error is "
        "that of one run, because it has only so many test images. It is taken at the column's "
        "highest mean: √(q (1 - q) / n), where k of n images are right and q = (k + 1) / (n + 2). "
        "Two means are separate if they differ by more than √(s₁² + s₂²). Here s is the standard "
        "deviation over the seeds, or the standard error if that is larger or there is one seed."
    )


def to_choose_by(validation: table.Table) -> Iterable[str]:
    """The table by which options are chosen."""
    yield "## To choose by"
    yield (
        "Accuracy on the validation images, in per cent, at each run's best epoch. Choose between "
        "options of a method, such as β, by this table. Then report the test accuracy of the one "
        "that you chose. If you choose by test accuracy, the figure that you report is partly luck."
    )
    yield table.markdown(validation).strip()


def few_images(arranged: Arranged) -> Iterable[str]:
    """The warnings about few images that the runs have printed."""
    said = {
        f"{column}: {warning}": None
        for (_, column), group in arranged.groups.items()
        for run in group.runs
        for warning in run.warnings
    }
    if said:
        yield "**Warning**, few images:\n\n" + "\n".join(f"- {line}" for line in said)


def alike(arranged: Arranged) -> Iterable[str]:
    """The options that the rows' names leave out."""
    if arranged.common:
        yield (
            f"Not the default, but the same in all rows that use it: {', '.join(arranged.common)}."
        )


def left_out(found: Found, arranged: Arranged) -> Iterable[str]:
    """The runs that are not in the table, and why."""
    kinds = {
        "Unfinished": [f"{folder} ({progress})" for folder, progress in found.unfinished],
        "Unreadable": [f"{folder}: {why}" for folder, why in found.unreadable],
        "Repeated (a later run with the same options and seed counts)": [
            str(run.folder) for run in arranged.repeated
        ],
        "Source networks": [
            f"{run.folder}: {run.config['network']} on {run.config['data']}, test accuracy "
            f"{100 * run.accuracy:.1f} %"
            for run in found.sources
        ],
    }
    for kind, items in kinds.items():
        if items:
            yield f"{kind}, not in the table:\n\n" + "\n".join(f"- {item}" for item in items)


def how_made(arranged: Arranged) -> Iterable[str]:
    """Dates, versions, devices, times and commands."""
    runs = [run for group in arranged.groups.values() for run in group.runs]
    dates = sorted(run.finished for run in runs)
    seconds = sum(run.result["seconds"] for run in runs)
    seeds = sorted({run.config["seed"] for run in runs})
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    yield "## How this was made"
    yield "\n".join(
        [
            f"- Report: {now}, l2t_jax {provenance.versions()['l2t_jax']}",
            f"- Runs finished: {dates[0].isoformat()} to {dates[-1].isoformat()}",
            f"- Seeds: {', '.join(map(str, seeds))}",
            f"- Time to train, validate and test: {duration(seconds)}",
            *(f"- Images of {column}: {images(run)}" for column, run in of_columns(arranged)),
            *counted("Versions", [versions(run) for run in runs]),
            *counted("Devices", [hardware(run) for run in runs]),
        ]
    )
    yield "Seconds per run, mean over the seeds:"
    yield table.grid(
        ["method", *(column.label for column in arranged.columns)],
        [
            [row, *(mean_seconds(arranged.groups.get((row, c.label))) for c in arranged.columns)]
            for row in arranged.rows
        ],
    ).strip()
    yield "Commands, without each run's own `--seed` and `--run-dir`:"
    lines = []
    for (row, column), group in arranged.groups.items():
        lines.append(f"# {row}, {column}: seeds {', '.join(map(str, group.seeds))}")
        lines.append(run_identity.command(group.runs[0], seed=False))
    yield "```\n" + "\n".join(lines) + "\n```"


def of_columns(arranged: Arranged) -> list[tuple[str, Run]]:
    """Each column's label and one of its runs."""
    by_column = {column: group.runs[0] for (_, column), group in arranged.groups.items()}
    return [(column.label, by_column[column.label]) for column in arranged.columns]


def images(run: Run) -> str:
    """How many images each part of a run had, and how they were divided."""
    counts = run.result["images"]
    return (
        f"{counts['train']} to train on, {counts['validation']} to choose the epoch, "
        f"{counts['test']} to test, of {counts['classes']} classes ({run.config['division']})"
    )


def mean_seconds(group: Group | None) -> str:
    """Mean duration of a group's runs."""
    if group is None:
        return ""
    return f"{statistics.fmean(run.result['seconds'] for run in group.runs):.0f}"


def versions(run: Run) -> str:
    """The versions that a run was made with."""
    return ", ".join(f"{name} {version}" for name, version in run.result["versions"].items())


def hardware(run: Run) -> str:
    """The devices that a run was made on."""
    devices = run.result["devices"]
    return (
        f"{devices['number']} × {devices['kind']}, processes: {devices['processes']}, CPU cores: "
        f"{devices['cpu_cores']}"
    )


def counted(name: str, texts: Sequence[str]) -> list[str]:
    """A line for each distinct text, with its number of runs if there are several."""
    counts = Counter(texts)
    return [
        f"- {name}: {text}" + (f" ({count} runs)" if len(counts) > 1 else "")
        for text, count in counts.items()
    ]


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=round(seconds)))


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t report", args=words)


if __name__ == "__main__":
    sys.exit(command())
