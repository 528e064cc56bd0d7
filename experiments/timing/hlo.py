"""Reads a compiled program's text: which operations it has, and which of them stand alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

# Whatever moves values from device to device. One that runs beside other work has a start, which
# is counted, and an end.
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][\w-]*)\((.*)$")
ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


class Instruction(NamedTuple):
    """One operation of a program.

    Attributes:
      name: the operation, such as ``all-reduce``.
      result: type and shape of what it returns, such as ``f32[64]{0}``.
      rest: its operands and attributes.
      fused: whether it is part of a fusion. What is not writes its result to memory.
    """

    name: str
    result: str
    rest: str
    fused: bool


class Operations(NamedTuple):
    """What a program's text says of it.

    Attributes:
      collectives: numbers of the collectives by name.
      collective_bytes: size of what they return, on one device.
      products: numbers of the convolutions and products by the precision of their operands.
      loose_products: how many of them are outside of fusions.
      loose_pads: number of pads outside of fusions.
      loose_pad_bytes: size of what these return.
    """

    collectives: dict[str, int]
    collective_bytes: int
    products: dict[str, int]
    loose_products: int
    loose_pads: int
    loose_pad_bytes: int


def read(text: str) -> Operations:
    """Counts the operations of a program on one device.

    Args:
      text: the compiled program, as from ``as_text``.

    Returns:
      The counts.
    """
    found = list(instructions(text))
    collectives = [
        (operation.name.removesuffix("-start"), operation)
        for operation in found
        if operation.name.removesuffix("-start") in COLLECTIVES
    ]
    products = [operation for operation in found if operation.name in ("convolution", "dot")]
    pads = [operation for operation in found if operation.name == "pad" and not operation.fused]
    return Operations(
        dict(Counter(name for name, _ in collectives)),
        sum(size(operation.result) for _, operation in collectives),
        dict(Counter(map(precision, products))),
        sum(not operation.fused for operation in products),
        len(pads),
        sum(size(operation.result) for operation in pads),
    )


def instructions(text: str) -> Iterator[Instruction]:
    """All instructions of a program, in the order of its text."""
    fused = set(re.findall(r" fusion\(.*\bcalls=%?([\w.-]+)", text))
    inside = False
    for line in text.splitlines():
        if begin := COMPUTATION.match(line):
            inside = begin[1] in fused
        elif operation := INSTRUCTION.match(line):
            result, name, rest = operation.groups()
            yield Instruction(name, result, rest, inside)


def precision(product: Instruction) -> str:
    """The precision of a product's operands as XLA names it, such as ``highest``."""
    given = re.search(r"operand_precision=\{(\w+)", product.rest)
    return given[1] if given else "default"


def size(result: str) -> int:
    """Bytes of an array, or of a tuple of arrays, such as ``(f32[64]{0}, f32[])``."""
    return sum(
        BYTES.get(kind, 0) * math.prod(int(length) for length in shape.split(",") if length)
        for kind, shape in ARRAY.findall(result)
    )
