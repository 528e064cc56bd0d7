"""Options from a file: a run's config.json, or JSON or YAML that was written by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from . import habits
from .checks import flag

# The names of the source weights, with the commit of each that came from the Hub.
WEIGHTS_USED = "source_weights_used"
# What config.json has besides options. A file with the last of them is that of a run.
RECORDED = {
    *("matched_pairs", "source_layers", "source_sha256", "unlabelled_sha256"),
    WEIGHTS_USED,
    "weights_of",
    *("division", "split_sha256", "data_sha256"),
}
OF_A_RUN = "data_sha256"
# What another run does not take from it: its folder, and its place among several processes.
OWN = {"run_dir", "coordinator", "processes", "process", "config"}


def words(path: Path, options: type[Any]) -> list[str]:
    """A file's options as words of a command line, to be read before those that are typed.

    Args:
      path: a mapping of options to their values, in JSON or YAML. Their names may have hyphens or
        underscores. No value means the default. Of a run's config.json the folder is left out.
      options: the dataclass that describes the options.

    Returns:
      The words.

    Raises:
      ValueError: the file does not hold such a mapping, or names an option that does not exist.
      OSError: it cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path} must be JSON or YAML (got {error})") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(
            f"--config {path} must be options with their values, such as beta: 2.0 (got "
            f"{type(content).__name__})"
        )
    given = {name.replace("-", "_"): value for name, value in content.items()}
    left_out = RECORDED | OWN if OF_A_RUN in given else {"config"}
    if OF_A_RUN in given and WEIGHTS_USED in given:
        given["source_weights"] = given[WEIGHTS_USED]  # even if the Hub has newer ones
    known = {field.name for field in dataclasses.fields(options)}
    found: list[str] = []
    for name, value in given.items():
        if name in left_out or value is None:
            continue
        if name not in known:
            hint = habits.of_unknown(name, known)
            raise ValueError(
                f"--config {path} must hold options only (got {name}{hint and '; '}{hint})"
            )
        if isinstance(value, list):
            found += [flag(name), *map(str, value)]
        else:
            found.append(f"{flag(name)}={value}")
    return found
