"""Checkpoints: named arrays and a record on disk, by Orbax, with checksums against damage."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp

from ..system.errors import RunFailedError
from ..system.files import checksums, replacing

KEEP = 3  # checkpoints, the newest
RECORD = "record"  # name of an array that is not from the caller
NAME = re.compile(r"step-(\d{9})(\.sha256)?")


class Saved(NamedTuple):
    """The content of a checkpoint.

    Attributes:
      arrays: by their names.
      record: a dictionary of JSON's types.
    """

    arrays: dict[str, np.ndarray]
    record: dict[str, Any]


class Checkpoints:
    """A folder of numbered checkpoints; the newest few are kept.

    A checkpoint is a folder ``step-N`` that Orbax writes, and a file ``step-N.sha256`` beside it
    with the checksum of every file in the folder, as ``sha256sum`` writes them. Orbax itself would
    not notice a flipped byte. The checksums are written last: without them there is no checkpoint.
    A checkpoint is read only if all checksums are right.
    """

    def __init__(self, folder: Path) -> None:
        """Writes nothing yet.

        Args:
          folder: the folder of the checkpoints. No other process may write there.
        """
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(quiet())
        self.folder = folder.resolve()
        self._damaged: list[int] = []
        # One process writes, even if the run has several.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="alone"
        )
        self._orbax = ocp.Checkpointer(
            ocp.StandardCheckpointHandler(multiprocessing_options=alone),
            multiprocessing_options=alone,
        )
        self._thread = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None
        self._failed = False

    def numbers(self) -> list[int]:
        """Numbers of the checkpoints that were written to their end, ascending."""
        return self._found(with_checksums=True)

    def write(self, number: int, saved: Saved) -> None:
        """Starts to write a checkpoint, once the one before is written.

        Args:
          number: of the checkpoint. It replaces one with the same number.
          saved: its content. The arrays must not change until `wait` has returned.

        Raises:
          RunFailedError: the one before cannot be written. Those before that are whole.
        """
        self.wait()
        self._written = self._thread.submit(self._write, number, saved)

    def wait(self) -> None:
        """Waits until the current checkpoint is written.

        Raises:
          RunFailedError: it cannot be written. Those before are whole.
        """
        written, self._written = self._written, None
        if written is None:
            return
        try:
            written.result()
        except Exception as error:  # Orbax and tensorstore have kinds of their own
            numbers = self.numbers()
            kept = f"the last one is {self._path(numbers[-1])}" if numbers else "there is none yet"
            raise RunFailedError(
                f"a checkpoint cannot be written ({shorten(error)}); {kept}"
            ) from error

    def newest(
        self, expected: Mapping[str, Any], tell: Callable[[str], None] = print
    ) -> Saved | None:
        """The newest checkpoint that is whole.

        Args:
          expected: arrays or shapes that it must have, by their names. It may have more.
          tell: is called with a line for each that is damaged or was not written to its end.

        Returns:
          Its content, without empty arrays; None if there are no checkpoints.

        Raises:
          ValueError: there are checkpoints, and all are damaged.
        """
        numbers, reasons = self.numbers(), []
        unfinished = sorted({*self._found(with_checksums=False)} - {*numbers})
        for number in unfinished:
            tell(f"checkpoint {self._path(number)} was not written to its end")
        for number in reversed(numbers):
            try:
                return self._read(number, expected)
            except Exception as error:  # whatever Orbax may raise
                reasons.append(f"{self._path(number).name}: {shorten(error)}")
                tell(f"checkpoint {self._path(number)} is skipped: {shorten(error)}")
                self._damaged.append(number)
        # A killed run leaves at most one unfinished.
        if numbers or len(unfinished) > 1:
            raise ValueError(
                f"{self.folder} must have a checkpoint that is whole (got "
                f"{'; '.join(reasons) or 'none with checksums'}); to train anew, delete the run's "
                "folder"
            )
        return None

    def close(self) -> None:
        """Waits for the thread that writes, and ends it."""
        self._thread.shutdown()
        self._orbax.close()
        self._quiet.close()
        if self._failed:
            with contextlib.suppress(OSError):
                self._remove_but(set(self.numbers()))

    def _found(self, *, with_checksums: bool) -> list[int]:
        """Numbers of the checksums, or of the folders, ascending."""
        names = [NAME.fullmatch(path.name) for path in self.folder.glob("step-*")]
        return sorted(int(m[1]) for m in names if m and (m[2] is not None) == with_checksums)

    def _path(self, number: int) -> Path:
        return self.folder / f"step-{number:09d}"

    def _sums(self, number: int) -> Path:
        return self.folder / f"step-{number:09d}.sha256"

    def _write(self, number: int, saved: Saved) -> None:
        """Writes a checkpoint and deletes those no longer needed; runs in the thread."""
        record = np.frombuffer(json.dumps(saved.record).encode(), np.uint8)
        # Orbax takes no empty arrays. The reader knows their shapes.
        arrays = {name: array for name, array in saved.arrays.items() if array.size}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_but(set(self.numbers()) - {number})
        try:
            args = ocp.args.StandardSave(arrays | {RECORD: record})
            self._orbax.save(self._path(number), args=args)
            with replacing(self._sums(number)) as file:
                file.write_text(checksums(self._path(number)), encoding="utf-8")
        except BaseException:
            # The disk may be full, so nothing is left behind. Tensorstore's threads may still write
            # a file; `close` deletes it.
            self._failed = True
            self._remove_but(set(self.numbers()))
            raise
        whole = [n for n in self.numbers() if n not in self._damaged][-KEEP:]
        self._damaged = [damaged for damaged in self._damaged if damaged > number]
        self._remove_but({*whole, *self._damaged})

    def _remove_but(self, numbers: set[int]) -> None:
        """Deletes all but these checkpoints; the checksums first, so that none counts as whole."""
        keep = {path(number) for number in numbers for path in (self._path, self._sums)}
        gone = [path for path in self.folder.iterdir() if path not in keep]
        for path in sorted(gone, key=Path.is_dir):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _read(self, number: int, expected: Mapping[str, Any]) -> Saved:
        """Reads a checkpoint.

        Raises:
          ValueError: a file has changed, or an array is not as expected.
          OSError: a file cannot be read.
        """
        path = self._path(number)
        then = self._sums(number).read_text(encoding="utf-8").splitlines()
        now = checksums(path).splitlines()
        if then != now:
            differing = min(set(then) ^ set(now), key=lambda line: line[66:])
            raise ValueError(f"{differing[66:]} is not as it was written")
        check_declared(self._orbax.metadata(path).item_metadata.tree, expected)
        arrays = self._orbax.restore(path, args=ocp.args.StandardRestore())
        return Saved(arrays, json.loads(arrays.pop(RECORD).tobytes()))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Orbax's logs off stderr; its failures are raised and printed once anyway."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    hook = sys.unraisablehook

    def without_late_ones(unraisable: Any) -> None:
        # After one array has failed, the others have no event loop to report to.
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = without_late_ones
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_declared(declared: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises a ValueError if a checkpoint's arrays have other shapes or types than expected.

    Orbax would convert them.
    """
    for name, array in expected.items():
        if not array.size:
            continue
        if name not in declared:
            raise ValueError(f"it must have {name} (got none)")
        found = declared[name]
        if (found.shape, np.dtype(found.dtype)) != (array.shape, np.dtype(array.dtype)):
            raise ValueError(
                f"{name} must be {array.dtype} of shape {array.shape} (got {found.dtype} of shape "
                f"{found.shape})"
            )


def shorten(error: Exception, limit: int = 300) -> str:
    """An error's text in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}…"
