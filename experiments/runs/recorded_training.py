"""Training with a progress bar, a file of metrics and checkpoints to resume from."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from l2t_jax import Variables

from ..data.batches import TrainingData
from ..options.run_options import RunOptions
from ..system import devices, signals
from ..system.files import plain
from ..training import jitted, loop
from ..training.snapshot import Epoch, Point
from . import further_batches, inputs, layout, snapshot_io
from .autosave import Keeper
from .checkpoints import Checkpoints
from .further_batches import Further
from .tracking import UNTRACKED, Tracked

# What a signal is answered with.
ENDS = "the run ends after this step, and can be resumed; Ctrl-C once more ends it at once"


def train(
    options: RunOptions,
    compiled: jitted.Compiled,
    source_variables: Variables | None,
    splits: inputs.Splits,
    rate: Callable[[int], float],
    *,
    further: Mapping[str, Further] | None = None,
    tracked: Tracked = UNTRACKED,
) -> loop.Result:
    """Trains, or resumes, with a progress bar, a file of metrics and checkpoints.

    The first process of the run writes them.

    Args:
      options: the run's.
      compiled: the method, from `experiments.training.jitted`.
      source_variables: the frozen source's; None without a source.
      splits: the data.
      rate: learning rate of an epoch, counted from 0.
      further: the images of each step's further batches, from `further_batches`.
      tracked: the tools that are told each epoch's figures.

    Returns:
      The result.

    Raises:
      ValueError: an image cannot be read, or all checkpoints of the run are damaged.
      RunFailedError: a figure became infinite or NaN, or a checkpoint cannot be written.
      InterruptedRunError: a signal asked the run to end.
    """
    folder, first = options.folder(), devices.is_first_process()
    with contextlib.ExitStack() as stack:
        training = stack.enter_context(
            inputs.training_data(options, splits.train, compiled.devices, options.seed)
        )
        more = stack.enter_context(
            further_batches.feeds(options, dict(further or {}), compiled.devices, training.steps)
        )
        checkpoints = Checkpoints(folder / layout.CHECKPOINTS)
        stack.callback(checkpoints.close)
        begin = latest(checkpoints, compiled, source_variables, training)
        epochs = [] if begin is None else begin.epochs
        steps = training.steps
        bar = stack.enter_context(
            tqdm(
                total=options.epochs * steps,
                initial=0 if begin is None else begin.epoch * steps + begin.step,
                unit="step",
                dynamic_ncols=True,
                disable=not first,
            )
        )
        best = max((epoch.val_accuracy for epoch in epochs), default=0.0)
        seen = ""
        bar.set_postfix_str("compiling the first step, which may take minutes")

        def on_step(number: int, info: Any) -> None:
            nonlocal seen
            if not seen:
                bar.unpause()  # so that the estimate leaves the compilation out
            loss, task = float(info.loss), float(info.task_loss)
            seen = f"loss {loss:.3f}{f' (task {task:.3f})' if task != loss else ''}"
            seen += f" acc {float(info.score):.0%}"
            bar.set_postfix_str(f"{seen} best val {best:.1%}", refresh=False)
            bar.update()

        def on_epoch(epoch: Epoch) -> None:
            nonlocal best
            best = max(best, epoch.val_accuracy)
            bar.set_postfix_str(f"{seen} best val {best:.1%}")
            if first:
                write_metrics(folder, [epoch], "a")
            tracked.epochs([epoch])

        tracked.epochs(epochs)
        keeper: Keeper | None = None
        if first:
            write_metrics(folder, epochs, "w")
            received: Sequence[int] = ()
            # Several processes would have to stop at the same step. They just end, and resume from
            # the latest checkpoint.
            if jax.process_count() == 1:
                received = stack.enter_context(signals.collected(ENDS))
            keeper = Keeper(checkpoints, steps, 60 * options.checkpoint_minutes, received)
        result = loop.train(
            compiled,
            source_variables,
            training,
            splits.validation,
            splits.test,
            loop.Schedule(options.epochs, rate, options.seed, options.patience),
            more=more,
            begin=begin,
            drop_at_most=options.skip_nonfinite,
            on_step=on_step,
            on_epoch=on_epoch,
            on_point=keeper or (lambda take, ended: None),
        )
        checkpoints.wait()
        tracked.test_accuracy(result.test_accuracy)
        return result


def latest(
    checkpoints: Checkpoints,
    compiled: jitted.Compiled,
    source_variables: Variables | None,
    training: TrainingData,
) -> Point | None:
    """The point of the newest whole checkpoint, the same in every process of the run.

    Raises:
      ValueError: there are checkpoints, and all are damaged.
      RunFailedError: likewise, in the other processes.
    """
    batch = jitted.blank(compiled, training)
    state = jax.eval_shape(compiled.init, jax.random.key(0), source_variables, batch)

    tell = partial(print, file=sys.stderr)
    saved = devices.on_first_process(lambda: checkpoints.newest(snapshot_io.expected(state), tell))
    if saved is None:
        return None
    _, info, _ = jax.eval_shape(compiled.step, state, source_variables, {"batch": batch})
    return snapshot_io.load(saved, state, info)


def write_metrics(folder: Path, epochs: Sequence[Epoch], mode: str) -> None:
    """Writes a line of JSON for each epoch; mode "a" appends, mode "w" writes anew."""
    with (folder / layout.METRICS).open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps(plain(epoch._asdict())) + "\n" for epoch in epochs)
