"""Work done in a thread while what it made before is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields items, the next one being made, in a thread, while one is used.

    >>> list(ahead(n * n for n in range(4)))
    [0, 1, 4, 9]
    """
    from concurrent.futures import ThreadPoolExecutor  # brings logging along, which takes longer than the rest

    items = iter(items)
    over: T = object()  # type: ignore[assignment]
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, items, over)
        while (item := coming.result()) is not over:
            coming = maker.submit(next, items, over)
            yield item
