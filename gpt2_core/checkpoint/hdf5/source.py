"""Bounded reading of an HDF5 file: every parser of its structures takes its bytes through here.

An offset, length or count that the file claims is compared with the file before memory is taken for it, and
all metadata together may cost only so much: a damaged or hostile file ends in a GPT2Error and not in a hang.
Section numbers in the HDF5 modules are those of the HDF5 File Format Specification, version 3.0.
"""

import struct
from typing import Protocol

from ...errors import GPT2Error

UNDEFINED = 2**64 - 1  # the address of what was never written
COST_LIMIT = 64 << 20  # bytes; GPT-2 XL with 580 weights costs about one million


class Readable(Protocol):
    """What is asked of a file."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves, and returns the place."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes."""


class Source:
    """An open HDF5 file with the name that its errors carry, and the account of what reading it has cost."""

    def __init__(self, file: Readable, name: str) -> None:
        self.file = file
        self.name = name
        self.end = file.seek(0, 2)  # the superblock may lower it
        self.budget = min(COST_LIMIT, (1 << 20) + 32 * self.end)
        self.taken: list[tuple[int, int]] = []  # start and end of what is no values
        self.node_size, self.symbols_size = 0, 0  # of a group's B-tree nodes and of their leaves, used up or not

    def refused(self, problem: str) -> GPT2Error:
        """Returns the error for a file that may be sound but is not for us: `tf_model.h5 <problem>`."""
        return GPT2Error(f"{self.name} {problem}")

    def damaged(self, problem: str) -> GPT2Error:
        """Returns the error for a file that breaks the format."""
        return self.refused(f"is truncated or damaged: {problem}. Copy it again from where it came from")

    def spend(self, cost: int) -> None:
        """Counts `cost` bytes of memory, or work worth as much; GPT2Error once it is too much."""
        self.budget -= cost
        if self.budget < 0:
            raise self.refused("has more metadata than weights need: it is damaged or no weights file")

    def read(self, offset: int, size: int, what: str) -> bytes:
        """Returns the bytes [offset, offset + size), which must lie in the file."""
        if offset + size > self.end:
            raise self.damaged(f"{what} at bytes {offset} to {offset + size} ends beyond byte {self.end}")
        self.spend(64 + size)
        self.taken.append((offset, offset + size))
        self.file.seek(offset)
        data = self.file.read(size)
        if len(data) != size:
            raise self.damaged(f"{what} ends after {len(data)} of {size} bytes")
        return data

    def fields(self, offset: int, size: int, what: str, signature: bytes = b"") -> "Fields":
        """Returns a cursor over `size` bytes at `offset`, past the signature that they must start with."""
        fields = Fields(self, self.read(offset, size, what), what, offset)
        fields.expect(signature)
        return fields

    def checked_fields(self, offset: int, size: int, what: str, signature: bytes) -> "Fields":
        """Returns `fields` without the last four bytes, which must be the checksum of the others."""
        data = self.read(offset, size, what)
        self.check(data[:-4], int.from_bytes(data[-4:], "little"), f"{what} at byte {offset}")
        fields = Fields(self, data[:-4], what, offset)
        fields.expect(signature)
        return fields

    def check(self, data: bytes, expected: int, what: str) -> None:
        """GPT2Error unless the bytes have the expected checksum."""
        self.spend(3 * len(data))  # hashing in Python is slow: it counts more than reading
        if checksum(data) != expected:
            raise self.damaged(f"{what} does not match its checksum")


class Fields:
    """A cursor over the bytes of one structure, little endian; taking more than there is raises GPT2Error."""

    def __init__(self, source: Source, data: bytes, what: str, offset: int = 0) -> None:
        self.source = source
        self.data = data
        self.what = what
        self.offset = offset  # of data[0] in the file
        self.position = 0

    @property
    def left(self) -> int:
        """Returns how many bytes are not yet taken."""
        return len(self.data) - self.position

    def take(self, size: int) -> bytes:
        """Returns the next `size` bytes."""
        if size > self.left:
            raise self.source.damaged(f"{self.what} needs {size} bytes more and has {self.left}")
        self.position += size
        return self.data[self.position - size : self.position]

    def uint(self, size: int) -> int:
        """Returns the next `size` bytes as an unsigned integer."""
        return int.from_bytes(self.take(size), "little")

    def part(self, size: int) -> "Fields":
        """Returns a cursor over the next `size` bytes alone."""
        offset = self.offset + self.position
        return Fields(self.source, self.take(size), self.what, offset)

    def expect(self, signature: bytes) -> None:
        """Takes a signature; GPT2Error where something else stands."""
        found = self.take(len(signature))
        if found != signature:
            raise self.source.damaged(f"{self.what} at byte {self.offset} is {found!r}, not {signature!r}")

    def version(self, *known: int) -> int:
        """Returns the version byte, which must be a known one."""
        version = self.uint(1)
        if version not in known:
            allowed = ", ".join(map(str, known))
            raise self.source.refused(f"has {self.what} of version {version}; known here: {allowed}")
        return version


def checksum(data: bytes) -> int:
    """Returns Bob Jenkins' lookup3 hash (hashlittle from 0): the checksum of all newer HDF5 structures."""
    mask = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(data)) & mask
    if not data:
        return c
    words = struct.unpack(f"<{(len(data) + 11) // 12 * 3}I", data + bytes(-len(data) % 12))
    last = len(words) - 3
    for i in range(0, last, 3):
        a, b, c = (a + words[i]) & mask, (b + words[i + 1]) & mask, (c + words[i + 2]) & mask
        a = (a - c) & mask ^ _rotate(c, 4)
        c = (c + b) & mask
        b = (b - a) & mask ^ _rotate(a, 6)
        a = (a + c) & mask
        c = (c - b) & mask ^ _rotate(b, 8)
        b = (b + a) & mask
        a = (a - c) & mask ^ _rotate(c, 16)
        c = (c + b) & mask
        b = (b - a) & mask ^ _rotate(a, 19)
        a = (a + c) & mask
        c = (c - b) & mask ^ _rotate(b, 4)
        b = (b + a) & mask
    a, b, c = (a + words[last]) & mask, (b + words[last + 1]) & mask, (c + words[last + 2]) & mask
    c = (c ^ b) - _rotate(b, 14) & mask
    a = (a ^ c) - _rotate(c, 11) & mask
    b = (b ^ a) - _rotate(a, 25) & mask
    c = (c ^ b) - _rotate(b, 16) & mask
    a = (a ^ c) - _rotate(c, 4) & mask
    b = (b ^ a) - _rotate(a, 14) & mask
    return (c ^ b) - _rotate(b, 24) & mask


def _rotate(x: int, k: int) -> int:
    return (x << k | x >> (32 - k)) & 0xFFFFFFFF
