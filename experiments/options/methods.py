"""The methods by name: what each needs, which options it uses, and what builds it.

A new method is one entry in `METHODS`, and the function that builds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from l2t_jax import MetaNetwork, Method

from . import builders

if TYPE_CHECKING:
    from .train_options import Config

UNLABELLED = ("unlabelled", "unlabelled_batch_size")
LEARNING = (
    *("beta", "source_scale", "unroll_steps", "scheme", "meta_gradient", *UNLABELLED),
    *("meta_lr", "meta_weight_decay", "meta_every", "meta_from", "meta_average"),
    *("outer_batch", "outer_batch_size", "outer_fraction"),
)


# What only a training loop uses.
LOOP = (
    *("target", "epochs", "batch_size", "lr", "momentum", "weight_decay", "augment", "loader"),
    *("warmup_epochs", "label_smoothing", "class_weights"),
)


@dataclass(frozen=True)
class Entry:
    """A method.

    Attributes:
      build: makes it from the run's options and the networks; None if nothing but a classifier is
        fitted, which takes no training loop.
      help: what it trains the target on, in words.
      pairs: the pairs of layers that it matches if the options name none; None if it matches no
        layers.
      sources: how many source networks it takes.
      meta_networks: the networks that learn what and where; None if it learns no weights.
      weighs_pairs: whether it learns weights of the pairs, and not of the channels alone.
      options: those of the options used by some methods only that this one uses.
    """

    build: Callable[[Config, builders.Parts], Method] | None
    help: str
    pairs: Literal["stages", "one-to-one"] | None = None
    sources: Literal["none", "one", "any"] = "any"
    meta_networks: Callable[[Config], tuple[MetaNetwork, MetaNetwork]] | None = None
    weighs_pairs: bool = False
    options: tuple[str, ...] = ()

    @property
    def takes_steps(self) -> bool:
        """Whether it trains in steps, each on a batch."""
        return self.build is not None

    @property
    def keeps_network(self) -> bool:
        """Whether it goes on with the source's own network, which is then the target's too."""
        return self.sources == "one"

    @property
    def learns(self) -> bool:
        """Whether it learns weights of pairs and channels."""
        return self.meta_networks is not None


METHODS: dict[str, Entry] = {
    "scratch": Entry(builders.scratch, "the task's loss alone", sources="none"),
    "probe": Entry(
        None,
        "nothing but a new classifier of the frozen source, by logistic regression on its last "
        "features; the validation images choose its strength",
        sources="one",
    ),
    "finetune": Entry(
        builders.finetune,
        "the task's loss alone; the target starts from the weights of a source of its architecture",
        sources="one",
    ),
    "lwf": Entry(
        builders.lwf,
        "learning without forgetting; a second head imitates the source's classes",
        options=("lwf_weight", "temperature", *UNLABELLED),
    ),
    "at": Entry(
        builders.at,
        "attention transfer; the target imitates where the source looks",
        pairs="one-to-one",
        options=("at_weight", *UNLABELLED),
    ),
    "lwf+at": Entry(
        builders.lwf_and_at,
        "lwf and at together",
        pairs="one-to-one",
        options=("lwf_weight", "temperature", "at_weight", *UNLABELLED),
    ),
    "fm": Entry(
        builders.fm,
        "feature matching; pairs and channels have fixed weights, by default equal ones",
        pairs="stages",
        options=("beta", "source_scale", "weights_from", *UNLABELLED),
    ),
    "l2t-w": Entry(
        builders.l2t_w,
        "learns what to transfer: channel weights, on the given pairs",
        pairs="one-to-one",
        meta_networks=builders.learned_channels,
        options=LEARNING,
    ),
    "l2t-ww": Entry(
        builders.l2t_ww,
        "learns what and where to transfer: channel and pair weights",
        pairs="stages",
        meta_networks=builders.learned_channels_and_pairs,
        weighs_pairs=True,
        options=(*LEARNING, "where", "where_bias", "where_kernel"),
    ),
}


def find(name: str) -> Entry:
    """The method of that name.

    Raises:
      ValueError: no method has that name.
    """
    if name not in METHODS:
        raise ValueError(f"--method must be one of {', '.join(METHODS)} (got {name})")
    return METHODS[name]


def uses(name: str, option: str) -> bool:
    """Whether a method uses an option, or a value in a run's records that follows from one."""
    entry = find(name)
    if option in LOOP:
        return entry.takes_steps
    if option in ("source", "source_weights", "source_sha256"):
        return entry.sources != "none"
    if option in ("pairs", "matched_pairs"):
        return entry.pairs is not None
    return option in entry.options or not any(option in other.options for other in METHODS.values())
