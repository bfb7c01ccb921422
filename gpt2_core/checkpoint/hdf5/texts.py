"""Text of variable length in an attribute, which h5py gives back as a str and not as bytes: a reference into a heap."""

import struct
from typing import NamedTuple

HEAP_SIZE = 4096  # bytes, which the HDF5 library reads at once
VARIABLE_TEXT = bytes.fromhex("1901010010000000100000000100000000000800")  # UTF-8, ended by a NUL


class HeapText(NamedTuple):
    """The value of an attribute: so many bytes, the first object of the heap at an address."""

    length: int
    address: int

    def reference(self) -> bytes:
        """Returns what stands in the attribute."""
        return struct.pack("<IQI", self.length, self.address, 1)


def text_heap(text: bytes) -> bytes:
    """Returns a global heap collection (III.E) whose object 1 is a short text."""
    stored = struct.pack("<HH4xQ", 1, 0, len(text)) + text + bytes(-len(text) % 8)
    free = HEAP_SIZE - 16 - len(stored)
    return b"GCOL" + struct.pack("<B3xQ", 1, HEAP_SIZE) + stored + struct.pack("<HH4xQ", 0, 0, free).ljust(free, b"\0")
