"""Reads PyTorch weight files from bytes, without torch and without running what is in them.

Three formats: legacy ``.pth`` streams (before PyTorch 1.6), zip ``.pth``, and safetensors. The
pickles in the first two may name nothing but tensors, storages and `OrderedDict`; any other name
is refused, and none is looked up. No size that a file declares is believed beyond its own size.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from l2t_jax.models import pickles
from l2t_jax.models.hugging_face import torchvision_names
from l2t_jax.models.torch_tensors import BUILDERS, Storage, arrays, refer_to

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read(data: bytes) -> Any:
    """Reads a weight file of any of the three formats.

    Args:
      data: the whole file.

    Returns:
      What was saved, usually a mapping from names to arrays, or a dictionary that holds one (see
      `find_state_dict`). Tensors become NumPy arrays that share memory where the tensors did.

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
    except MemoryError:
        raise
    # A damaged file can fail in any way; it ran nothing, so all of them mean the same.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"damaged {kind} file ({reason:.200})") from error


def _read_legacy(data: bytes) -> Any:
    storages: dict[str, Storage] = {}
    position = 0

    def find(dtype: np.dtype, key: str, size: int, view: Any) -> Storage:
        if view is not None:
            raise ValueError("the file holds views of storages, which PyTorch wrote before 0.4")
        return _same(storages.setdefault(key, Storage(dtype, size)), dtype, key, size)

    def load(max_steps: int = 100) -> Any:
        nonlocal position
        value, position = pickles.load(data, BUILDERS, refer_to(find), position, max_steps)
        return value

    if load() != LEGACY_MAGIC:
        raise ValueError("a pickle came that is no PyTorch file: its magic number is missing")
    if (protocol := load()) != LEGACY_PROTOCOL:
        raise ValueError(f"PyTorch protocol {protocol!r:.40} came; wanted {LEGACY_PROTOCOL}")
    system = load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("a big-endian PyTorch file came; wanted a little-endian one")
    tree, keys = load(pickles.MAX_STEPS), load(pickles.MAX_STEPS)
    listed = isinstance(keys, list) and all(isinstance(key, str | int) for key in keys)
    if not listed or sorted(map(str, keys)) != sorted(storages):
        raise ValueError("the file's list of storages does not fit its tensors")
    for key in keys:
        storage = storages[str(key)]
        header, begin = data[position : position + 8], position + 8
        size = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        position = begin + storage.size * storage.dtype.itemsize
        if size != storage.size or position > len(data):
            raise ValueError(f"storage {key} is cut short or of another size than announced")
        storage.values = np.frombuffer(data, storage.dtype, storage.size, begin).copy()
    return arrays(tree)


def _read_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members, names = archive.infolist(), archive.namelist()
        roots = [name.split("/")[0] for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(roots) != 1:
            raise ValueError("a zip file without a data.pkl came; wanted one written by torch.save")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a compressed zip file came; wanted one written by torch.save")
        # torch.save never compresses, so what the members declare is bounded by the file itself.
        if len(set(names)) < len(names) or sum(each.file_size for each in members) > len(data):
            raise ValueError("a zip file came whose members overlap; wanted one by torch.save")
        order = f"{roots[0]}/byteorder"
        if order in names and archive.read(order) != b"little":
            raise ValueError("a big-endian PyTorch file came; wanted a little-endian one")
        storages: dict[str, Storage] = {}

        def find(dtype: np.dtype, key: str, size: int, _: Any) -> Storage:
            if key not in storages:
                raw = archive.read(f"{roots[0]}/data/{key}")
                if len(raw) != size * dtype.itemsize:
                    raise ValueError(f"storage {key} has {len(raw)} bytes; wanted {size} × {dtype}")
                storages[key] = Storage(dtype, size)
                storages[key].values = np.frombuffer(raw, dtype).copy()
            return _same(storages[key], dtype, key, size)

        pickled = archive.read(f"{roots[0]}/data.pkl")
        return arrays(pickles.load(pickled, BUILDERS, refer_to(find)).value)


def _same(storage: Storage, dtype: np.dtype, key: str, size: int) -> Storage:
    if (storage.dtype, storage.size) != (dtype, size):
        raise ValueError(f"storage {key:.40} is described in two ways")
    return storage


def find_state_dict(tree: Any) -> dict[str, np.ndarray]:
    """Finds the mapping from parameter names to arrays in what a file holds.

    Args:
      tree: as from `read`: such a mapping, or a dictionary with one under ``state_dict``,
        ``model_state_dict``, ``model`` or ``target_model``.

    Returns:
      The mapping; a prefix ``module.`` that all names share is taken off, and names of Hugging
      Face's ResNets have become torchvision's.

    Raises:
      ValueError: there is no such mapping.

    Example:
      >>> sorted(find_state_dict({"state_dict": {"module.a": np.zeros(1), "module.b": np.ones(1)}}))
      ['a', 'b']
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
    return torchvision_names(arrays)
