"""Signals that ask a program to end, collected until it is a good time to."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def collected() -> Iterator[list[int]]:
    """Collects Ctrl-C, a request to end and the end of the terminal, instead of ending at once.

    Comes in the main thread alone.

    Yields:
      The numbers of those that came; the list grows.
    """
    came: list[int] = []
    # One that is ignored, as under nohup, stays so.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = [
        signal.signal(number, lambda number, frame: came.append(number)) for number in numbers
    ]
    try:
        yield came
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
