"""Reads PyTorch weight files from bytes, without torch and without running what is in them.

Three formats: legacy ``.pth`` streams (before PyTorch 1.6), zip ``.pth``, and safetensors. The
pickles in the first two may name nothing but tensors, storages and `OrderedDict`; any other name
is refused before it is looked up.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


class _StorageType:
    """Stands for ``torch.FloatStorage`` and its kin while a pickle is read."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)


class _Storage:
    """A flat buffer; in a legacy stream its values follow after the pickle."""

    __slots__ = ("dtype", "size", "values")

    def __init__(self, dtype: np.dtype, size: int) -> None:
        self.dtype, self.size = dtype, size
        self.values: np.ndarray | None = None


class _Tensor:
    """A view into a storage, made into an array once the storage has its values."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any) -> None:
        integers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or any(
            type(value) is not int or value < 0 for value in integers
        ):
            raise ValueError("a tensor in the file is not described by a storage and integers")
        if len(shape) != len(strides):
            raise ValueError(f"a tensor of shape {shape} has strides {strides}")
        # An element may not be seen twice: a broadcast view could claim any amount of memory.
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        count = math.prod(shape)
        if count > storage.size or (count and last >= storage.size):
            raise ValueError(
                f"a tensor of shape {shape}, strides {strides} and offset {offset} does not fit "
                f"its storage of {storage.size} elements"
            )
        self.storage, self.offset = storage, offset
        self.shape, self.strides = tuple(shape), tuple(strides)

    def array(self) -> np.ndarray:
        values = self.storage.values
        if values is None:
            raise ValueError("the file ends before the values of one of its tensors")
        width = values.itemsize
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, [width * s for s in self.strides], writeable=False
        )
        return view.copy()


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    del rest  # requires_grad, hooks, metadata: nothing of the values
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *rest: Any) -> Any:
    del rest
    return tensor


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors and plain containers, and refuses every other name."""

    def __init__(self, file: Any, load_storage: Callable[[tuple], _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in {
            ("torch._utils", "_rebuild_tensor"),
            ("torch._utils", "_rebuild_tensor_v2"),
        }:
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in STORAGES:
            return _StorageType(STORAGES[name])
        if (module, name) == ("torch", "Size"):
            return tuple
        raise ValueError(
            f"the file names {module}.{name}; only tensors and plain containers are read"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            raise ValueError(f"the file refers to {pid!r:.80}; only storages are read")
        _, kind, key, _, size = pid[:5]
        if not isinstance(kind, _StorageType) or type(size) is not int or size < 0:
            raise ValueError(f"the file describes a storage as {pid!r:.80}")
        return self._load_storage((kind.dtype, str(key), size, pid[5] if len(pid) > 5 else None))


def read(data: bytes) -> Any:
    """Reads a weight file of any of the three formats.

    Args:
      data: the whole file.

    Returns:
      What was saved, tensors as NumPy arrays: usually a mapping from names to arrays, or a
      dictionary that holds one (see `find_state_dict`).

    Raises:
      ValueError: the format is none of the three, the file is damaged, or it names anything but
        tensors and plain containers.

    Example:
      >>> import safetensors.numpy
      >>> read(safetensors.numpy.save({"w": np.zeros(2, np.float32)}))["w"].tolist()
      [0.0, 0.0]
    """
    # Before the others: it begins with a length, which may look like their marks.
    if len(data) > 8 and data[8:9] == b"{":
        return _guarded(safetensors.numpy.load, data, "safetensors")
    if data[:4] == b"PK\x03\x04":
        return _guarded(_read_zip, data, "zip .pth")
    if data[:1] == b"\x80":
        return _guarded(_read_legacy, data, "legacy .pth")
    raise ValueError(
        f"a file that begins with {data[:8]!r} came; wanted a PyTorch .pth or a safetensors file"
    )


def _guarded(reader: Callable[[bytes], Any], data: bytes, kind: str) -> Any:
    try:
        return reader(data)
    except ValueError:
        raise
    except (MemoryError, KeyboardInterrupt):
        raise
    # A damaged pickle can fail in any way; it ran nothing, so all of them mean the same.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"damaged {kind} file ({reason:.200})") from error


def _read_legacy(data: bytes) -> Any:
    file = io.BytesIO(data)
    storages: dict[str, _Storage] = {}

    def load_storage(pid: tuple) -> _Storage:
        dtype, key, size, view = pid
        if view is not None:
            raise ValueError("the file holds views of storages, which PyTorch wrote before 0.4")
        storage = storages.setdefault(key, _Storage(dtype, size))
        if (storage.dtype, storage.size) != (dtype, size):
            raise ValueError(f"storage {key} is described in two ways")
        return storage

    def load() -> Any:
        return _Unpickler(file, load_storage).load()

    if load() != LEGACY_MAGIC:
        raise ValueError("a pickle came that is no PyTorch file: its magic number is missing")
    if (protocol := load()) != LEGACY_PROTOCOL:
        raise ValueError(f"PyTorch protocol {protocol!r:.40} came; wanted {LEGACY_PROTOCOL}")
    system = load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("a big-endian PyTorch file came; wanted a little-endian one")
    tree, keys = load(), load()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise ValueError("the file's list of storages does not fit its tensors")
    for key in keys:
        storage = storages[str(key)]
        header = file.read(8)
        size = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        length = storage.size * storage.dtype.itemsize
        if size != storage.size or len(data) - file.tell() < length:
            raise ValueError(f"storage {key} is cut short or of another size than announced")
        storage.values = np.frombuffer(file.read(length), storage.dtype)
    return _arrays(tree)


def _read_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise ValueError("a zip file without a data.pkl came; wanted one written by torch.save")
        root = pickles[0].rsplit("/", 1)[0]
        # torch.save never compresses, so what the archive declares is bounded by the file itself.
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ValueError("a compressed zip file came; wanted one written by torch.save")
        order = f"{root}/byteorder"
        if order in names and archive.read(order) != b"little":
            raise ValueError("a big-endian PyTorch file came; wanted a little-endian one")
        storages: dict[str, _Storage] = {}

        def load_storage(pid: tuple) -> _Storage:
            dtype, key, size, _ = pid
            if key not in storages:
                raw = archive.read(f"{root}/data/{key}")
                if len(raw) != size * dtype.itemsize:
                    raise ValueError(f"storage {key} has {len(raw)} bytes; wanted {size} × {dtype}")
                storages[key] = _Storage(dtype, size)
                storages[key].values = np.frombuffer(raw, dtype)
            elif (storages[key].dtype, storages[key].size) != (dtype, size):
                raise ValueError(f"storage {key} is described in two ways")
            return storages[key]

        pickled = io.BytesIO(archive.read(pickles[0]))
        return _arrays(_Unpickler(pickled, load_storage).load())


def _arrays(tree: Any) -> Any:
    """Turns the tensors of a tree of containers into arrays."""
    if isinstance(tree, _Tensor):
        return tree.array()
    if isinstance(tree, Mapping):
        return {key: _arrays(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_arrays(value) for value in tree]
    return tree


def find_state_dict(tree: Any) -> dict[str, np.ndarray]:
    """Finds the mapping from parameter names to arrays in what a file holds.

    Args:
      tree: as from `read`: such a mapping, or a dictionary with one under ``state_dict``,
        ``model_state_dict``, ``model`` or ``target_model``.

    Returns:
      The mapping; a prefix ``module.`` that all names share is taken off.

    Raises:
      ValueError: there is no such mapping.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"a file that holds a {type(tree).__name__} came; wanted a state_dict")
    for name in ("state_dict", "model_state_dict", "model", "target_model"):
        if isinstance(tree.get(name), Mapping):
            tree = tree[name]
            break
    arrays = {str(key): value for key, value in tree.items() if isinstance(value, np.ndarray)}
    if not arrays:
        found = ", ".join(sorted(map(str, tree))[:8])
        raise ValueError(f"no tensors at the top level nor under state_dict came, only {found}")
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): value for name, value in arrays.items()}
    return arrays
