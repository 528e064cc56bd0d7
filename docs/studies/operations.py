"""Where a plain training step's time goes on a CPU, operation by operation, beside PyTorch.

PYTHONPATH=. python docs/studies/operations.py [BATCH] [CORES]

VGG-9-BN at 32x32, on one core unless told otherwise (Linux). XLA's times are those of its
profiler's trace, PyTorch's of its own profiler. Both add up what ran in so many steps, and divide.

With several cores XLA hands convolutions to threads and traces when they were handed over. They get
the time in which no other operation was at work.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.system import environment
from l2t_jax import Batch, baselines
from l2t_jax.models import vgg

STEPS = 8
KINDS = (
    *("convolution", "convolution, both derivatives"),
    *("layout of the convolution by kernel", "products on 2x2 maps and classifier"),
    *("sums over all but the channels", "pooling", "batch norm, ReLU and all else"),
)
# PyTorch's operations, by the same kinds.
IN_TORCH = {
    "mkldnn_convolution": KINDS[0],
    "convolution_backward": KINDS[1],
    **dict.fromkeys(("addmm", "mm"), KINDS[3]),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool2d_with_indices_backward"), KINDS[5]),
}


def main(batch: int, cores: int) -> None:
    """Prints the table."""
    if cores == 1:
        # So that an operation's time is its own and not that of handing it to a thread.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false"
    environment.keep_memory()
    ours = of_xla(batch, cores)
    peer = of_torch(batch, cores)
    kinds: tuple[str, ...] = KINDS
    if cores > 1:
        peer[KINDS[0]] += peer.pop(KINDS[1])
        kinds = (KINDS[0], *KINDS[2:])
    print(f"batch {batch}, {cores} core{'s' * (cores > 1)}, ms a step\n")
    print("| operation | here | PyTorch |\n|---|---:|---:|")
    for kind in kinds:
        print(f"| {kind} | {ours[kind]:.1f} | {peer[kind]:.1f} |")
    print(f"| in all | {sum(ours.values()):.1f} | {sum(peer.values()):.1f} |")


def of_xla(batch: int, cores: int) -> collections.Counter[str]:
    """Milliseconds a step by kind of operation."""
    network = vgg(9, classes=10)
    key = jax.random.key(0)
    samples = Batch(jax.random.normal(key, (batch, 32, 32, 3)), jnp.arange(batch) % 10)
    method = baselines.scratch(network, optimizer=optax.sgd(0.01, momentum=0.9))
    state = jax.jit(method.init)(key, None, samples)
    step = jax.jit(method.step, donate_argnums=0).lower(state, None, samples).compile()

    def run() -> None:
        nonlocal state
        for _ in range(STEPS):
            state, _ = step(state, None, samples)
        jax.block_until_ready(state)

    run()
    described = operations(step.as_text())
    found, seconds = traced(run)
    spans: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for name, begin, duration in found:
        if name in described:
            spans[kind_of(*described[name])].append((begin, begin + duration))
    totals = collections.Counter({kind: covered(of_kind) for kind, of_kind in spans.items()})
    if cores > 1:
        others = covered([span for kind in KINDS[2:] for span in spans[kind]])
        totals = collections.Counter({kind: totals[kind] for kind in KINDS[2:]})
        totals[KINDS[0]] = 1e6 * seconds - others
    return collections.Counter({kind: total / STEPS / 1e3 for kind, total in totals.items()})


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of all spans together, where several overlap once."""
    total, reached = 0.0, 0.0
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def operations(program: str) -> dict[str, tuple[str, str, str]]:
    """Shape, opcode and source of each operation in a compiled program, by its name."""
    pattern = r"(?m)^\s*(?:ROOT )?%?([\w.\-]+) = (\S+) ([\w\-]+)\((.*)$"
    found = {}
    for name, shape, opcode, rest in re.findall(pattern, program):
        source = re.search(r'op_name="([^"]*)"', rest)
        found[name] = shape, f"{opcode} {name}", source[1] if source else ""
    return found


def kind_of(shape: str, operation: str, source: str) -> str:
    """The kind of an operation, from what the compiler says about it."""
    opcode = operation.split()[0]
    if opcode == "convolution":
        return KINDS[1] if "transpose(" in source else KINDS[0]
    if opcode == "dot":
        return KINDS[4] if shape.startswith("f32[2,") else KINDS[3]
    if "transpose" in operation or opcode == "copy":
        return KINDS[2]
    if re.search(r"/(max|pad|reduce_max|reduce_window\w*)$", source):
        return KINDS[5]
    return KINDS[6]


def traced(run: Callable[[], None]) -> tuple[list[tuple[str, float, float]], float]:
    """Name, begin and duration in microseconds of all that a run traces; and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            begin = time.perf_counter()
            run()
            seconds = time.perf_counter() - begin
        (path,) = Path(folder).rglob("perfetto_trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    found = [event for event in events if event.get("ph") == "X"]
    return [(event["name"], event["ts"], event["dur"]) for event in found], seconds


def of_torch(batch: int, cores: int) -> collections.Counter[str]:
    """The same of PyTorch; nothing where it is not installed."""
    totals: collections.Counter[str] = collections.Counter()
    try:
        import torch
    except ImportError:
        return totals
    torch.set_num_threads(cores)
    layers: list[Any] = []
    inputs = 3
    for outputs, pooled in (
        *((64, True), (128, True), (256, False), (256, True)),
        *((512, False), (512, True), (512, False), (512, True)),
    ):
        layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1)]
        layers += [torch.nn.BatchNorm2d(outputs), torch.nn.ReLU(inplace=True)]
        layers += [torch.nn.MaxPool2d(2)] * pooled
        inputs = outputs
    network = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(512, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images, labels = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10

    def run() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    for event in profile.key_averages():
        kind = IN_TORCH.get(event.key.removeprefix("aten::"), KINDS[-1])
        totals[kind] += event.self_cpu_time_total / STEPS / 1e3
    return totals


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("batch", type=int, nargs="?", default=32)
    parser.add_argument("cores", type=int, nargs="?", default=1)
    main(**vars(parser.parse_args()))
