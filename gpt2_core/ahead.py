"""Work done in a thread while what it made before is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], count: int = 1) -> Iterator[T]:
    """Yields items; up to `count` more are made, in a thread, while one is used, and at once before the first.

    >>> list(ahead(n * n for n in range(4)))
    [0, 1, 4, 9]
    """
    from concurrent.futures import ThreadPoolExecutor  # brings logging along, which takes longer than the rest

    items = iter(items)
    over: T = object()  # type: ignore[assignment]
    maker = ThreadPoolExecutor(1)
    coming = deque(maker.submit(next, items, over) for _ in range(count))

    def made() -> Iterator[T]:
        with maker:
            while (item := coming.popleft().result()) is not over:
                coming.append(maker.submit(next, items, over))
                yield item

    return made()
