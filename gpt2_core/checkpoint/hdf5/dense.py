"""Where newer HDF5 keeps the links of a large group: a fractal heap, and a version 2 B-tree over it.

The heap is one range of bytes (`heap offsets`) that blocks of growing size cover (specification III.G); each
record of the tree (III.A.2) carries the id of one heap object: where in that range it starts and its length.
"""

from bisect import bisect_right
from collections.abc import Iterator

from .source import UNDEFINED, Fields, Source

_MAX_DEPTH = 16  # of a tree; with two children a node it could already hold 65,536 leaves
_BY_NAME = 5  # the tree of links by name, whose records are a hash of 4 bytes and a heap id of 7
_RECORD = 11


class FractalHeap:
    """The heap at `address`: `object` returns one of its objects."""

    def __init__(self, source: Source, address: int, what: str) -> None:
        self.source, self.address, self.what = source, address, f"the link heap of {what}"
        head = source.checked_fields(address, 146, self.what, b"FRHP")
        head.version(0)
        head.take(2)  # length of an id
        filters, flags, largest_object = head.uint(2), head.uint(1), head.uint(4)
        head.take(96)  # statistics, and trees of huge objects and of free space
        self.width, self.start_size, self.max_direct = head.uint(2), head.uint(8), head.uint(8)
        bits = head.uint(2)
        head.take(2)  # rows of the root block when it was made
        root, rows = head.uint(8), head.uint(2)
        if filters:
            raise source.refused(f"has compressed metadata in {self.what}, which is not read here")
        sizes = (self.width, self.start_size, self.max_direct)
        if any(size < 1 or size & (size - 1) for size in sizes) or bits > 64 or rows > 64:
            raise source.damaged(f"{self.what} claims {rows} rows of {self.width} blocks")
        self.checked = flags & 2
        self.offset_bytes = (bits + 7) // 8
        self.length_bytes = (min(self.max_direct, largest_object).bit_length() + 7) // 8
        self.blocks = sorted(self._blocks(root, rows), key=lambda block: block[0])
        self.starts = [start for start, _ in self.blocks]

    def object(self, heap_id: Fields) -> Fields:
        """Returns a cursor over the object that an id names (III.G, managed objects)."""
        if heap_id.uint(1):
            raise self.source.refused(f"has a huge or tiny object in {self.what}, which is not read here")
        offset, length = heap_id.uint(self.offset_bytes), heap_id.uint(self.length_bytes)
        i = bisect_right(self.starts, offset) - 1
        if i < 0:
            raise self.source.damaged(f"{self.what} has no block for heap offset {offset}")
        start, block = self.blocks[i]
        found = Fields(self.source, block.data, self.what, block.offset)
        found.position = offset - start  # not by take(), which would copy what is passed over for each object
        return found.part(length)

    def _blocks(self, root: int, rows: int) -> Iterator[tuple[int, Fields]]:
        """Yields heap offset and content of every direct block; `rows` is 0 when the root is itself one."""
        stack = [(root, rows, 0, self.start_size)]
        seen = set()
        while stack:
            address, rows, start, size = stack.pop()
            if address == UNDEFINED:  # nothing was stored in this range
                continue
            if address in seen:
                raise self.source.damaged(f"{self.what} reaches the block at byte {address} twice")
            seen.add(address)
            if rows:
                stack += self._children(address, rows, start)
            else:
                yield start, self._direct_block(address, size, start)

    def _children(self, address: int, rows: int, start: int) -> Iterator[tuple[int, int, int, int]]:
        """Yields address, rows, heap offset and size of the blocks below an indirect block."""
        size = 17 + self.offset_bytes + 8 * rows * self.width
        entries = self.source.checked_fields(address, size, self.what, b"FHIB")
        self._check_owner(entries, start)
        for row in range(rows):
            size = self.start_size << max(row - 1, 0)  # the first two rows have blocks of the starting size
            # an indirect block covers its size with rows that begin at the starting size again
            below = 0 if size <= self.max_direct else (size // (self.start_size * self.width)).bit_length()
            for _ in range(self.width):
                self.source.spend(64)
                yield entries.uint(8), below, start, size
                start += size

    def _direct_block(self, address: int, size: int, start: int) -> Fields:
        """Returns the whole block, its own header included: heap offsets count it."""
        data = self.source.read(address, size, self.what)
        block = Fields(self.source, data, self.what, address)
        block.expect(b"FHDB")
        self._check_owner(block, start)
        if self.checked:
            stored, end = block.uint(4), block.position
            without = data[: end - 4] + bytes(4) + data[end:]  # the checksum is taken with itself as zero
            self.source.check(without, stored, f"{self.what} at byte {address}")
        return block

    def _check_owner(self, block: Fields, start: int) -> None:
        """GPT2Error unless a block says that it belongs to this heap, at heap offset `start`."""
        block.version(0)
        owner, offset = block.uint(8), block.uint(self.offset_bytes)
        if (owner, offset) != (self.address, start):
            raise self.source.damaged(f"{self.what} has a block that belongs to another place")


def name_records(source: Source, address: int, what: str) -> Iterator[Fields]:
    """Yields the records of the B-tree at `address`, one of links by name, in no particular order."""
    what = f"the link tree of {what}"
    head = source.checked_fields(address, 38, what, b"BTHD")
    head.version(0)
    kind, node_size, record, depth = head.uint(1), head.uint(4), head.uint(2), head.uint(2)
    head.take(2)  # when to split and to merge
    if kind != _BY_NAME or record != _RECORD or depth > _MAX_DEPTH:
        raise source.damaged(f"{what} has type {kind}, records of {record} bytes and depth {depth}")
    count_bytes, total_bytes = _pointer_widths(node_size, depth)
    stack = [(head.uint(8), head.uint(2), depth)]
    seen = set()
    while stack:
        node, count, level = stack.pop()
        if not count:
            continue
        if node in seen:
            raise source.damaged(f"{what} reaches the node at byte {node} twice")
        seen.add(node)
        pointer = 8 + count_bytes + (total_bytes[level - 1] if level > 1 else 0)
        size = 6 + count * _RECORD + ((count + 1) * pointer if level else 0) + 4
        fields = source.checked_fields(node, size, what, b"BTIN" if level else b"BTLF")
        fields.version(0)
        fields.take(1)
        for _ in range(count):
            source.spend(64)
            yield fields.part(_RECORD)
        for _ in range(count + 1 if level else 0):
            child = fields.part(pointer)
            stack.append((child.uint(8), child.uint(count_bytes), level - 1))


def _pointer_widths(node_size: int, depth: int) -> tuple[int, list[int]]:
    """Returns how many bytes hold a node's record count, and by level the count of all records below it."""
    most = (node_size - 10) // _RECORD  # 10: signature, version, type, checksum
    count_bytes = _width(most)
    totals, below = [0], most  # a leaf's count needs no total beside it
    for _ in range(depth):
        pointer = 8 + count_bytes + totals[-1]
        most = (node_size - 10 - pointer) // (_RECORD + pointer)
        below = (most + 1) * below + most
        totals.append(_width(below))
    return count_bytes, totals


def _width(number: int) -> int:
    """Returns how many bytes hold the number."""
    return (max(number, 1).bit_length() + 7) // 8
