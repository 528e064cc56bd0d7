"""Ends of a run that are nobody's bad input."""


class RunFailedError(RuntimeError):
    """A run that began with good input could not go on."""


class InterruptedRunError(RuntimeError):
    """A run was asked to end, and did."""

    def __init__(self, message: str, signal: int) -> None:
        """With what to tell, and the signal's number."""
        super().__init__(message)
        self.signal = signal
