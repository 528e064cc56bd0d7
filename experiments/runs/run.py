"""A run's folder, from the first check to the result, and what is written to it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import digests, few_images
from ..networks import zoo
from ..options.run_options import RunOptions
from ..system import devices, files, provenance
from ..system.errors import RunFailedError
from ..system.files import write_json
from ..training import loop
from . import confusion_file, inputs, layout, resume, trained_network

PARTS = ("train", "validation", "test")


def is_done(options: RunOptions) -> bool:
    """Checks the options and the run's folder, and joins the run's processes.

    Returns:
      Whether the folder has the result of the same run already. If so, it is printed.

    Raises:
      ValueError: an option is out of range, or the folder has something else.
      FileNotFoundError: a file that an option names does not exist.
    """
    options.check()
    devices.join(options.coordinator, options.processes, options.process)
    folder = options.folder()

    def look() -> bool:
        result = resume.result(folder, options)
        if result is None:
            return False
        accuracy = 100 * result["test_accuracy"]
        print(f"{folder} has this run's result already: test accuracy {accuracy:.2f} %")
        warn(result.get("warnings", ()))
        return True

    done = devices.on_first_process(look)
    if not done:
        options.check_files()  # before the data are read, which takes a while
    return done


def warn(warnings: Iterable[str]) -> None:
    """Prints warnings, a line each."""
    for warning in warnings:
        print(f"warning: {warning}")


def prepare(options: RunOptions) -> tuple[devices.Devices, inputs.Splits]:
    """Reads a run's data.

    Returns:
      All devices, and the data.

    Raises:
      ValueError: the data do not have the described form, or do not fit the options.
      OSError: the data cannot be read.
    """
    everywhere = devices.all_devices()
    if options.takes_steps:
        everywhere.check_batch_size(options.batch_size)
    return everywhere, inputs.load_splits(options)


@contextlib.contextmanager
def opened(
    options: RunOptions,
    splits: inputs.Splits,
    everywhere: devices.Devices,
    trained: trained_network.Trained,
    what: str,
    **more: Any,
) -> Iterator[None]:
    """Makes the run's folder, or opens that of a run to resume, and prints what it will do.

    Meanwhile no other process can train there. At the end, files that only an unfinished run needs
    are deleted.

    Args:
      options: the run's; they are written to the folder.
      splits: its data.
      everywhere: its devices.
      trained: the network that it trains.
      what: what is trained and how, in words.
      more: what is written with the options.

    Raises:
      ValueError: the folder has something else, or another process trains there.
      OSError: it cannot be written to.
      RunFailedError: a file cannot be written after the run has started.
    """
    folder = options.folder()
    more |= {
        "division": splits.division,
        "data_sha256": splits.data_sha256,
        "split_sha256": digests.of_splits(splits),
    }

    def begin() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if stack.enter_context(files.claim(folder / layout.LOCK)) is None:
            raise ValueError(
                f"--run-dir {folder} must be free (another process trains in it); give another "
                "folder"
            )
        begun = resume.check(folder, options, more)
        write_json(folder / layout.CONFIG, dataclasses.asdict(options) | more)
        write_json(folder / layout.TRAINS, trained._asdict())
        if splits.files is not None:
            write_files(folder / layout.IMAGES, splits, splits.files)
        print(
            f"{what}, on {len(splits.train.labels)} training, {len(splits.validation.labels)} "
            f"validation and {len(splits.test.labels)} test images ({splits.division}), "
            f"{len(splits.train.classes)} classes, on {everywhere.number} "
            f"device{'s' * (everywhere.number > 1)}; {'resuming in' if begun else 'writing to'} "
            f"{folder}"
        )
        warn(few_images.of_splits(splits))

    def end() -> None:
        shutil.rmtree(folder / layout.CHECKPOINTS, ignore_errors=True)
        for name in (layout.LOCK, layout.TRAINS):
            (folder / name).unlink(missing_ok=True)

    with contextlib.ExitStack() as stack:
        devices.on_first_process(begin)
        try:
            yield
        except OSError as error:
            raise RunFailedError(f"the run's files must be writable (got {error})") from error
        devices.on_first_process(end)


def write_files(path: Path, splits: inputs.Splits, names: Sequence[Sequence[str]]) -> None:
    """Writes a table of all files: to what part each belongs, its class and its path."""
    with contextlib.ExitStack() as stack:
        unfinished = stack.enter_context(files.replacing(path))
        # A file's name may have bytes that are no text. They are written as they are.
        file = stack.enter_context(
            unfinished.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        )
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("part", "class", "image"))
        for part, images, found in zip(PARTS, splits.parts(), names, strict=True):
            classes = (images.classes[label] for label in images.labels)
            table.writerows(zip([part] * len(found), classes, found, strict=True))


def finish(
    options: RunOptions,
    trained: trained_network.Trained,
    result: loop.Result,
    splits: inputs.Splits,
    everywhere: devices.Devices,
) -> None:
    """Writes the weights of the best epoch, then the result, and prints the result.

    Args:
      options: the run's.
      trained: the network that it has trained.
      result: of the run.
      splits: its data.
      everywhere: its devices.
    """
    folder = options.folder()
    zoo.save(folder / trained.weights, result.variables)
    confusion_file.write(folder / layout.CONFUSION, result.confusion, splits.test.classes)
    best, warnings = result.best_epoch, few_images.of_splits(splits)
    # This is the last file. It marks the run as finished.
    write_json(
        folder / layout.RESULT,
        {
            "best_epoch": best.epoch,
            "val_accuracy": best.val_accuracy,
            "test_accuracy": result.test_accuracy,
            "images": {
                "train": len(splits.train.labels),
                "validation": len(splits.validation.labels),
                "test": len(splits.test.labels),
                "classes": len(splits.train.classes),
            },
            layout.PER_CLASS: {
                name: np.bincount(part.labels, minlength=len(part.classes)).tolist()
                for name, part in zip(PARTS, splits.parts(), strict=True)
            },
            "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "seconds": round(result.seconds, 3),
            layout.AUGMENTATION: inputs.augmentation(options, splits.train),
            "dropped": result.dropped,
            "warnings": warnings,
            "devices": provenance.hardware(everywhere),
            "versions": provenance.versions(),
            layout.TRAINED: trained._asdict(),
        },
    )
    warn(warnings)
    if options.takes_steps and len(result.epochs) < options.epochs:
        print(
            f"ended after epoch {len(result.epochs)} of {options.epochs}: no better validation "
            f"accuracy in {options.patience} epochs (--patience)"
        )
    print(
        f"best epoch {best.epoch}: validation accuracy {100 * best.val_accuracy:.2f} %, test "
        f"accuracy {100 * result.test_accuracy:.2f} %"
    )
