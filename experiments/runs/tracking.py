"""A run's figures in the tools that show them, beside its file of metrics."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from l2t_jax.pairs import Pair

from ..options.run_options import RunOptions
from ..system import devices
from ..system.event_files import EventFile
from ..system.files import plain
from ..training.snapshot import Epoch
from .wandb_run import WandbRun


class Tool(Protocol):
    """What shows a run's figures."""

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by their names."""

    def picture(self, step: int, name: str, path: Path) -> None:
        """Writes a picture from its PNG file."""

    def close(self, failed: bool) -> None:
        """Ends the run there."""


class Tracked:
    """The tools of a run. One that fails is told on stderr and left out from then on."""

    def __init__(self, tools: Mapping[str, Callable[[], Tool]], pairs: Sequence[Pair]) -> None:
        """Opens each tool.

        Args:
          tools: functions that open them, by their names.
          pairs: the run's pairs of layers.
        """
        self._pairs, self._last = pairs, 0
        self._open: dict[str, Tool] = {}
        for name, opening in tools.items():
            with self._spared(name):
                self._open[name] = opening()

    def epochs(self, epochs: Sequence[Epoch]) -> None:
        """Writes the figures of epochs."""
        for epoch in epochs:
            self._last = epoch.epoch
            self._each(partial(self._tell, epoch))

    def test_accuracy(self, accuracy: float) -> None:
        """Writes the test accuracy, beside the last epoch's figures."""
        self._each(lambda tool: tool.figures(self._last, {"test/accuracy": accuracy}))

    def pictures(self, paths: Sequence[Path]) -> None:
        """Writes pictures by the names of their files."""
        for path in paths:
            self._each(methodcaller("picture", self._last, path.stem, path))

    def close(self, failed: bool) -> None:
        """Ends the run in each tool."""
        self._each(lambda tool: tool.close(failed))

    def _tell(self, epoch: Epoch, tool: Tool) -> None:
        tool.figures(epoch.epoch, of_epoch(epoch, self._pairs))

    def _each(self, act: Callable[[Tool], None]) -> None:
        for name, tool in list(self._open.items()):
            with self._spared(name):
                act(tool)

    @contextlib.contextmanager
    def _spared(self, name: str) -> Iterator[None]:
        """Spares the run what a tool raises."""
        try:
            yield
        except Exception as error:
            if (tool := self._open.pop(name, None)) is not None:
                with contextlib.suppress(Exception):
                    tool.close(failed=True)
            line = " ".join(f"{type(error).__name__}: {error}".split())
            tqdm.write(f"warning: the run goes on without --log {name} ({line})", file=sys.stderr)


UNTRACKED = Tracked({}, [])


@contextlib.contextmanager
def opened(
    options: RunOptions, pairs: Sequence[Pair] = (), more: Mapping[str, Any] | None = None
) -> Iterator[Tracked]:
    """The tools that ``--log`` names, in the run's first process; none in the others.

    Args:
      options: the run's. Its folder must be there.
      pairs: the run's pairs of layers.
      more: what config.json has besides the options.
    """
    folder = options.folder()
    config = plain(dataclasses.asdict(options) | dict(more or {}))
    openings: dict[str, Callable[[], Tool]] = {
        "tensorboard": lambda: EventFile(folder),
        "wandb": lambda: WandbRun(folder, config),
    }
    chosen = options.log if devices.is_first_process() else ()
    tracked = Tracked({name: openings[name] for name in dict.fromkeys(chosen)}, pairs)
    try:
        yield tracked
    except BaseException:
        tracked.close(failed=True)
        raise
    tracked.close(failed=False)


def of_epoch(epoch: Epoch, pairs: Sequence[Pair]) -> dict[str, float]:
    """An epoch's figures by the names that the tools show; those that are NaN are left out.

    The λ of a pair is ``lambda/M-N``, as ``--pairs`` names the pair.
    """
    found = {"learning_rate": epoch.lr, "seconds": epoch.seconds}
    found["validation/accuracy"] = epoch.val_accuracy
    for name, value in epoch.train.items():
        if name == "pair_weights":
            weights = np.asarray(value).tolist()
            found |= {f"lambda/{m}-{n}": w for (m, n), w in zip(pairs, weights, strict=True)}
        elif isinstance(value, dict):
            found |= {f"train/{name}/{part}": each for part, each in value.items()}
        else:
            found[f"train/{name}"] = value
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}
