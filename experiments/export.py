"""Write the network that a run has trained for serving without this project."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from .options import cli
from .options.checks import check_folder_can_be_made
from .options.descriptions import FinishedRun
from .reporting import model_card
from .runs import finished, layout, trained_network
from .serving import folder, program


@dataclass(frozen=True)
class Options:
    """Write the network that a run has trained for serving without this project.

    The folder has
    - program.jax: a program for JAX on CPUs, GPUs and TPUs, with the weights in it. It takes uint8
      images and gives probabilities.
    - model.json: the classes' names, the images' size and their normalisation.
    - model.safetensors: the weights by themselves, with PyTorch's names and layouts.
    - README.md: a model card, with places for what only you know.

    Example:
      l2t export runs/l2t-ww-photos-0
    """

    run: FinishedRun
    #: Folder for the files. It must be new or empty, or have the same export.
    out: Annotated[
        Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: RUN/export)")
    ] = None


def main(options: Options) -> int:
    """Writes the folder, and prints where it is."""
    program.check_can_be_written()
    if not (options.run / layout.RESULT).exists():
        raise ValueError(
            f"{options.run} must be the folder of a finished run (got no {layout.RESULT})"
        )
    trained = trained_network.read(options.run)
    out = options.run / "export" if options.out is None else options.out
    check_folder_can_be_made("out", out)
    description = folder.describe(options.run, trained)
    if folder.is_done(out, description):
        print(f"{out} has this export already")
        return 0
    card = model_card.text(finished.read(options.run), trained)
    network, variables = trained_network.load(options.run, trained)
    print(f"exporting {trained.network} for {', '.join(program.PLATFORMS)}")
    folder.write(out, network, variables, description, {"README.md": card})
    print(f"wrote {', '.join(sorted(path.name for path in out.iterdir()))} to {out}")
    return 0


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t export", args=words)


if __name__ == "__main__":
    sys.exit(command())
