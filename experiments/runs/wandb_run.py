"""A run at Weights & Biases."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import layout


class WandbRun:
    """The run of a folder. It goes on where an earlier process of the same run has ended.

    Where and whether it is sent, wandb's own environment says, such as ``WANDB_MODE=offline``.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Begins the run, or resumes it."""
        import wandb

        self._picture = wandb.Image
        file = folder / layout.WANDB_ID
        if not file.exists():
            file.write_text(secrets.token_hex(4), encoding="utf-8")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "l2t_jax"),
            name=folder.name,
            id=file.read_text(encoding="utf-8"),
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )
        # The first step that it does not have. Without a connection it has none.
        self._next = self._run.step

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by their names, unless the run has that step."""
        if step >= self._next:
            self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, path: Path) -> None:
        """Writes a picture."""
        self._run.log({name: self._picture(str(path))}, step=step)

    def close(self, failed: bool) -> None:
        """Ends the run."""
        self._run.finish(exit_code=int(failed))
