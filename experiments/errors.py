"""Failures that are nobody's bad input."""


class RunFailedError(RuntimeError):
    """A run that began with good input could not go on."""
