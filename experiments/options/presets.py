"""Settings by name, beside the paper's, which are the options' defaults."""

from __future__ import annotations

from typing import Any, Literal

from . import methods

Name = Literal["paper", "recommended"]

# What docs/results.md found on validation images of CIFAR-10. The meta-gradient looks further
# ahead, at images that are not trained on, and not before the target has learned something.
RECOMMENDED: dict[str, Any] = {
    "pairs": "one-to-one",
    "source_scale": "standard",
    "beta": 8.0,
    "where": "constant",
    "unroll_steps": 8,
    "meta_every": 4,
    "meta_from": 64,
    "meta_lr": 1e-2,
    "meta_weight_decay": 0.0,
    "outer_batch": "held-out",
}


def settings(name: Name, method: str) -> dict[str, Any]:
    """What a preset sets for a method, by the options' names; nothing for the paper's."""
    if name == "paper":
        return {}
    return {option: value for option, value in RECOMMENDED.items() if methods.uses(method, option)}
