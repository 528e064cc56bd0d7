"""The options of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from . import methods, tasks
from .run_options import RunOptions, check_ranges, finite

WhereName = Literal["relu6", "relu", "relu-avg", "softplus", "elu", "sigmoid", "tanh", "constant"]


METHOD_HELP = "What the target is trained on. " + " ".join(
    f"{name}: {entry.help}." for name, entry in methods.METHODS.items()
)


@dataclass(frozen=True)
class Choice:
    """What is trained from what; a class of its own so that --help begins with it."""

    method: Annotated[str, arg(metavar=methods.CHOICES, help=METHOD_HELP)] = "l2t-ww"
    #: A task of the paper: sets the data, the image size, both networks, the pairs, the batch size
    #: and the meta-networks' learning rate; options given beside it win. With cifar10 the paper
    #: takes 50 to 1000 images a class (--per-class). Three tasks have a second source beside the
    #: ResNet-32 trained on TinyImageNet, whose weights come second: stl10-resnet20 a ResNet-20
    #: trained there, stl10-twice a ResNet-32 trained there with another seed, stl10-cifar10 a
    #: ResNet-32 trained on CIFAR-10.
    task: Annotated[str | None, arg(metavar=tasks.CHOICES)] = None

    #: Source networks, one or several: resnetN, cifar-resnetN, vggN, vggN_bn or vit_SIZE_patchN
    #: where SIZE is micro, tiny, small or base.
    source: Annotated[tuple[str, ...], arg(metavar="NETWORK ...")] = ("resnet32",)
    #: Each source's trained weights: .pth, .pth.tar or .safetensors. Its number of classes is
    #: read off them. Needed by every method but scratch.
    source_weights: Annotated[tuple[Path, ...], arg(metavar="FILE ...")] = ()
    #: Target network, likewise.
    target: str = "vgg9_bn"
    #: Pairs of source and target layers that may be matched. stages: the last layer of each
    #: map size (of a vision transformer, four layers) with each such layer of the target. all:
    #: every layer with every layer. one-to-one: stages of equal map size. single: the last of
    #: those. Or a list such as 4-0,9-1 of source-target layer numbers; with several sources,
    #: counted from 0, such as 0:4-0,1:9-1. By default one-to-one for at, lwf+at and l2t-w, else
    #: stages. Not used by scratch, finetune and lwf.
    pairs: Annotated[str | None, arg(metavar="stages|all|one-to-one|single|[S:]M-N,...")] = None


@dataclass(frozen=True)
class Config(RunOptions, Choice):
    """Train a target network on a small data set with the help of frozen source networks.

    Example: l2t train --method l2t-ww --data train.npz --test-data test.npz
    --source resnet32 --source-weights tinyimagenet200_resnet32.pth.tar --target vgg9_bn
    """

    #: Learning rate of the inner SGD at the start; follows a cosine, constant in an epoch.
    lr: float = 0.1
    #: Factor of the matching loss (fm, l2t-w and l2t-ww).
    beta: float = 0.5
    #: Factor of the attention transfer's loss (at and lwf+at), which is a mean over images and
    #: positions, so that a pair adds at most 2/positions of it. 1000 is its authors', for maps of
    #: 8x8 and more; smaller maps want less.
    at_weight: float = 1000.0
    #: Factor of the distillation loss, which has Hinton's factor T² (lwf and lwf+at). Li & Hoiem's
    #: λ = 1, without T², would be 0.25.
    lwf_weight: float = 1.0
    #: Temperature T of the distillation.
    temperature: float = 2.0
    #: T, virtual steps on the matching loss before the one on the task's loss.
    unroll_steps: int = 2
    #: Learning rate of Adam for the meta-networks.
    meta_lr: float = 1e-4
    #: Coupled weight decay of Adam for the meta-networks.
    meta_weight_decay: float = 1e-4
    #: Only every so many steps the meta-networks are trained, which takes most of the time; 1 in
    #: the paper.
    meta_every: int = 1
    #: Whose loss at the end of the virtual steps trains the meta-networks. same: the batch that
    #: the steps were on (the paper's). other: another batch of the training images at random.
    outer_batch: Literal["same", "other"] = "same"
    #: How the loss is differentiated through the virtual steps; all give the same numbers. mixed:
    #: fast. low-memory: takes each virtual step anew, for a third of the memory. reverse:
    #: plain jax.grad of the steps.
    meta_gradient: Literal["mixed", "low-memory", "reverse"] = "mixed"
    #: Head of the pair weights' network; constant: one learned weight a pair.
    where: WhereName = "relu6"
    #: Bias that head starts with (but for constant).
    where_bias: float = 1.0
    #: Factor of the random kernel that head starts with (but for constant). At 0 all pairs begin
    #: with the same weight, with relu6 that of --where-bias.
    where_kernel: float = 1.0
    #: Virtual steps. two-stage: T on the matching loss, one on the task's (the paper's).
    #: bilevel: T on the sum.
    scheme: Literal["two-stage", "bilevel"] = "two-stage"

    def with_presets(self) -> Config:
        """The defaults that ``task`` asks for; raises a ValueError where there is no such task."""
        if self.task is None:
            return Config()
        preset = tasks.settings(self.task, same_stage=self.entry().pairs == "one-to-one")
        return replace(Config(), task=self.task, **preset)

    def check(self) -> None:
        """Raises a ValueError for values outside their range, before anything is read."""
        super().check()
        check_ranges(
            self,
            ("unroll_steps", self.unroll_steps >= 0, "0 or more"),
            ("meta_every", self.meta_every > 0, "1 or more"),
            ("where_bias", math.isfinite(self.where_bias), "a finite number"),
            ("temperature", 0 < self.temperature < math.inf, "above 0, finite"),
            *(
                finite(self, name)
                for name in (
                    "where_kernel",
                    "beta",
                    "at_weight",
                    "lwf_weight",
                    "meta_lr",
                    "meta_weight_decay",
                )
            ),
        )
        self._check_sources()

    def check_files(self) -> None:
        """Raises a FileNotFoundError for the first option that names a file that is not there."""
        self.check_weights()
        super().check_files()

    def check_weights(self) -> None:
        """Raises a FileNotFoundError for the first file of a source's weights that is not there."""
        for path in self.source_weights:
            if not path.is_file():
                raise FileNotFoundError(f"--source-weights {path}: no such file")

    def _check_sources(self) -> None:
        """Raises a ValueError unless method, source networks and their weights belong together."""
        wanted = self.entry().sources
        if wanted == "none":
            if self.source_weights:
                raise ValueError(
                    f"--method {self.method} has no source network "
                    f"(got --source-weights {' '.join(map(str, self.source_weights))})"
                )
            return
        if not self.source_weights:
            raise ValueError(
                f"--method {self.method} without --source-weights came; wanted the file with "
                f"the trained weights of {' and of '.join(self.source)}"
            )
        if len(self.source) != len(self.source_weights):
            raise ValueError(
                f"--source {' '.join(self.source)} with {len(self.source_weights)} "
                "--source-weights came; wanted a file of weights for each"
            )
        if wanted == "one" and len(self.source) > 1:
            raise ValueError(
                f"--method {self.method} must have one source to start from "
                f"(got --source {' '.join(self.source)})"
            )

    def pairs_or_default(self) -> str:
        """The pairs asked for, or the method's own choice."""
        return self.pairs or self.entry().pairs or "stages"

    def entry(self) -> methods.Entry:
        """The method; raises a ValueError where there is none of that name."""
        return methods.find(self.method)

    def matches_layers(self) -> bool:
        """Whether the method has pairs of layers at all."""
        return self.entry().pairs is not None

    def name(self) -> str:
        """What the run is called where it is given no folder."""
        return f"{self.method}-{self.task or Path(self.data).stem}-{self.seed}"
