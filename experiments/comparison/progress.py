"""Starts the runs of a comparison; prints how each ended and how long the rest may take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

from ..options import cli
from ..runs import layout, resume
from ..system import files
from . import processes
from .grid import Run

Start = Callable[[list[str], BinaryIO, dict[str, str]], processes.Child]


class Progress:
    """What `processes.work_off` calls for every run, and the lines that it prints."""

    def __init__(self, runs: Sequence[Run], at_once: int, start: Start) -> None:
        """Starts nothing yet.

        Args:
          runs: the runs to do.
          at_once: how many of them may run at once.
          start: starts a process from its command, log and environment.
        """
        self._left = list(runs)
        self._total, self._at_once, self._start = len(runs), at_once, start
        self._begun: dict[Run, float] = {}
        self._rates: dict[tuple[str, str], float] = {}
        self.done = 0
        self.skipped: list[Run] = []
        self.failed: list[Run] = []

    def begin(self, run: Run) -> processes.Child | None:
        """Starts a run; returns None if another comparison runs it or has finished it."""
        with files.claim(run.log) as log:
            if log is None or resume.result(run.folder, run.config) is not None:
                what = "is running" if log is None else "was finished"
                self._tell(run, f"skipped: it {what} in another comparison")
                self.skipped.append(run)
                self._left.remove(run)
                return None
            command = [sys.executable, "-m", f"{cli.PACKAGE}.train", *cli.arguments(run.config)]
            self._tell(run, "resumes" if (run.folder / layout.CHECKPOINTS).exists() else "starts")
            self._begun[run] = time.monotonic()
            return self._start(command, log, processes.environment(self._at_once))

    def end(self, run: Run, code: int) -> None:
        """Prints how a run has ended."""
        seconds = time.monotonic() - self._begun.pop(run)
        self._left.remove(run)
        result = resume.result(run.folder, run.config) if code == 0 else None
        if result is None:
            self.failed.append(run)
            why = f"exit code {code}" if code > 0 else f"signal {-code}" if code else "no result"
            self._tell(run, f"FAILED, {why}: {processes.last_line(run.log)} (log: {run.log})")
            return
        self.done += 1
        # The latest run of a kind predicts the next best, which has as many images or more.
        self._rates[kind(run)] = seconds / work(run)
        text = (
            f"validation accuracy {100 * result['val_accuracy']:.2f} %, "
            f"test accuracy {100 * result['test_accuracy']:.2f} %, {duration(seconds)}"
        )
        if warnings := result.get("warnings"):
            text += f"; {len(warnings)} warning{'s' * (len(warnings) > 1)} (log: {run.log})"
        if self._left:
            text += f"; about {duration(self._seconds_left())} left"
        self._tell(run, text)

    def summary(self) -> str:
        """How many runs ended in which way, and the logs of the failed ones."""
        counts = {
            "done": self.done,
            "failed": len(self.failed),
            "not started": len(self._waiting()),
        }
        counts |= {"interrupted": len(self._begun), "skipped": len(self.skipped)}
        text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        logs = "".join(f"\n  {run.log}" for run in self.failed)
        return f"{text or 'nothing to do'}{logs and '; failed:'}{logs}"

    def _waiting(self) -> list[Run]:
        return [run for run in self._left if run not in self._begun]

    def _seconds_left(self) -> float:
        """Seconds that the other runs may take, from the latest run of each kind."""
        mean = sum(self._rates.values()) / len(self._rates)
        seconds = sum(work(run) * self._rates.get(kind(run), mean) for run in self._left)
        now = time.monotonic()
        spent = sum(now - begun for begun in self._begun.values())
        return max(seconds - spent, 0) / self._at_once

    def _tell(self, run: Run, what: str) -> None:
        ended = self._total - len(self._left)
        print(f"[{ended}/{self._total}] {run.name}: {what}", flush=True)


def kind(run: Run) -> tuple[str, str]:
    """The kind of a run: runs of one kind differ in the seed and the number of images only."""
    return run.config.task or run.config.data, run.method


def work(run: Run) -> int:
    """The amount that the time of a run is proportional to, among runs of one kind."""
    return run.config.per_class or 1


def duration(seconds: float) -> str:
    """Seconds in a fitting unit, such as 40 s, 2.5 min or 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
