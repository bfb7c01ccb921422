"""Reading a pickle without running it: containers and numbers are built, everything else stays a record of a call.

A pickle is a program. This executes its stack operations alone; a global is a name and calling it makes a `Call`, so
that no code is found, imported or run. The reader of a format then decides which calls mean something to it.
Source: the opcodes' documentation in Python's pickletools, which also splits the bytes into operations here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..errors import GPT2Error


class Readable(Protocol):
    """What is asked of a file."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes."""

    def readline(self) -> bytes:
        """Returns the bytes up to the end of a line."""


class Global(NamedTuple):
    """A class or function that the pickle names; it is not looked for."""

    module: str
    name: str

    def __str__(self):
        return f"{self.module}.{self.name}"


class Call:
    """An object that the pickle makes by calling `function` with `arguments`; `state` is what it sets afterwards."""

    def __init__(self, function: object, arguments: tuple):
        self.function, self.arguments = function, arguments
        self.state: object = None
        self.items: dict = {}  # what it puts into an object that is a dict


class Persistent(NamedTuple):
    """An object that lies outside of the pickle, under this key."""

    key: Any


def read_pickle(file: Readable, name: str, seen: list[Persistent] | None = None) -> object:
    """Returns what the pickle at the file's position describes and leaves the file behind it; `name` is for errors.

    Every reference to what lies outside of the pickle is added to `seen`.
    """
    machine = _Machine([] if seen is None else seen)
    try:
        for opcode, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]
            machine.step(opcode.name, argument)
        return machine.result()
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeError, RecursionError) as error:
        raise GPT2Error(
            f"{name} is truncated or damaged: its pickle cannot be read ({error}). "
            "Copy it again from where it came from"
        ) from None


_MOST_BITS = 1024  # of a whole number; the longest of torch's has 80, and printing long ones takes time
_MOST_COPIED = 1_000_000
_MOST_OPERATIONS = 1_000_000  # beside those that only read a value; XL with its optimizer needs some 100,000
_MARK = object()
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Those whose argument is the value
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, seen: list[Persistent]) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.seen = seen
        self.copied = 0  # parts of dicts
        self.operations = 0

    def step(self, name: str, argument: Any) -> None:
        """Executes one operation."""
        if name in _VALUES:
            if isinstance(argument, int) and argument.bit_length() > _MOST_BITS:
                raise ValueError(f"a number has {argument.bit_length()} bits")
            self.stack.append(argument)
            return
        self.operations += 1
        if self.operations > _MOST_OPERATIONS:
            raise ValueError(f"it has more than {_MOST_OPERATIONS} operations")
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(self._take(_TUPLES[name])))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name not in _IGNORED:
            operation: Callable | None = getattr(self, "_" + name.lower(), None)
            if operation is None:
                raise ValueError(f"operation {name} is not used by checkpoints")
            operation(argument)

    def result(self) -> object:
        (value,) = self.stack
        return value

    def _take(self, count: int) -> list:
        if count > len(self.stack):
            raise ValueError("its stack is empty")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _to_mark(self) -> list:
        found = len(self.stack) - 1
        while self.stack[found] is not _MARK:
            found -= 1
            if found < 0:
                raise ValueError("its stack has no mark")
        taken = self.stack[found + 1 :]
        del self.stack[found:]
        return taken

    def _mark(self, _) -> None:
        self.stack.append(_MARK)

    def _memoize(self, _) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _pop(self, _) -> None:
        self.stack.pop()

    def _pop_mark(self, _) -> None:
        self._to_mark()

    def _dup(self, _) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _) -> None:
        self.stack.append(tuple(self._to_mark()))

    def _list(self, _) -> None:
        self.stack.append(self._to_mark())

    def _dict(self, _) -> None:
        self.stack.append(_put({}, self._to_mark()))

    def _append(self, _) -> None:
        self._extend(self._take(1))

    def _appends(self, _) -> None:
        self._extend(self._to_mark())

    def _additems(self, _) -> None:
        items = self._to_mark()
        for item in items:
            _check_hashable(item)
        self.stack[-1].update(items)

    def _extend(self, items: list) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Call):  # a list's subclass, whose items nobody asks for
            raise ValueError(f"it appends to {type(self.stack[-1]).__name__}")

    def _setitem(self, _) -> None:
        self._set(self._take(2))

    def _setitems(self, _) -> None:
        self._set(self._to_mark())

    def _set(self, items: list) -> None:
        target = self.stack[-1].items if isinstance(self.stack[-1], Call) else self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError(f"it sets items of {type(target).__name__}")
        _put(target, items)

    def _global(self, argument: str) -> None:
        self.stack.append(Global(*argument.split(" ", 1)))

    def _stack_global(self, _) -> None:
        module, name = self._take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it names a global by what is no text")
        self.stack.append(Global(module, name))

    def _reduce(self, _) -> None:
        function, arguments = self._take(2)
        self.stack.append(self._called(function, arguments))

    def _newobj(self, _) -> None:
        self._reduce(_)

    def _newobj_ex(self, _) -> None:
        function, arguments, _ = self._take(3)
        self.stack.append(self._called(function, arguments))

    def _obj(self, _) -> None:
        function, *arguments = self._to_mark()
        self.stack.append(self._called(function, tuple(arguments)))

    def _inst(self, argument: str) -> None:
        self.stack.append(self._called(Global(*argument.split(" ", 1)), tuple(self._to_mark())))

    def _build(self, _) -> None:
        (state,) = self._take(1)
        if isinstance(self.stack[-1], Call):
            self.stack[-1].state = state

    def _called(self, function: object, arguments: object) -> object:
        """Returns the record of a call; of an OrderedDict a dict, which is what all else treats it as."""
        if not isinstance(arguments, tuple):
            raise ValueError(f"it calls with {type(arguments).__name__}")
        if type(function) is Global and function == ("collections", "OrderedDict"):
            (items,) = arguments or ([],)  # Python 2 gives them to the constructor
            parts = [part for item in items for part in item]
            self.copied += len(parts)
            if self.copied > _MOST_COPIED:
                raise ValueError("it makes dicts of one list again and again")
            return _put({}, parts)
        return Call(function, arguments)

    def _binpersid(self, _) -> None:
        self.stack.append(Persistent(*self._take(1)))
        self.seen.append(self.stack[-1])


def _put(target: dict, items: list) -> dict:
    """Returns a dict with items added, keys and values by turns; no key may come twice, as no dict is saved so."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        _check_hashable(key)
        if key in target:
            raise ValueError(f"a dict holds {key!r} twice")
        target[key] = value
    return target


def _check_hashable(key: object) -> None:
    """Refuses tuples of tuples as keys: each level can double the time that hashing takes."""
    if not isinstance(key, str | bytes | int | float | None) and type(key) is not Global:
        raise ValueError(f"a key is a {type(key).__name__}")
