"""Reads npz files from untrusted sources."""

from __future__ import annotations

import math
import re
import struct
import zipfile
from pathlib import Path

import numpy as np

# All arrays of a file may take EXPANSION times the file's size, or ALWAYS bytes if that is more.
# Deflate can expand a thousand times; images stay far below ten.
EXPANSION, ALWAYS = 50, 128 * 2**20

# The compressions that are read, each with the number of bytes to unpack at once. zipfile does not
# limit the output of LZMA, up to 7,000 bytes from one. bzip2 could give a million: it is not read.
PIECES = {zipfile.ZIP_STORED: 2**20, zipfile.ZIP_DEFLATED: 2**20, zipfile.ZIP_LZMA: 2**12}
# The header of an array of numbers or texts, as NumPy writes it, and its greatest length.
HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[biufcSU]\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \(([\dL, ]*)\),? ?\} *\n?"
)
MAX_HEADER = 10_000


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file without unpickling anything.

    Every array is read completely, so that its checksum is compared. None takes more memory than
    the archive's members declare (see `EXPANSION`).

    Raises:
      ValueError: the file is not an npz file of plain arrays, or is damaged.
      OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
            check_members(archive.infolist(), path.stat().st_size)
            return {
                member.filename.removesuffix(".npy"): array_of(content(archive, member))
                for member in archive.infolist()
            }
    except (OSError, MemoryError):
        raise
    # A damaged archive can fail in any way. No code of it has run, so all failures mean the same.
    except Exception as error:
        reason = f"{error or type(error).__name__}"
        raise ValueError(f"{path} must be an npz file of plain arrays ({reason:.300})") from None


def check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    """Raises a ValueError unless an archive of so many bytes can hold what its members declare."""
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("got two arrays of the same name")
    for member in members:
        if member.compress_type not in PIECES:
            raise ValueError(f"got {member.filename:.40} compressed neither by deflate nor by LZMA")
        if member.compress_size > size or not 0 <= member.header_offset < size:
            raise ValueError(f"got {member.filename:.40} outside the file of {size} bytes")
    total, limit = sum(member.file_size for member in members), max(EXPANSION * size, ALWAYS)
    if total > limit:
        raise ValueError(
            f"arrays of a file of {size} bytes must take at most {limit}, got {total}; save them "
            "without compression: np.savez"
        )


def content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    """The bytes of an archive's member. There must be as many as it declares."""
    whole, read = bytearray(member.file_size), 0
    with archive.open(member) as stream:
        # In pieces, because zipfile reads as many bytes at once as it is asked for.
        while piece := stream.read(PIECES[member.compress_type]):
            whole[read : read + len(piece)] = piece
            read += len(piece)
    if read != member.file_size:
        raise ValueError(f"got {member.filename:.40} with {read} bytes, not {member.file_size}")
    return whole


def array_of(npy: bytearray) -> np.ndarray:
    """The array in an npy file, as a view of its bytes. It must fill the file."""
    version = {b"\x01": "<H", b"\x02": "<I", b"\x03": "<I"}.get(bytes(npy[6:7]))
    if npy[:6] != b"\x93NUMPY" or version is None or len(npy) < 12:
        raise ValueError("got a member that is not an array")
    (length,) = struct.unpack_from(version, npy, 8)
    begin = 8 + struct.calcsize(version) + length
    header = bytes(npy[begin - length : begin]) if length <= MAX_HEADER else b""
    if (match := HEADER.fullmatch(header)) is None:
        raise ValueError(f"got an array of neither numbers nor texts: {header[:80]!r}")
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(digits) for digits in re.findall(rb"\d+", match[3]))
    if not dtype.itemsize or math.prod(shape) * dtype.itemsize != len(npy) - begin:
        raise ValueError(f"got {len(npy) - begin} bytes for an array {header[:80]!r}")
    return np.ndarray(
        shape, dtype, buffer=npy, offset=begin, order="F" if match[2] == b"True" else "C"
    )
