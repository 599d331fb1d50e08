"""A pickle machine that cannot execute anything.

Official weights are pickled module objects. Python's own unpickler, even with a guarded ``find_class``, still runs
constructors and ``__setstate__``, sets attributes, and lets a hostile memo index claim gigabytes. This machine knows
the opcodes that torch.save writes (pickle protocol 2) and a fixed list of names; it builds plain dicts, lists, tuples
and the inert records below, and refuses everything else. Time and memory are proportional to the length of the input.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leyolo.weights.checkpoint import WeightsError

MAX_BYTES = 8 << 20
"""Longest pickle read; the official ones have some 0.2 MB."""

_MARK = object()
_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}


@dataclass
class Stub:
    """Stands for an object of a known class: its name and the attributes it was given, never the class itself."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Global:
    """A name the pickle may mention. ``make`` builds the value of a call from its arguments; None: not callable."""

    name: str
    make: Callable[[tuple[Any, ...]], Any] | None = None


def stub(name: str) -> Global:
    """A class whose instances become a :class:`Stub`; constructor arguments are ignored."""
    return Global(name, lambda args: Stub(name))


def loads(data: bytes, known: Mapping[str, Global], persistent: Callable[[Any], Any]) -> Any:
    """The value pickled in ``data``.

    known       allowed globals by "module.name"
    persistent  maps a persistent id to its value
    Raises :class:`WeightsError` on anything else than a well-formed pickle of known names.
    """
    if len(data) > MAX_BYTES:
        raise WeightsError(f"the pickle has {len(data)} bytes, expected at most {MAX_BYTES}")
    machine = _Machine(data, known, persistent)
    try:
        return machine.run()
    except WeightsError:
        raise
    except (IndexError, KeyError, TypeError, ValueError, struct.error, RecursionError) as error:
        raise WeightsError(f"the pickle is broken near byte {machine.at}: {type(error).__name__}") from error


