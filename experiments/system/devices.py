"""Devices of one process or of several: a batch is split over all, the rest is on each."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .errors import RunFailedError

T = TypeVar("T")


class Devices(NamedTuple):
    """Where a computation runs.

    Attributes:
      replicated: the sharding of what is whole on every device: parameters, states, figures.
      split: the sharding of a batch: its first axis is divided over the devices.
    """

    replicated: NamedSharding
    split: NamedSharding

    @property
    def number(self) -> int:
        """Number of devices, those of other processes included."""
        return self.split.mesh.size

    @property
    def kind(self) -> str:
        """What the devices are, such as ``cpu`` or a product's name."""
        return self.split.mesh.devices.flat[0].device_kind

    def check_batch_size(self, batch_size: int) -> None:
        """Raises a ValueError for a batch that cannot be divided equally over the devices."""
        below = batch_size // self.number * self.number
        if below != batch_size:
            nearest = " or ".join(str(size) for size in (below, below + self.number) if size)
            raise ValueError(
                f"--batch-size {batch_size} came; {self.number} devices want a multiple of "
                f"{self.number}, such as {nearest}"
            )

    def round_up(self, batch_size: int) -> int:
        """The next larger batch size that can be divided equally."""
        return -(-batch_size // self.number) * self.number

    def rows(self, batch_size: int) -> np.ndarray:
        """Positions in a batch that this process's devices hold, ascending."""
        parts = self.split.addressable_devices_indices_map((batch_size,)).values()
        return np.sort(np.concatenate([np.arange(batch_size)[part] for part in parts]))

    def batch(self, rows: np.ndarray, batch_size: int) -> Array:
        """A batch on the devices.

        Args:
          rows: the part that `rows` tells, on the host; every process gives its own.
          batch_size: of the whole batch.

        Returns:
          The whole batch, split over the devices.
        """
        shape = (batch_size, *rows.shape[1:])
        return jax.make_array_from_process_local_data(self.split, rows, shape)

    def replicate(self, tree: Any) -> Any:
        """Arrays, whole on every device; every process gives the same ones."""
        return _replicator(self.replicated)(tree)


@lru_cache
def _replicator(sharding: NamedSharding) -> Callable[[Any], Any]:
    # Unlike jax.device_put this also takes keys to the devices of other processes.
    return jax.jit(lambda tree: tree, out_shardings=sharding)


def all_devices() -> Devices:
    """All devices of all processes."""
    return over(jax.devices())


def one_device() -> Devices:
    """This process's first device."""
    return over(jax.local_devices()[:1])


def over(devices: list[jax.Device]) -> Devices:
    """These devices."""
    # Axes of the explicit kind, jax's default, would want shardings in every function's types.
    mesh: Mesh = jax.make_mesh(
        (len(devices),), ("batch",), axis_types=(AxisType.Auto,), devices=devices
    )
    return Devices(
        NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))
    )


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the processes of a run; comes before anything that asks jax for its devices.

    Args:
      coordinator: ``HOST:PORT`` of the first process; ``auto`` where jax finds out by itself (as
        under Slurm, Open MPI, Kubernetes, on TPU pods); None for a run of one process.
      processes: how many there are; None with ``auto``.
      process: which one this is, from 0; None with ``auto``.

    Raises:
      ValueError: ``auto``, and jax finds nothing out.
      RunFailedError: the processes did not come together.
    """
    if coordinator is None:
        return
    try:
        if coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(coordinator, processes, process)
    except ValueError as error:
        raise ValueError(
            f"--coordinator {coordinator} came, but jax did not find the other processes ({error})"
        ) from None
    except RuntimeError as error:
        raise RunFailedError(f"the processes did not come together: {error}") from None


def is_first_process() -> bool:
    """Whether this process is the one that prints and writes files."""
    return jax.process_index() == 0


def on_first_process(action: Callable[[], T]) -> T:
    """Does something in the first process alone; the others wait until it is done.

    Args:
      action: what to do.

    Returns:
      What the action returned, in every process.

    Raises:
      ValueError, OSError: what the action raised, in the first process.
      RunFailedError: the action raised something, in the other processes.
    """
    if jax.process_count() == 1:
        return action()
    failure: Exception | None = None
    content = b""
    if is_first_process():
        try:
            content = pickle.dumps(action())
        except (ValueError, OSError) as error:
            failure = error
    # Nobody is left waiting for a first process that has given up.
    sizes = np.array([failure is not None, len(content)])
    failed, size = multihost_utils.broadcast_one_to_all(sizes)
    if failure is not None:
        raise failure
    if failed:
        raise RunFailedError("the first process has failed; its own message says why")
    given = np.frombuffer(content.ljust(int(size), b"\0"), np.uint8)
    return pickle.loads(multihost_utils.broadcast_one_to_all(given).tobytes())
