"""The options of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Annotated, ClassVar, Literal

from tyro.conf import arg

from ..data.load import short_name
from ..networks import weight_files
from . import methods, presets, tasks
from .checks import at_least, check_ranges, finite, flag
from .descriptions import NETWORKS, WEIGHTS
from .run_options import RunOptions
from .transfer_options import WITHOUT_NETWORK, TransferOptions

METHOD_HELP = "\n".join(
    [
        "What the target is trained on.",
        *(f"- {name}: {entry.help}." for name, entry in methods.METHODS.items()),
    ]
)
TASK_HELP = f"""A task of the paper. It sets the data, the image size, the networks, the pairs, \
the batch size and the learning rate of the meta-networks. Options that you give win. With cifar10 \
the paper takes 50 to 1000 images of each class (--per-class).
{tasks.DESCRIPTION}"""
SOURCE_HELP = f"Source network, or several: {NETWORKS}."
SOURCE_WEIGHTS_HELP = f"""Trained weights of each source, in the order of --source: {WEIGHTS}. It \
also gives the source's number of classes. Every method but scratch needs them."""


# Options that are refused to a method that does not use them.
SOME_METHODS_ONLY = ("weights_from", "source_scale", "unlabelled")


@dataclass(frozen=True)
class Choice:
    """What is trained from what; a class of its own so that --help begins with it."""

    method: Annotated[str, arg(metavar="METHOD", help=METHOD_HELP)] = "l2t-ww"
    task: Annotated[
        str | None, arg(metavar="TASK", help=TASK_HELP, help_behavior_hint="(default: none)")
    ] = None

    #: Settings that the other options begin with.
    #: - paper: those of the paper.
    #: - recommended: what was found since, for fm and l2t-ww on small images. docs/commands.md
    #: lists what it sets. Train l2t-ww with it, then fm with it and --weights-from.
    preset: presets.Name = "paper"
    source: Annotated[tuple[str, ...], arg(metavar="NETWORK ...", help=SOURCE_HELP)] = ("resnet32",)
    source_weights: Annotated[
        tuple[str, ...],
        arg(
            metavar="FILE|hf:ORG/NAME ...",
            help=SOURCE_WEIGHTS_HELP,
            help_behavior_hint="(default: none)",
        ),
    ] = ()
    #: Target network. It is named as a source is.
    target: Annotated[
        str,
        arg(metavar="NETWORK", help_behavior_hint="(default: vgg9_bn; of finetune the source's)"),
    ] = "vgg9_bn"
    #: Pairs of source and target layers that may be matched.
    #: - stages: the last layer of each map size with each such layer of the target. A vision
    #: transformer has four such layers.
    #: - one-to-one: those of stages that have the same map size.
    #: - single: the last pair of one-to-one.
    #: - all: every layer with every layer.
    #: - 4-0,9-1: source layer 4 with target layer 0, and 9 with 1. Layers count from 0.
    #: - 0:4-0,1:9-1: the same with several sources. The first number is the source, from 0.
    pairs: Annotated[
        str | None,
        arg(
            metavar="stages|one-to-one|single|all|[S:]M-N,...",
            help_behavior_hint="(default: one-to-one for at, lwf+at and l2t-w, else stages)",
        ),
    ] = None


@dataclass(frozen=True)
class TaskOptions(RunOptions):
    """How the target learns its task."""

    #: Highest learning rate of the inner SGD. It follows a cosine and is constant in an epoch.
    lr: float = 0.1
    #: First epochs, in which the learning rate rises to --lr in equal steps. The cosine has the
    #: others.
    warmup_epochs: Annotated[int, arg(metavar="N")] = 0
    #: Share of the wanted probability that the task's loss spreads over all classes.
    label_smoothing: float = 0.0
    #: How much the classes count in the task's loss.
    #: - equal: every image counts alike.
    #: - balanced: every class counts alike, whatever its number of training images.
    class_weights: Literal["equal", "balanced"] = "equal"


