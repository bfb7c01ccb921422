"""The wire format of protocol buffers, as far as TensorFlow's checkpoints need it."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}


def varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns the number at a position and the position behind it; ValueError where none ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position] if position < len(data) else 128
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
    raise ValueError("a number does not end")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields (field number, value) of a message; ValueError where it is none."""
    position = 0
    while position < len(data):
        key, position = varint(data, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = varint(data, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, position = varint(data, position)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ValueError(f"a field has kind {kind}")
        part = data[position : position + size]
        if len(part) < size:
            raise ValueError("a field does not end")
        position += size
        yield key >> 3, part if kind == _BYTES else int.from_bytes(part, "little")
