"""Devices of one process or several. A batch is split over all; everything else is on each."""

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
      replicated: the sharding of arrays that are whole on every device, such as parameters.
      split: the sharding of a batch. Its first axis is divided over the devices.
    """

    replicated: NamedSharding
    split: NamedSharding

    @property
    def number(self) -> int:
        """Number of devices, with those of other processes."""
        return self.split.mesh.size

    @property
    def kind(self) -> str:
        """The kind of the devices, such as ``cpu`` or a product's name."""
        return self.split.mesh.devices.flat[0].device_kind

    def check_batch_size(self, batch_size: int, option: str = "--batch-size") -> None:
        """Raises a ValueError if a batch cannot be divided equally over the devices."""
        below = batch_size // self.number * self.number
        if below != batch_size:
            nearest = " or ".join(str(size) for size in (below, below + self.number) if size)
            raise ValueError(
                f"{option} must be a multiple of {self.number}, the number of devices (got "
                f"{batch_size}); use {nearest}"
            )

    def round_up(self, batch_size: int) -> int:
        """The smallest batch size from this one on that can be divided equally."""
        return -(-batch_size // self.number) * self.number

    def rows(self, batch_size: int) -> np.ndarray:
        """Positions in a batch that this process's devices hold, in ascending order."""
        parts = self.split.addressable_devices_indices_map((batch_size,)).values()
        return np.sort(np.concatenate([np.arange(batch_size)[part] for part in parts]))

    def batch(self, rows: np.ndarray, batch_size: int) -> Array:
        """Puts a batch on the devices.

        Args:
          rows: this process's part of the batch, on the host; the method `rows` says which.
          batch_size: size of the whole batch.

        Returns:
          The whole batch, split over the devices.
        """
        shape = (batch_size, *rows.shape[1:])
        return jax.make_array_from_process_local_data(self.split, rows, shape)

    def replicate(self, tree: Any) -> Any:
        """Puts whole arrays on every device. Every process must give the same ones."""
        return _replicator(self.replicated)(tree)


@lru_cache
def _replicator(sharding: NamedSharding) -> Callable[[Any], Any]:
    # Unlike jax.device_put, this also moves keys to the devices of other processes.
    return jax.jit(lambda tree: tree, out_shardings=sharding)


def all_devices() -> Devices:
    """All devices of all processes."""
    return over(jax.devices())


def one_device() -> Devices:
    """This process's first device."""
    return over(jax.local_devices()[:1])


def over(devices: list[jax.Device]) -> Devices:
    """The `Devices` made of these."""
    # With explicit axes, jax's default, every function's types would need shardings.
    mesh: Mesh = jax.make_mesh(
        (len(devices),), ("batch",), axis_types=(AxisType.Auto,), devices=devices
    )
    return Devices(
        NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))
    )


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the processes of a run. Call it before anything asks jax for its devices.

    Args:
      coordinator: ``HOST:PORT`` of the first process; ``auto`` if jax can find it by itself (under
        Slurm, Open MPI or Kubernetes, or on TPU pods); None for a run of one process.
      processes: number of processes; None with ``auto``.
      process: number of this process, from 0; None with ``auto``.

    Raises:
      ValueError: with ``auto``, jax does not find the other processes.
      RunFailedError: the processes could not be joined.
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
            "--coordinator must be HOST:PORT where jax does not find the other processes (got "
            f"{coordinator}: {error}); give also --processes and --process"
        ) from None
    except RuntimeError as error:
        raise RunFailedError(f"the processes could not be joined: {error}") from None


def is_first_process() -> bool:
    """Whether this process is the one that prints and writes files."""
    return jax.process_index() == 0


def on_first_process(action: Callable[[], T]) -> T:
    """Does something only in the first process. The others wait until it is done.

    Args:
      action: what to do.

    Returns:
      What the action returned, in every process.

    Raises:
      ValueError, OSError: in the first process, the action's error.
      RunFailedError: in the other processes, if the action raised an error.
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
    # The others learn of a failure, so that they do not wait forever.
    sizes = np.array([failure is not None, len(content)])
    failed, size = multihost_utils.broadcast_one_to_all(sizes)
    if failure is not None:
        raise failure
    if failed:
        raise RunFailedError("the first process has failed; see its message")
    given = np.frombuffer(content.ljust(int(size), b"\0"), np.uint8)
    return pickle.loads(multihost_utils.broadcast_one_to_all(given).tobytes())
