"""Reads pickles of plain data, without importing, calling or changing anything.

Python's own unpickler does not do even where every name is refused: a file of some bytes can make
it take gigabytes for its memo, hash a key of exponential size, or put other attributes into what
it has built and checked. Here a pickle is a list of steps that build numbers, strings, lists,
tuples and dictionaries; all else is refused, and memory and time grow with the number of steps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

# Of one pickle; a tensor takes some 35, so that 14,000 of them may be in a file. Some 100 bytes are
# taken a step, beside the strings of the file.
MAX_STEPS = 500_000

ORDERED = ("collections", "OrderedDict")


class Name(NamedTuple):
    """A global that a pickle names; it is not looked up."""

    module: str
    name: str


class Loaded(NamedTuple):
    """What a pickle holds, and where in the data it ends."""

    value: Any
    end: int


Builders = Mapping[tuple[str, str], Callable[..., Any] | None]


def load(
    data: bytes,
    builders: Builders,
    refer: Callable[[Any], Any] | None = None,
    start: int = 0,
    max_steps: int = MAX_STEPS,
) -> Loaded:
    """Reads one pickle, of protocol 2 or later.

    Args:
      data: what holds it.
      builders: the names that it may hold besides ``OrderedDict``, and of those that it may call
        what is called instead.
      refer: gives the object that a persistent id stands for; if None, ids are refused.
      start: where in ``data`` it begins.
      max_steps: how many steps it may have.

    Returns:
      What it holds, an ``OrderedDict`` as a dictionary, and where it ends.

    Raises:
      ValueError: it is damaged, holds anything else, or has too many steps.

    Example:
      >>> import pickle
      >>> load(pickle.dumps({"a": [1, 2.5]}, 2), {}).value
      {'a': [1, 2.5]}
    """
    machine = _Machine(data, builders, refer, start, max_steps)
    while (step := machine.take(1)[0]) != ord("."):
        machine.charge(1)
        if step not in _STEPS:
            raise ValueError(f"a pickle must be plain data (got the step {bytes([step])!r})")
        _STEPS[step](machine)
    return Loaded(machine.pop(), machine.position)


class _Machine:
    """The stack and the memo that a pickle's steps work on."""

    def __init__(
        self,
        data: bytes,
        builders: Builders,
        refer: Callable[[Any], Any] | None,
        position: int,
        steps: int,
    ) -> None:
        self.data, self.builders, self.refer, self.position = data, builders, refer, position
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each open mark
        self.memo: dict[int, Any] = {}
        self.steps = steps  # that are left

    def charge(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise ValueError("a pickle must not have that many steps")

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise ValueError(f"the pickle ends before {count} bytes that it announces")
        self.position, start = end, self.position
        return self.data[start:end]

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.take(form.size))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 256)
        if end < 0:
            raise ValueError("the pickle ends before a line of it does")
        return self.take(end + 1 - self.position)[:-1].decode()

    def pop(self) -> Any:
        self.top()
        return self.stack.pop()

    def top(self, kind: type = object) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"a step of the pickle has no {kind.__name__} to work on")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.marked:
            raise ValueError("a step of the pickle has no mark to go back to")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def tuple_of_marked(self) -> None:
        items = self.pop_mark()
        self.stack.append(tuple(items))

    def tuple_of(self, count: int) -> tuple:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def remembered(self, index: int) -> Any:
        if index not in self.memo:
            raise ValueError(f"the pickle refers to its object {index}, which it has not")
        return self.memo[index]

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def attributes(self) -> None:
        """Of an OrderedDict, such as a state dict's _metadata; they are not kept."""
        self.pop()
        self.top(dict)

    def referred(self) -> Any:
        if self.refer is None:
            raise ValueError("the pickle must not refer to an object outside of it")
        return self.refer(self.pop())

    def set_items(self, items: Sequence[Any]) -> None:
        into = self.top(dict)
        if len(items) % 2:
            raise ValueError("a dictionary's key has no value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Others can take any time to hash, or all have one hash.
            if not isinstance(key, str | bytes | int | float | None):
                raise ValueError(f"a key must be a string or a number (got {type(key).__name__})")
            if type(key) is int and not -(2**63) <= key < 2**63:
                raise ValueError("a key must be an integer of at most 64 bits (got a longer one)")
            into[key] = value

    def name(self, module: Any, name: Any) -> Name:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("the pickle names something by no string")
        if (module, name) != ORDERED and (module, name) not in self.builders:
            raise ValueError(
                f"the file must hold tensors and plain containers alone (got {module:.80}."
                f"{name:.80}); save the weights by themselves, by torch.save(network.state_dict(), "
                "path)"
            )
        return Name(module, name)

    def call(self) -> Any:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Name or type(arguments) is not tuple or len(arguments) > 16:
            raise ValueError("the pickle calls something else than a name with arguments")
        if function == ORDERED:
            return self.ordered(*arguments)
        builder = self.builders[function]
        if builder is None:
            raise ValueError(f"the pickle calls {function.module}.{function.name}")
        return builder(*arguments)

    def ordered(self, pairs: Any = ()) -> dict:
        """An OrderedDict, of pairs at once if Python 2 wrote it."""
        if type(pairs) not in (list, tuple):
            raise ValueError(f"an OrderedDict must be of a list (got {type(pairs).__name__})")
        self.charge(len(pairs))
        if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
            raise ValueError("an OrderedDict must be of pairs (got something else)")
        self.stack.append({})
        self.set_items([item for pair in pairs for item in pair])
        return self.stack.pop()


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(make(machine))


def _number(form: str) -> Callable[[_Machine], Any]:
    compiled = struct.Struct(form)
    return lambda machine: machine.number(compiled)


_BYTE, _SHORT, _INT, _LONG = map(_number, ("<B", "<H", "<I", "<Q"))

_STEPS: dict[int, Callable[[_Machine], Any]] = {
    ord("N"): _push(lambda machine: None),
    0x88: _push(lambda machine: True),
    0x89: _push(lambda machine: False),
    ord("K"): _push(_BYTE),
    ord("M"): _push(_SHORT),
    ord("J"): _push(_number("<i")),
    ord("G"): _push(_number(">d")),
    0x8A: _push(lambda m: int.from_bytes(m.take(_BYTE(m)), "little", signed=True)),
    ord("I"): _push(lambda m: int(m.line())),  # Python 2's integers of more than 32 bits
    ord("X"): _push(lambda m: m.take(_INT(m)).decode()),
    0x8C: _push(lambda m: m.take(_BYTE(m)).decode()),
    0x8D: _push(lambda m: m.take(_LONG(m)).decode()),
    ord("U"): _push(lambda m: m.take(_BYTE(m)).decode()),  # Python 2's strings
    ord("T"): _push(lambda m: m.take(_INT(m)).decode()),
    ord("C"): _push(lambda m: m.take(_BYTE(m))),
    ord("B"): _push(lambda m: m.take(_INT(m))),
    0x8E: _push(lambda m: m.take(_LONG(m))),
    ord("]"): _push(lambda machine: []),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.pop_mark()),
    ord("}"): _push(lambda machine: {}),
    ord("s"): lambda m: m.set_items(m.tuple_of(2)),
    ord("u"): lambda m: m.set_items(m.pop_mark()),
    ord("b"): _Machine.attributes,
    ord(")"): _push(lambda machine: ()),
    0x85: _push(lambda m: m.tuple_of(1)),
    0x86: _push(lambda m: m.tuple_of(2)),
    0x87: _push(lambda m: m.tuple_of(3)),
    ord("("): _Machine.mark,
    ord("t"): _Machine.tuple_of_marked,
    ord("q"): lambda m: m.remember(_BYTE(m)),
    ord("r"): lambda m: m.remember(_INT(m)),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("h"): _push(lambda m: m.remembered(_BYTE(m))),
    ord("j"): _push(lambda m: m.remembered(_INT(m))),
    ord("c"): _push(lambda m: m.name(m.line(), m.line())),
    0x93: _push(lambda m: m.name(*m.tuple_of(2))),
    ord("R"): _push(_Machine.call),
    ord("Q"): _push(_Machine.referred),
    0x80: lambda m: m.take(1),  # the protocol
    0x95: lambda m: m.take(8),  # a frame's length
}