class _Machine:
    def __init__(self, data: bytes, known: Mapping[str, Global], persistent: Callable[[Any], Any]) -> None:
        self.data = data
        self.known = known
        self.persistent = persistent
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        steps, data = _STEPS, self.data
        while True:
            if self.at >= len(data):
                raise WeightsError(f"the pickle ends after {len(data)} bytes without its stop mark")
            opcode = data[self.at]
            self.at += 1
            if opcode == 0x2E:  # STOP
                return self.pop()
            step = steps.get(opcode)
            if step is None:
                what = _NAMES.get(opcode, f"0x{opcode:02x}")
                raise WeightsError(f"the pickle uses the opcode {what} at byte {self.at - 1}, which weights never need")
            step(self)

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise WeightsError(f"the pickle ends inside a value of {count} bytes at byte {self.at}")
        self.at += count
        return piece

    def number(self, form: str, count: int) -> Any:
        return struct.unpack(form, self.take(count))[0]

    def line(self) -> str:
        end = self.data.index(b"\n", self.at, self.at + 256)
        text = self.data[self.at : end].decode("ascii")
        self.at = end + 1
        return text

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise WeightsError(f"the pickle is broken near byte {self.at}: a mark where a value should be")
        return value

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        stack = self.stack
        start = len(stack) - 1
        while stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise WeightsError(f"the pickle is broken near byte {self.at}: a mark is missing")
        values = stack[start + 1 :]
        del stack[start:]
        return values

    def top(self, kind: type, what: str) -> Any:
        value = self.stack[-1]
        if type(value) is not kind:
            raise WeightsError(f"the pickle is broken near byte {self.at}: {what} on {_kind(value)}")
        return value

    def proto(self) -> None:
        version = self.take(1)[0]
        if version != 2:
            raise WeightsError(f"the pickle has protocol {version}, expected 2")

    def collect(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def unicode(self) -> None:
        self.push(self.take(self.number("<I", 4)).decode("utf-8"))

    def long1(self) -> None:
        self.push(int.from_bytes(self.take(self.take(1)[0]), "little", signed=True))

    def append(self) -> None:
        value = self.pop()
        self.top(list, "an append").append(value)

    def appends(self) -> None:
        values = self.since_mark()
        self.top(list, "an append").extend(values)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict, "setting an item")
        if len(items) % 2:
            raise WeightsError(f"the pickle is broken near byte {self.at}: a key without its value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Plain keys only: hashing a tuple nested a million deep would overrun the C stack.
            if type(key) not in (str, int):
                raise WeightsError(f"the pickle is broken near byte {self.at}: {_kind(key)} as a key")
            target[key] = value

    def set_item(self) -> None:
        value = self.pop()
        self.set_items([self.pop(), value])

    def named(self) -> None:
        module, name = self.line(), self.line()
        full = f"{module}.{name}"
        known = self.known.get(full)
        if known is None:
            raise WeightsError(f"the file names {full!r}, which weights never need; it was refused and nothing was run")
        self.push(known)

    def call(self, what: str) -> None:
        args, function = self.pop(), self.pop()
        if type(function) is not Global or function.make is None:
            name = function.name if type(function) is Global else _kind(function)
            raise WeightsError(f"the pickle is broken near byte {self.at}: {what} of {name!r}, which cannot be called")
        if type(args) is not tuple:
            raise WeightsError(f"the pickle is broken near byte {self.at}: {what} with {_kind(args)} as arguments")
        self.push(function.make(args))

    def build(self) -> None:
        state = self.pop()
        target = self.top(Stub, "setting a state")
        if type(state) is not dict:
            raise WeightsError(f"the pickle is broken near byte {self.at}: a state that is {_kind(state)}")
        target.state = state

    def put(self, index: int) -> None:
        value = self.stack[-1]
        if value is _MARK:
            raise WeightsError(f"the pickle is broken near byte {self.at}: a mark where a value should be")
        self.memo[index] = value

    def persistent_id(self) -> None:
        self.push(self.persistent(self.pop()))


def _kind(value: Any) -> str:
    """A type in words; the value itself may be huge or cyclic and is never printed."""
    if type(value) is Stub:
        return f"an object {value.kind}"
    return "a mark" if value is _MARK else f"a {type(value).__name__}"


_STEPS: dict[int, Callable[[_Machine], None]] = {
    ord(code): step
    for code, step in {
        "h": lambda m: m.push(m.memo[m.take(1)[0]]),  # BINGET
        "j": lambda m: m.push(m.memo[m.number("<I", 4)]),  # LONG_BINGET
        "q": lambda m: m.put(m.take(1)[0]),  # BINPUT
        "r": lambda m: m.put(m.number("<I", 4)),  # LONG_BINPUT
        "R": lambda m: m.call("a call"),  # REDUCE
        "\x81": lambda m: m.call("an instance"),  # NEWOBJ
        "b": _Machine.build,
        "c": _Machine.named,  # GLOBAL
        "Q": _Machine.persistent_id,  # BINPERSID
        "(": lambda m: m.push(_MARK),
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "G": lambda m: m.push(m.number(">d", 8)),  # BINFLOAT
        "K": lambda m: m.push(m.take(1)[0]),  # BININT1
        "M": lambda m: m.push(m.number("<H", 2)),  # BININT2
        "J": lambda m: m.push(m.number("<i", 4)),  # BININT
        "\x8a": _Machine.long1,
        "X": _Machine.unicode,  # BINUNICODE
        ")": lambda m: m.push(()),
        "]": lambda m: m.push([]),
        "}": lambda m: m.push({}),
        "t": lambda m: m.push(tuple(m.since_mark())),
        "\x85": lambda m: m.collect(1),
        "\x86": lambda m: m.collect(2),
        "\x87": lambda m: m.collect(3),
        "a": _Machine.append,
        "e": _Machine.appends,
        "s": _Machine.set_item,
        "u": lambda m: m.set_items(m.since_mark()),
        "\x80": _Machine.proto,
    }.items()
}
