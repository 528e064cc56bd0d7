"""The published code's whole iteration beside ours, in turn, on the CPU.

PYTHONPATH=. python docs/studies/published.py FOLDER [BATCH] [--repeats N] [--modes MODE...]

FOLDER is a copy of github.com/alinlab/L2T-ww. Its networks, meta-networks, matching loss and
optimiser run as they are, in the order of its `train_l2t_ww.py`: VGG-9-BN target, ResNet-32 source,
15 pairs, T = 2, images at random. Ours has the same setting, and each mode its own line.

Two things are put in its place. Newer PyTorch's `zero_grad` removes gradients, which its optimiser
does not expect: they are set to zero, as they were then. Where torchvision is not installed, the
residual block that it takes from there is the one below.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from experiments.benchmark import measure
from experiments.timing import programs
from experiments.timing.programs import Program

T, PAIRS = 2, [(m, n) for m in (4, 9, 14) for n in range(5)]
BETA, RATE, META_RATE, MOMENTUM, DECAY = 0.5, 0.01, 1e-4, 0.9, 1e-4
Programs = dict[str, Program]


def main(folder: Path, batch: int, repeats: int, modes: list[str]) -> None:
    """Prints the median, least and most milliseconds of each program, and the ratios."""
    times = measure(ours(batch, modes) | published(folder, batch), repeats)
    print("| program | median, ms | least to most, ms | published ÷ ours, round by round |")
    print("|---|---:|---:|---:|")
    for name, values in times.items():
        peer = times["published: plain step" if "plain" in name else "published: iteration"]
        ratios = [theirs / own for theirs, own in zip(peer, values, strict=True)]
        print(
            f"| {name} | {1e3 * statistics.median(values):.0f} | "
            f"{1e3 * min(values):.0f}–{1e3 * max(values):.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) |"
        )


def ours(batch: int, modes: list[str]) -> Programs:
    """A plain step, and an iteration in each mode."""
    wanted = [(mode, T, len(PAIRS)) for mode in modes]
    chosen = programs.setting("small", "float32")
    return {
        f"ours: {name}": program
        for name, program in programs.build(chosen, batch, wanted, torch=False)
        if name == programs.PLAIN or name.startswith("iteration")
    }


def published(folder: Path, batch: int) -> Programs:
    """The same of the code in a folder."""
    import torch
    from torch.nn.functional import cross_entropy

    code, meta_optimizers = modules(folder)
    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10

    def network(name: str, classes: int) -> Any:
        return code.check_model(SimpleNamespace(model=name, num_classes=classes, dataset="cifar"))

    source, target = network("resnet32", 200).eval(), network("vgg9_bn", 10).train()
    matching = code.FeatureMatching("resnet32", "vgg9_bn", PAIRS)
    what = code.WeightNetwork("resnet32", PAIRS)
    where = code.LossWeightNetwork("resnet32", PAIRS, "relu6", 1.0)
    meta_parameters = [*what.parameters(), *where.parameters()]
    adam = torch.optim.Adam(meta_parameters, lr=META_RATE, weight_decay=DECAY)
    optimizer = meta_optimizers.MetaSGD(
        [*target.parameters(), *matching.parameters()],
        [target, matching],
        lr=RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        rollback=True,
    )
    of_optimizer = optimizer.zero_grad
    optimizer.zero_grad = lambda: of_optimizer(set_to_none=False)

    def inner(matching_only: bool = False) -> torch.Tensor:
        logits, features = target.forward_with_features(images)
        with torch.no_grad():
            _, of_source = source.forward_with_features(images)
        weights, scales = what(of_source), where(of_source)
        loss = matching(of_source, features, weights, [BETA] * len(PAIRS), scales)
        return loss if matching_only else loss + cross_entropy(logits, labels)

    def outer() -> torch.Tensor:
        return cross_entropy(target(images)[0], labels)

    def iteration() -> None:
        optimizer.zero_grad()
        inner().backward()
        optimizer.step(None)
        for _ in range(T):
            optimizer.zero_grad()
            optimizer.step(inner, True)
        optimizer.zero_grad()
        optimizer.step(outer)
        optimizer.zero_grad()
        adam.zero_grad()
        outer().backward()
        optimizer.meta_backward()
        adam.step()

    alone = network("vgg9_bn", 10).train()
    sgd = torch.optim.SGD(alone.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)

    def plain() -> None:
        sgd.zero_grad()
        cross_entropy(alone(images)[0], labels).backward()
        sgd.step()

    return {"published: plain step": Program(plain), "published: iteration": Program(iteration)}


def modules(folder: Path) -> tuple[ModuleType, ModuleType]:
    """The published training script and its optimisers, imported from a folder."""
    if not (folder / "train_l2t_ww.py").is_file():
        raise SystemExit(f"{folder} must be a copy of alinlab/L2T-ww: it has no train_l2t_ww.py")
    if importlib.util.find_spec("torchvision") is None:
        from torch import nn

        stand_in("torchvision")
        stand_in("torchvision.models")
        stand_in("torchvision.models.resnet", BasicBlock=residual_block(nn), Bottleneck=None)
    stand_in("check_dataset", check_dataset=None)  # its data sets, which are not needed
    sys.path.insert(0, str(folder))
    import train.meta_optimizers
    import train_l2t_ww

    return train_l2t_ww, train.meta_optimizers


def stand_in(name: str, **contents: Any) -> None:
    """Puts a module of these contents where an import looks for one."""
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(contents)


def residual_block(nn: Any) -> type:
    """A residual block of two 3x3 convolutions, by the names of torchvision's."""

    class BasicBlock(nn.Module):  # type: ignore[misc]
        def __init__(
            self, inputs: int, channels: int, stride: int = 1, downsample: Any = None
        ) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.relu, self.downsample = nn.ReLU(inplace=True), downsample

        def forward(self, maps: Any) -> Any:
            kept = maps if self.downsample is None else self.downsample(maps)
            maps = self.relu(self.bn1(self.conv1(maps)))
            return self.relu(self.bn2(self.conv2(maps)) + kept)

    return BasicBlock


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a copy of github.com/alinlab/L2T-ww")
    parser.add_argument("batch", type=int, nargs="?", default=32, help="images a step")
    parser.add_argument("--repeats", type=int, default=7, help="rounds; their median counts")
    parser.add_argument("--modes", nargs="*", default=["mixed", "finite-difference"])
    options = parser.parse_args()
    main(options.folder, options.batch, options.repeats, options.modes)
