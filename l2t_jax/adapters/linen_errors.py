"""Flax's errors with what they do not say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flax import errors


@contextmanager
def explained(train: bool) -> Iterator[None]:
    """Says of Flax's errors which pass it was, and what such a pass may do."""
    a_pass = "a training pass" if train else "an evaluation pass"
    try:
        yield
    except errors.InvalidRngError as error:
        option = "rngs" if train else "evaluation_rngs"
        raise ValueError(
            f"the module draws random numbers in {a_pass}, which has keys only for the streams "
            f"named in `{option}` (got Flax's error: {_reason(error)}). Add the stream's name to "
            f"`{option}`, or do not draw there"
        ) from error
    except errors.ModifyScopeVariableError as error:
        raise ValueError(
            f"the module changes its state in {a_pass}, which may change only the collections of "
            f"the variables, and only in training (got Flax's error: {_reason(error)}). Ask "
            "`is_mutable_collection` first, or take the variables from `init` of this network"
        ) from error
    except (
        errors.ScopeParamNotFoundError,
        errors.ScopeVariableNotFoundError,
        errors.ScopeCollectionNotFound,
    ) as error:
        raise ValueError(
            f"the variables must hold all that the module reads in {a_pass} (got Flax's error: "
            f"{_reason(error)}). `init` of this network makes what either mode needs"
        ) from error


def _reason(error: Exception) -> str:
    return str(error).split(" (https://", maxsplit=1)[0]
