"""Damages files at random, where it hurts: mostly in what is not array data."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

HUGE = (0, 1, 2**8 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
# Of every opcode of pickles up to protocol 5.
OPCODES = b"(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu)}]BCG" + bytes(range(0x80, 0x99))
STRUCTURE_SHARE = 0.85  # of the damages


def structure(data: bytes, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The positions of the bytes that are no array's."""
    free = np.ones(len(data), bool)
    for array in arrays:
        raw = array.tobytes()
        if len(raw) > 8 and (start := data.find(raw)) >= 0:
            free[start : start + len(raw)] = False
    return np.flatnonzero(free)


def damage(rng: np.random.Generator, data: bytes, places: np.ndarray) -> bytes:
    """Does one to three random kinds of damage, mostly at the given places."""
    for _ in range(rng.integers(1, 4)):
        in_structure = len(places) and rng.random() < STRUCTURE_SHARE
        at = int(rng.choice(places)) if in_structure else int(rng.integers(len(data) + 1))
        data = KINDS[rng.integers(len(KINDS))](rng, data, min(at, max(len(data) - 1, 0)))
    return data


def rewrite(rng: np.random.Generator, data: bytes, arrays: Sequence[np.ndarray]) -> bytes:
    """Damages one member of a zip file, and writes it again with right checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        members = old.infolist()
        chosen = members[rng.integers(len(members))]
        if rng.random() < 0.5:  # the pickle of a .pth: most members are arrays
            chosen = next((m for m in members if m.filename.endswith("data.pkl")), chosen)
        for member in members:
            content = old.read(member)
            if member is chosen:
                content = damage(rng, content, structure(content, arrays))
            new.writestr(member.filename, content, member.compress_type)
    return file.getvalue()


def _flip(rng: np.random.Generator, data: bytes, at: int) -> bytes:
    return _put(data, at, bytes([data[at] ^ (1 << int(rng.integers(8)))])) if data else data


def _overwrite(rng: np.random.Generator, data: bytes, at: int) -> bytes:
    count = int(rng.integers(1, 65))
    return _put(data, at, rng.choice([rng.bytes(count), bytes(count), b"\xff" * count]))


def _truncate(rng: np.random.Generator, data: bytes, at: int) -> bytes:
    return data[:at]


def _insert(rng: np.random.Generator, data: bytes, at: int) -> bytes:
    return data[:at] + rng.bytes(int(rng.integers(1, 33))) + data[at:]


def _duplicate(rng: np.random.Generator, data: bytes, at: int) -> bytes:
    end = at + int(rng.integers(1, 513))
    return data[:end] + data[at:end] + data[end:]


def _remove(rng: np.random.Generator, data: bytes, at: int) -> bytes:
    return data[:at] + data[at + int(rng.integers(1, 513)) :]


def _huge(rng: np.random.Generator, data: bytes, at: int) -> bytes:
    width = int(rng.choice([1, 2, 4, 8]))
    value = HUGE[rng.integers(len(HUGE))] & (2 ** (8 * width) - 1)
    return _put(data, at, value.to_bytes(width, "little"))


def _opcode(rng: np.random.Generator, data: bytes, at: int) -> bytes:
    return _put(data, at, bytes([OPCODES[rng.integers(len(OPCODES))]]))


def _digits(rng: np.random.Generator, data: bytes, at: int) -> bytes:
    """Puts another number where one is written in digits, in JSON or an npy header."""
    if (match := re.compile(rb"\d+").search(data, at)) is None:
        return data
    length = match.end() - match.start()
    new: bytes = rng.choice([b"9" * length, b"0" * length, str(rng.choice(HUGE[:-1])).encode()])
    return data[: match.start()] + new + data[match.end() :]


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


KINDS = (_flip, _overwrite, _truncate, _insert, _duplicate, _remove, _huge, _opcode, _digits)


def same(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    """Whether two sets of arrays agree in names, types, shapes and every bit."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )
