"""Collects signals that ask a program to end, so that it can end at a good time."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def collected() -> Iterator[list[int]]:
    """Collects SIGINT (Ctrl-C), SIGTERM and SIGHUP, which else end the program at once.

    It works only in the main thread.

    Yields:
      The numbers of the signals received so far. The list grows.
    """
    received: list[int] = []
    # A signal that is ignored, as under nohup, stays ignored.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = [
        signal.signal(number, lambda number, frame: received.append(number)) for number in numbers
    ]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
