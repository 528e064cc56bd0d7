"""What every training command does around the loop: data, the run's folder, progress, results."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments import devices, inputs, loop, provenance, zoo
from experiments.files import new_folder, plain, write_json
from experiments.options import RunOptions
from l2t_jax import Variables


def prepare(options: RunOptions) -> tuple[devices.Devices, inputs.Splits]:
    """Joins the run's processes, and reads its data.

    Returns:
      All devices, and the data.

    Raises:
      ValueError: options out of range, or data that are not of the described form.
      OSError: the data cannot be read.
    """
    options.check()
    devices.join(options.coordinator, options.processes, options.process)
    everywhere = devices.all_devices()
    everywhere.check_batch_size(options.batch_size)
    return everywhere, inputs.load_splits(options)


def begin(
    options: RunOptions,
    splits: inputs.Splits,
    everywhere: devices.Devices,
    what: str,
    **more: Any,
) -> None:
    """Makes the run folder, and says what will be done.

    Args:
      options: the run's; written to the folder.
      splits: its data.
      everywhere: its devices.
      what: is trained how, in words.
      more: what is written beside the options.
    """
    folder = new_folder(options.folder())
    settings = dataclasses.asdict(options) | {"division": splits.division} | more
    write_json(folder / "config.json", settings)
    print(
        f"{what}, on {len(splits.train.labels)} training, {len(splits.validation.labels)} "
        f"validation and {len(splits.test.labels)} test images ({splits.division}), "
        f"{len(splits.train.classes)} classes, on {everywhere.number} "
        f"device{'s' * (everywhere.number > 1)}; writing to {folder}"
    )


def train(
    options: RunOptions,
    compiled: loop.Compiled,
    source_variables: Variables | None,
    splits: inputs.Splits,
    rate: Callable[[int], float],
) -> loop.Result:
    """Trains with a progress bar and a file of metrics, both of the first process alone.

    Args:
      options: the run's.
      compiled: the method, from `loop.compile_method`.
      source_variables: the frozen source's; None where there is none.
      splits: the data.
      rate: learning rate of an epoch (from 0).

    Returns:
      The result.

    Raises:
      ValueError: an image cannot be read.
      RunFailedError: a loss became infinite or no number.
    """
    first = devices.is_first_process()
    path = options.folder() / "metrics.jsonl" if first else Path(os.devnull)
    with (
        inputs.training_data(options, splits.train, compiled.devices) as training,
        path.open("a", encoding="utf-8") as metrics,
        tqdm(
            total=options.epochs * training.steps,
            unit="step",
            dynamic_ncols=True,
            disable=not first,
        ) as bar,
    ):
        best = 0.0

        def on_step(number: int, info: Any) -> None:
            bar.set_postfix_str(
                f"loss {float(info.loss):.3f} acc {float(info.accuracy):.2f} best val {best:.3f}",
                refresh=False,
            )
            bar.update()

        def on_epoch(epoch: loop.Epoch) -> None:
            nonlocal best
            best = max(best, epoch.val_accuracy)
            metrics.write(json.dumps(plain(epoch._asdict())) + "\n")
            metrics.flush()

        return loop.train(
            compiled,
            source_variables,
            training,
            splits.validation,
            splits.test,
            loop.Schedule(options.epochs, rate, options.seed),
            on_step=on_step,
            on_epoch=on_epoch,
        )


def finish(
    weights: Path, result: loop.Result, splits: inputs.Splits, everywhere: devices.Devices
) -> None:
    """Writes the weights of the best epoch, and beside them the result, which it prints.

    Args:
      weights: the file for the weights. ``result.json`` is written last: it says that a run is
        finished.
      result: of the run.
      splits: its data.
      everywhere: its devices.
    """
    zoo.save(weights, result.variables)
    best = result.best_epoch
    write_json(
        weights.with_name("result.json"),
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
            "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "seconds": round(result.seconds, 3),
            "devices": provenance.hardware(everywhere),
            "versions": provenance.versions(),
        },
    )
    print(
        f"best epoch {best.epoch}: validation accuracy {100 * best.val_accuracy:.2f} %, test "
        f"accuracy {100 * result.test_accuracy:.2f} %"
    )
