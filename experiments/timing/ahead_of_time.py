"""Compiles training steps for TPUs that this machine does not have."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2t_jax import Batch, Method, Variables

from ..system import devices
from ..system.extra import is_installed
from ..training import jitted
from . import hlo
from .programs import Setting

INSTALL = 'pip install "l2t_jax[tpu]"'


class Chip(NamedTuple):
    """What a TPU's maker says of one chip.

    Attributes:
      flops: operations a second, in bfloat16.
      bandwidth: bytes a second from and to its memory.
    """

    flops: float
    bandwidth: float


CHIPS = {
    "v4": Chip(275e12, 1228e9),
    "v5e": Chip(197e12, 819e9),
    "v5p": Chip(459e12, 2765e9),
    "v6e": Chip(918e12, 1640e9),
}
# A product of float32 operands takes so many of bfloat16 operands, by the name of --precision.
PASSES = {"float32": 6, "tensorfloat32": 3, "bfloat16": 1}


class Step(NamedTuple):
    """A compiled training step, of one device.

    Attributes:
      peak: bytes of memory at the peak, arguments included.
      arguments: bytes of its arguments: states, weights and its part of the batch.
      temporaries: bytes of what it keeps while it runs.
      gflop: floating-point operations, in 10^9.
      moved: bytes that its operations read and write.
      operations: what its text says.
    """

    peak: int
    arguments: int
    temporaries: int
    gflop: float
    moved: float
    operations: hlo.Operations


class DoesNotFitError(Exception):
    """A step needs more memory than a device has. The text says how much of how much."""


def chip(topology: str) -> Chip:
    """The chip of a topology, such as that of ``v5e:2x2``.

    Raises:
      ValueError: the name has another form.
    """
    name, _, shape = topology.partition(":")
    if name not in CHIPS or not re.fullmatch(r"\d+x\d+(x\d+)?", shape):
        raise ValueError(
            f"--topology must be {', '.join(CHIPS)} with its devices, such as v5e:2x2 or "
            f"v4:2x2x1 (got {topology})"
        )
    return CHIPS[name]


def require_compiler() -> None:
    """Raises a ValueError if the compiler for TPUs is not installed."""
    if not is_installed("libtpu"):
        raise ValueError(
            "compiling for TPUs needs a package that is not installed (libtpu); install it: "
            f"{INSTALL}"
        )


def described(topology: str) -> list[jax.Device]:
    """The devices of a topology. They can be compiled for, and nothing else.

    Raises:
      ValueError: there is no such topology.
    """
    from jax.experimental import topologies

    # Otherwise the compiler looks for a TPU in the network and says that it found none.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    # Nor does it let a second process begin, for fear that both would use one TPU.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    jax.config.update("jax_platforms", "cpu")
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(
            f"--topology must be one that the compiler knows (got {topology}: {first})"
        ) from None
    return list(found.devices)


def optimization_level() -> str:
    """The compiler's level of optimisation: O0 unless the environment sets another.

    At JAX's default a program of two convolutions took 260 seconds instead of 17.
    """
    level = jax.config.jax_optimization_level  # type: ignore[attr-defined]
    if level == "UNKNOWN":
        level = "O0"
        jax.config.update("jax_optimization_level", level)
    return str(level)


def compile_step(
    method: Method, chosen: Setting, batch: int, *, sources: bool, on: list[jax.Device]
) -> Step:
    """Compiles a step as `l2t train` does, for devices that need not be there.

    Args:
      method: the method.
      chosen: its networks and the size of the images.
      batch: images a step, on all devices together.
      sources: whether the method takes the source's variables.
      on: the devices.

    Returns:
      The compiled step's figures.

    Raises:
      DoesNotFitError: the step needs more memory than a device has.
    """
    key, side = jax.random.key(0), chosen.side
    images = jax.ShapeDtypeStruct((batch, side, side, 3), np.uint8)
    samples: Any = Batch(images, jax.ShapeDtypeStruct((batch,), jnp.int32))  # type: ignore[arg-type]
    variables: Variables | None = None
    if sources:
        variables = jax.eval_shape(chosen.source.init, key, images.update(dtype=jnp.float32))
    compiled = jitted.compile_method(method, chosen.target, devices.over(on))
    state = jax.eval_shape(compiled.init, key, variables, samples)
    return figures(compiled.step, state, variables, {"batch": samples})


def figures(step: Any, *arguments: Any) -> Step:
    """Compiles a jitted function for TPUs, and reads what the compiler says of it."""
    try:
        program = step.trace(*arguments).lower(lowering_platforms=("tpu",)).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"Used \S+ of \S+", str(error))
        raise DoesNotFitError(used[0] if used else str(error).splitlines()[0]) from None
    cost, memory = program.cost_analysis(), program.memory_analysis()
    return Step(
        memory.peak_memory_in_bytes,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        cost["flops"] / 1e9,
        cost["bytes accessed"],
        hlo.read(program.as_text()),
    )


def least_seconds(step: Step, chip: Chip, precision: str) -> float:
    """The least time a step can take: the longer one of its arithmetic and its traffic.

    Args:
      step: the compiled step.
      chip: the chip.
      precision: name of the precision that it was traced with.

    Returns:
      Seconds. Communication between devices is not in it.
    """
    arithmetic = PASSES[precision] * 1e9 * step.gflop / chip.flops
    return max(arithmetic, step.moved / chip.bandwidth)
