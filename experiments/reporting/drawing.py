"""What all pictures have in common: no window, and names drawn as they are."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
# A dollar sign in a class's name does not begin a formula.
matplotlib.rcParams["text.parse_math"] = False


def drawn(name: str) -> str:
    """A name as it can be drawn: bytes that are no text become question marks."""
    return name.encode(errors="replace").decode()
