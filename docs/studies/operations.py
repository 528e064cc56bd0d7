"""Where a plain training step's time goes on a CPU, operation by operation, beside PyTorch.

python docs/studies/operations.py [BATCH]

VGG-9-BN at 32x32, one core (Linux). XLA's times are those of its profiler's trace, PyTorch's of its
own profiler. Both add up what ran in so many steps, and divide.
"""

from __future__ import annotations

import collections
import gzip
import json
import os
import re
import sys
import tempfile
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
    *("convolution", "convolution, by images", "convolution, by kernel"),
    *("layout of the convolution by kernel", "products on 2x2 maps and classifier"),
    *("sums over all but the channels", "pooling", "batch norm, ReLU and all else"),
)
# PyTorch's operations, by the same kinds. Its convolution_backward has both derivatives.
IN_TORCH = {
    "mkldnn_convolution": KINDS[0],
    "convolution_backward": KINDS[1],
    **dict.fromkeys(("addmm", "mm"), KINDS[4]),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool2d_with_indices_backward"), KINDS[6]),
}


def main(batch: int) -> None:
    """Prints the table."""
    # On one core, so that an operation's time is its own and not that of handing it to a thread.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false"
    environment.keep_memory()
    ours = of_xla(batch)
    peer = of_torch(batch)
    print(f"batch {batch}, one core, ms a step\n")
    print("| operation | here | PyTorch |\n|---|---:|---:|")
    for kind in KINDS:
        print(f"| {kind} | {ours[kind]:.1f} | {peer[kind]:.1f} |")
    print(f"| in all | {sum(ours.values()):.1f} | {sum(peer.values()):.1f} |")


def of_xla(batch: int) -> collections.Counter[str]:
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
    totals: collections.Counter[str] = collections.Counter()
    for name, duration in traced(run):
        if name in described:
            totals[kind_of(*described[name])] += duration / STEPS / 1e3
    return totals


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
        if "conv_general_dilated" not in source:
            return KINDS[2]
        return KINDS[1] if "transpose(" in source else KINDS[0]
    if opcode == "dot":
        return KINDS[5] if shape.startswith("f32[2,") else KINDS[4]
    if "transpose" in operation or opcode == "copy":
        return KINDS[3]
    if re.search(r"/(max|pad|reduce_max|reduce_window\w*)$", source):
        return KINDS[6]
    return KINDS[7]


def traced(run: Callable[[], None]) -> list[tuple[str, float]]:
    """Name and microseconds of all that a run traces."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            run()
        (path,) = Path(folder).rglob("perfetto_trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return [(event["name"], event["dur"]) for event in events if event.get("ph") == "X"]


def of_torch(batch: int) -> collections.Counter[str]:
    """The same of PyTorch; nothing where it is not installed."""
    totals: collections.Counter[str] = collections.Counter()
    try:
        import torch
    except ImportError:
        return totals
    torch.set_num_threads(1)
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
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 32)