@dataclass(frozen=True)
class Config(TransferOptions, TaskOptions, Choice):
    r"""Train a target network on a small data set with the help of frozen source networks.

    Example:
      l2t train --method l2t-ww --data train.npz --test-data test.npz \
          --source resnet32 --source-weights tinyimagenet200_resnet32.pth.tar \
          --target vgg9_bn
    """

    IMAGES: ClassVar[tuple[str, ...]] = (*RunOptions.IMAGES, "unlabelled")

    def with_presets(self) -> Config:
        """The defaults that ``preset``, ``task`` and ``method`` set.

        Raises:
          ValueError: there is no such task or method.
        """
        wanted = presets.settings(self.preset, self.method)
        if self.task is not None:
            same_stage = self.entry().pairs == "one-to-one"
            # A task's pairs are those that the paper matches.
            wanted |= tasks.settings(self.task, same_stage=same_stage)
        if self.entry().keeps_network and self.source:
            # A task's target is the new network of the other methods.
            wanted["target"] = self.source[0] if self.takes_steps else Config.target
        return replace(Config(), task=self.task, preset=self.preset, **wanted)

    def check(self) -> None:
        """Raises a ValueError for values outside their range, before anything is read."""
        super().check()
        factors = ("where_kernel", "beta", "at_weight", "lwf_weight")
        check_ranges(
            self,
            *at_least(0, self, ("unroll_steps", "meta_from")),
            *at_least(1, self, ("meta_every", "meta_average", "outer_batch_size")),
            *at_least(1, self, ("unlabelled_batch_size",)),
            (
                "warmup_epochs",
                0 <= self.warmup_epochs < self.epochs,
                f"at least 0 and below --epochs {self.epochs}",
            ),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "at least 0 and below 1"),
            ("outer_fraction", 0 < self.outer_fraction < 1, "between 0 and 1"),
            ("where_bias", math.isfinite(self.where_bias), "finite"),
            ("temperature", 0 < self.temperature < math.inf, "above 0 and finite"),
            *finite(self, (*factors, "meta_lr", "meta_weight_decay")),
        )
        for name in SOME_METHODS_ONLY:
            value = getattr(self, name)
            if value != getattr(Config, name) and name not in self.entry().options:
                users = [other for other, entry in methods.METHODS.items() if name in entry.options]
                raise ValueError(
                    f"{flag(name)} must not be given with --method {self.method} "
                    f"(got {value}); {', '.join(users)} use it"
                )
        for size, owner, without in (
            ("outer_batch_size", "outer_batch", "same"),
            ("unlabelled_batch_size", "unlabelled", None),
        ):
            used = methods.uses(self.method, size)
            if used and getattr(self, size) is not None and getattr(self, owner) == without:
                raise ValueError(
                    f"{flag(size)} must be given with {flag(owner)} (got {getattr(self, size)} and "
                    f"{without or 'none'})"
                )
        if self.meta_gradient == "finite-difference" and self.precision != "float32":
            raise ValueError(
                "--meta-gradient must not be finite-difference with --precision "
                f"{self.precision}, whose rounding changes a difference by as much as the "
                "parameters' step; take mixed or low-memory"
            )
        self._check_sources()

    def check_files(self) -> None:
        """Raises a FileNotFoundError for the first option whose file does not exist."""
        self.check_weights()
        if self.weights_from is not None and not self.weights_from.is_dir():
            raise FileNotFoundError(f"--weights-from {self.weights_from}: no such folder")
        super().check_files()

    def check_weights(self) -> None:
        """Raises an error for the first of the sources' weights that cannot be there.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: a name on the Hub has another form, or nothing can read it here.
        """
        for name in self.source_weights:
            weight_files.check("--source-weights", name)

    def _check_sources(self) -> None:
        """Raises a ValueError unless method, source networks and their weights belong together."""
        wanted = self.entry().sources
        if wanted == "none":
            if self.source_weights:
                raise ValueError(
                    f"--source-weights must not be given with --method {self.method}, which has no "
                    f"source (got {' '.join(self.source_weights)})"
                )
            return
        if not self.source_weights:
            raise ValueError(
                f"--source-weights must be given with --method {self.method} (got none); give the "
                f"file with the trained weights of {' and of '.join(self.source)}"
            )
        if len(self.source) != len(self.source_weights):
            raise ValueError(
                f"--source-weights must be one file for each network of --source "
                f"{' '.join(self.source)} (got {len(self.source_weights)})"
            )
        if wanted == "one" and len(self.source) > 1:
            raise ValueError(
                f"--source must be one network with --method {self.method} (got "
                f"{' '.join(self.source)})"
            )
        if not self.takes_steps and self.target not in (Config.target, self.source[0]):
            raise ValueError(
                f"--target must be the source's network with --method {self.method} (got "
                f"{self.target}); leave it out"
            )

    @property
    def takes_steps(self) -> bool:
        """Whether it trains in steps, each on a batch."""
        return self.entry().takes_steps

    def without_effect(self) -> list[str]:
        """The options that are not the default, and that the method as it is does not use."""
        idle = set[str]()
        if self.where in WITHOUT_NETWORK:
            idle |= {"where_bias", "where_kernel"}
        if self.where == "softmax":
            idle |= {"where_bias"}
        if self.outer_batch != "held-out":
            idle |= {"outer_fraction"}
        return [
            flag(field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
            and (field.name in idle or not methods.uses(self.method, field.name))
        ]

    def pairs_or_default(self) -> str:
        """The pairs that are given, or the method's default."""
        return self.pairs or self.entry().pairs or "stages"

    def entry(self) -> methods.Entry:
        """The method; raises a ValueError if no method has that name."""
        return methods.find(self.method)

    def matches_layers(self) -> bool:
        """Whether the method matches pairs of layers."""
        return self.entry().pairs is not None

    def name(self) -> str:
        """The name of the run's folder where none is given."""
        return f"{self.method}-{self.task or short_name(self.data)}-{self.seed}"
