"""Runs as processes of their own, several at once, each with a log."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from ..system import signals

Job = TypeVar("Job")

POLL = 0.2  # seconds between two polls of the processes
GRACE = 30.0  # seconds for a process to save and end before it is killed


class Child(Protocol):
    """A process that runs."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def stop(self) -> None:
        """Asks it to end."""

    def join(self) -> None:
        """Waits for its end after `stop`."""


class Process:
    """A process and all processes that it starts."""

    def __init__(self, command: list[str], log: BinaryIO, environment: dict[str, str]) -> None:
        """Starts it; the log gets the command first, and then what it prints."""
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        # In a session of its own it can be ended as a whole, and Ctrl-C does not reach it.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )

    def poll(self) -> int | None:
        """Its exit code, negative after a signal; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Asks it, and all that it has started, to end."""
        self._signal(signal.SIGTERM)

    def join(self) -> None:
        """Waits for its end after `stop`; kills it if that takes too long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def environment(jobs: int) -> dict[str, str]:
    """The environment for so many runs at once; variables that are set already stay."""
    added = {
        "PYTHONUNBUFFERED": "1",  # so that the log's last line is what was printed last
        "TQDM_MININTERVAL": "30",  # seconds between two states of the progress bar in the log
    }
    if jobs > 1:
        # By default, the first run takes three quarters of an accelerator's memory.
        added["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return added | os.environ


def last_line(log: Path) -> str:
    """The last non-empty line of a log."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = re.split(r"[\r\n]+", file.read().decode(errors="replace").strip())
    return lines[-1]


def work_off(
    jobs: Iterable[Job],
    at_once: int,
    begin: Callable[[Job], Child | None],
    end: Callable[[Job, int], None],
    needs: Callable[[Job], Job | None] = lambda job: None,
) -> None:
    """Runs processes until all jobs are done; whatever is raised, no process is left running.

    Args:
      jobs: what to do, in this order as far as ``needs`` allows.
      at_once: how many processes may run at once.
      begin: starts a job's process; returns None if there is nothing to do.
      end: is called with a job whose process has ended, and its exit code.
      needs: a job that must have ended before this one begins.

    Raises:
      KeyboardInterrupt: Ctrl-C, SIGTERM, or the terminal was closed.
    """
    waiting = list(jobs)
    working: list[tuple[Job, Child]] = []

    def next_job() -> Job | None:
        ahead = [*waiting, *(job for job, _ in working)]
        return next((job for job in waiting if needs(job) not in ahead), None)

    with signals.collected() as received:
        try:
            while waiting or working:
                while len(working) < at_once and not received and (job := next_job()) is not None:
                    waiting.remove(job)
                    if (child := begin(job)) is not None:
                        working.append((job, child))
                codes = [child.poll() for _, child in working]
                ended = [
                    (pair, code)
                    for pair, code in zip(working, codes, strict=True)
                    if code is not None
                ]
                for pair, code in ended:
                    working.remove(pair)
                    end(pair[0], code)
                if received:
                    raise KeyboardInterrupt
                if working and not ended:
                    time.sleep(POLL)
        finally:
            for _, child in working:
                child.stop()
            for _, child in working:
                child.join()
