"""The members of HDF5 groups: names and addresses, in each of the three ways in which a group may keep them.

Symbol tables are what h5py writes by default (III.A.1 B-tree, III.B nodes, III.D names). Newer groups keep
link messages: up to eight in the object header, more of them in a heap under a tree (dense.py).
"""

from collections.abc import Iterator

from .dense import FractalHeap, name_records
from .messages import LINK, LINK_INFO, SYMBOL_TABLE, Message
from .source import UNDEFINED, Fields, Source

LONGEST_NAME = 1024  # bytes; HDF5 itself has no limit
_MAX_DEPTH = 16  # of a B-tree; 32 children a node would be 2**80 links


def members(source: Source, messages: list[Message], what: str) -> list[tuple[str, int]]:
    """Returns name and object header address of a group's members, as they were made or else by name."""
    links: list[tuple[int, bytes, int]] = []  # creation order or 0, name, address
    for kind, fields in messages:
        if kind == SYMBOL_TABLE:
            links += _symbol_table(source, fields.uint(8), fields.uint(8), what)
        elif kind == LINK_INFO:
            links += _dense_links(fields, what)
        elif kind == LINK:
            links.append(_link(fields, what))
    links.sort()
    names = [name.decode("utf-8", "replace") for _, name, _ in links]
    for name in names:
        if name in ("", ".") or "/" in name:
            raise source.damaged(f"{what} has a member named {name!r}")
    if len(set(names)) < len(names):
        raise source.damaged(f"{what} has two members of one name")
    return [(name, address) for name, (_, _, address) in zip(names, links, strict=True)]


def _symbol_table(source: Source, tree: int, heap: int, what: str) -> Iterator[tuple[int, bytes, int]]:
    """Yields the links below a version 1 B-tree, whose names stand in a local heap."""
    names = _local_heap(source, heap, what)
    stack: list[tuple[int, int | None]] = [(tree, None)]
    seen = set()
    while stack:
        address, expected = stack.pop()
        if address in seen:
            raise source.damaged(f"the B-tree of {what} reaches the node at byte {address} twice")
        seen.add(address)
        if expected == -1:
            yield from _symbols(source, address, names, what)
            continue
        node = source.fields(address, 24, f"a B-tree node of {what}", b"TREE")
        kind, level, used = node.uint(1), node.uint(1), node.uint(2)
        if kind != 0 or level > _MAX_DEPTH or expected not in (None, level):
            raise source.damaged(f"a B-tree node of {what} has type {kind} and level {level}")
        children = source.fields(address + 24, 16 * used, f"a B-tree node of {what}")
        source.taken.append((address, address + source.node_size))
        for _ in range(used):
            children.take(8)  # the key: a name that says where to search
            stack.append((children.uint(8), level - 1))


def _symbols(source: Source, address: int, names: bytes, what: str) -> Iterator[tuple[int, bytes, int]]:
    """Yields the links of one symbol table node."""
    head = source.fields(address, 8, f"a symbol table node of {what}", b"SNOD")
    head.version(1)
    head.take(1)
    count = head.uint(2)
    entries = source.fields(address + 8, 40 * count, f"a symbol table node of {what}")
    source.taken.append((address, address + source.symbols_size))
    for _ in range(count):
        start, header, cached = entries.uint(8), entries.uint(8), entries.uint(4)
        entries.take(20)
        end = names.find(b"\0", start, start + LONGEST_NAME + 1)
        if end < 0:
            raise source.damaged(f"a member of {what} has a name that does not end in {LONGEST_NAME} bytes")
        name = names[start:end]
        source.spend(128 + len(name))
        if cached == 2:
            raise _refuse_link(source, "a soft link", name, what)
        yield 0, name, header


def _local_heap(source: Source, address: int, what: str) -> bytes:
    """Returns the data segment of a local heap: names that each end with a NUL."""
    head = source.fields(address, 32, f"the names of {what}", b"HEAP")
    head.version(0)
    head.take(3)
    size = head.uint(8)
    head.take(8)  # free space
    return source.read(head.uint(8), size, f"the names of {what}")


def _link(fields: Fields, what: str) -> tuple[int, bytes, int]:
    """Returns creation order (0 if not kept), name and address of a link message (IV.A.2.g)."""
    source = fields.source
    fields.version(1)
    flags = fields.uint(1)
    kind = fields.uint(1) if flags & 8 else 0
    order = fields.uint(8) if flags & 4 else 0
    fields.take(flags >> 4 & 1)  # character set; UTF-8 includes the other one
    length = fields.uint(1 << (flags & 3))
    if length > LONGEST_NAME:
        raise source.damaged(f"a member of {what} has a name of {length} bytes, more than {LONGEST_NAME}")
    name = fields.take(length)
    source.spend(128 + length)
    if kind != 0:
        shown = {1: "a soft link", 64: "a link to another file"}.get(kind, "a link")
        raise _refuse_link(source, shown, name, what)
    return order, name, fields.uint(8)


def _refuse_link(source: Source, kind: str, name: bytes, what: str) -> Exception:
    shown = name.decode("utf-8", "replace")
    return source.refused(
        f"has {kind} named {shown!r} in {what}; links are not followed: save the file again with the tensors themselves"
    )


def _dense_links(fields: Fields, what: str) -> Iterator[tuple[int, bytes, int]]:
    """Yields the links outside the object header that a link info message (IV.A.2.c) tells of."""
    fields.version(0)
    if fields.uint(1) & 1:
        fields.take(8)  # the next creation order
    heap_address, tree_address = fields.uint(8), fields.uint(8)
    if heap_address == UNDEFINED:
        return
    heap = FractalHeap(fields.source, heap_address, what)
    for record in name_records(fields.source, tree_address, what):
        record.take(4)  # hash of the name
        yield _link(heap.object(record), what)
