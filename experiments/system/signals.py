"""Collects signals that ask a program to end, so that it can end at a good time."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator

ONE_PRESS = 1.0  # seconds within which signals count as one


@contextlib.contextmanager
def collected(tell: str = "") -> Iterator[list[int]]:
    """Collects SIGINT (Ctrl-C), SIGTERM and SIGHUP, which else end the program at once.

    It works only in the main thread.

    Args:
      tell: what to print on stderr at the first signal. With it, a later Ctrl-C ends the program at
        once after all.

    Yields:
      The numbers of the signals received so far. The list grows.
    """
    received: list[int] = []
    first = 0.0

    def receive(number: int, frame: object) -> None:
        nonlocal first
        del frame
        received.append(number)
        if len(received) == 1:
            first = time.monotonic()
            if tell:
                print(f"\n{signal.Signals(number).name}: {tell}", file=sys.stderr, flush=True)
        # One press can arrive twice, such as through a program that passes it on.
        elif tell and number == signal.SIGINT and time.monotonic() - first > ONE_PRESS:
            raise KeyboardInterrupt

    # A signal that is ignored, as under nohup, stays ignored.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = [signal.signal(number, receive) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
