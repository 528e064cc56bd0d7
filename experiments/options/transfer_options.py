"""The options of what ties the target to its sources, and of what learns how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

Activation = Literal["relu6", "relu", "relu-avg", "softplus", "elu", "sigmoid", "tanh"]
WhereName = Literal[Activation, "softmax", "constant", "exponential", "level"]
# Heads that are no network, with neither bias nor kernel.
WITHOUT_NETWORK = ("constant", "exponential", "level")


@dataclass(frozen=True)
class TransferOptions:
    """The penalties of the rivals, the matching, and the meta-networks that weigh it."""

    #: Factor of the matching loss of fm, l2t-w and l2t-ww.
    beta: float = 0.5
    #: Scale of the source's feature maps, for the matching and for the meta-networks.
    #: - as-is: as the network gives them.
    #: - standard: every channel has mean 0 and deviation 1 over the training images.
    source_scale: Literal["as-is", "standard"] = "as-is"
    #: Finished run of l2t-w or l2t-ww on the same networks. fm then matches that run's pairs with
    #: the mean weights that it has learned, which stay fixed.
    weights_from: Annotated[
        Path | None, arg(metavar="RUN", help_behavior_hint="(default: equal weights)")
    ] = None
    #: More images of the same kind, for every method with a source but probe and finetune. They
    #: take part in what ties the target to the source, such as the matching, and not in the task's
    #: loss. Labels that they have do not count.
    #: - FILE.npz: an npz file with uint8 images [N,H,W,3].
    #: - FOLDER: a folder with images at any depth.
    #: - cifar10 and the like: the training images of a public set, as for --data.
    unlabelled: Annotated[str | None, arg(metavar="DATA", help_behavior_hint="(default: none)")] = (
        None
    )
    #: Number of them in one step, besides those of --batch-size.
    unlabelled_batch_size: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: --batch-size, or all)")
    ] = None
    #: Factor of the attention transfer's loss of at and lwf+at. The loss is a mean over images and
    #: positions, so one pair adds at most 2/positions times this factor. The default is that of its
    #: authors, for maps of size 8x8 and more. Use less for smaller maps.
    at_weight: float = 1000.0
    #: Factor of the distillation loss of lwf and lwf+at. The loss has Hinton's factor T². Li and
    #: Hoiem's λ = 1, without T², is 0.25 here.
    lwf_weight: float = 1.0
    #: Temperature T of the distillation.
    temperature: float = 2.0
    #: Number T of virtual steps on the matching loss. One step on the task's loss follows.
    unroll_steps: Annotated[int, arg(metavar="T")] = 2
    #: Learning rate of Adam for the meta-networks.
    meta_lr: float = 1e-4
    #: Weight decay of Adam for the meta-networks. It is coupled, as that of SGD.
    meta_weight_decay: float = 1e-4
    #: Train the meta-networks in every N-th step only. They take most of the time. The paper trains
    #: them in every step.
    meta_every: Annotated[int, arg(metavar="N")] = 1
    #: Train the meta-networks from the N-th step on, counted from 0. At the start the meta-gradient
    #: is the least certain.
    meta_from: Annotated[int, arg(metavar="N")] = 0
    #: Number of meta-gradients whose mean moves the meta-networks once.
    meta_average: Annotated[int, arg(metavar="N")] = 1
    #: Batch whose loss after the virtual steps trains the meta-networks.
    #: - same: the batch of the virtual steps, as in the paper.
    #: - other: another batch of the training images, at random.
    #: - held-out: of training images that are set aside for this; see --outer-fraction.
    #: - validation: of the validation images. They then both train the meta-networks and choose
    #: the best epoch.
    outer_batch: Literal["same", "other", "held-out", "validation"] = "same"
    #: Number of images in the outer batch, unless it is the same.
    outer_batch_size: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: --batch-size, or all)")
    ] = None
    #: Share of each class's training images that --outer-batch held-out sets aside.
    outer_fraction: float = 0.2
    #: How the loss is differentiated through the virtual steps. The first three give the same
    #: numbers.
    #: - mixed: fast.
    #: - low-memory: computes each virtual step again. It takes 0.3 to 0.6 of the memory of mixed,
    #: and a sixth more operations.
    #: - reverse: plain jax.grad of the steps.
    #: - finite-difference: an approximation with fewer operations and less memory.
    meta_gradient: Literal["mixed", "low-memory", "reverse", "finite-difference"] = "mixed"
    #: Head of the network that gives the pair weights.
    #: - relu6 and the like: each pair's weight is free.
    #: - softmax: the weights' sum is the number of pairs. With --where-kernel 0 all start at 1.
    #: - constant: no network; each pair has one learned weight.
    #: - exponential: likewise, but the weight's logarithm is learned, so that it can grow and fall
    #: by large factors.
    #: - level: no network; all pairs share one learned weight.
    where: WhereName = "relu6"
    #: Bias that the head starts with, if the head is a network; softmax has none.
    where_bias: float = 1.0
    #: Factor of the random kernel that the head starts with, if the head is a network. All pairs
    #: start with the same weight if it is 0. With relu6, that is --where-bias.
    where_kernel: float = 1.0
    #: The virtual steps.
    #: - two-stage: T steps on the matching loss, then one on the task's loss, as in the paper.
    #: - bilevel: T steps on the sum of both.
    #: - matching-only: T steps on the matching loss. With --unroll-steps 1 it is the fastest.
    scheme: Literal["two-stage", "bilevel", "matching-only"] = "two-stage"
