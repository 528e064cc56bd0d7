"""Errors that end a run although its input was good."""


class RunFailedError(RuntimeError):
    """A run with good input could not continue."""


class InterruptedRunError(RuntimeError):
    """A signal asked a run to end, and it has ended."""

    def __init__(self, message: str, signal: int) -> None:
        """Keeps the message and the signal's number."""
        super().__init__(message)
        self.signal = signal
