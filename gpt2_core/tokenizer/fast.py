"""GPT2TokenizerFast: the same ids as GPT2Tokenizer's from a compiled engine, gigatoken."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np

from ..ahead import ahead
from . import byte_level, newer
from .engine import Encoded, Engine, engine_of
from .slow import GPT2Tokenizer

_FOR_ALL_CORES = 1 << 21  # characters in a batch from which on threads are worth starting
_PART = 1 << 20  # characters that the engine is given at once; meanwhile lists are made of the part before
_PART_OF_CORE = 1 << 22  # gigatoken 0.10 splits a batch from about this size on: one core for it, and one for lists


class GPT2TokenizerFast(GPT2Tokenizer):
    """As GPT2Tokenizer, and faster.

    Vocabularies that lack bytes or whose merges are in no order take its way, and so do texts with letters that are
    new in Unicode (newer.py).

    >>> GPT2TokenizerFast.from_pretrained("gpt2").encode("hello world")
    [31373, 995]
    """

    is_fast = True

    @functools.cached_property
    def _engine(self) -> Engine | None:
        """What turns texts into ids; None where only the definition is exact."""
        return engine_of(self.vocabulary)

    def _plain_ids(self, text: str) -> np.ndarray:
        if self._engine is None:
            return super()._plain_ids(text)
        if text.isascii():
            return self._engine.encode(text)
        clean = byte_level.cleaned(text, self.errors)
        try:
            return super()._plain_ids(text) if newer.in_text(clean) else self._engine.encode(clean)
        except TypeError:  # lone surrogates that stay, as bytes that are no UTF-8
            return super()._plain_ids(text)

    def _ids_of_all(self, texts: Sequence[str], split_special: bool) -> Iterator[np.ndarray]:
        small = _cores() == 1 or sum(map(len, texts)) < _FOR_ALL_CORES
        if small or self.add_prefix_space or self._engine is None:
            return super()._ids_of_all(texts, split_special)
        parts = list(_parts(texts))
        encoded = ahead(map(self._encoded, parts), 2)
        found = (self._ids_of_part(part, encoded, split_special) for part in parts)
        return itertools.chain.from_iterable(found)

    def _encoded(self, texts: Sequence[str]) -> Encoded | None:
        """Returns what the engine makes of texts, None where there are lone surrogates."""
        try:
            return self._engine.encode_all(texts)  # type: ignore[union-attr]
        except TypeError:
            return None

    def _ids_of_part(
        self, texts: Sequence[str], encoded: Iterator[Encoded | None], split_special: bool
    ) -> Iterator[np.ndarray]:
        """Yields the ids of each text. Which of them are not for the engine is found while it is at them."""
        holds = self._splitters[split_special].holds
        apart = [holds(text) or newer.in_text(text) for text in texts]
        found = next(encoded)
        if found is None:
            yield from super()._ids_of_all(texts, split_special)
            return
        ids, ends = found
        for text, otherwise, (start, end) in zip(texts, apart, itertools.pairwise(ends), strict=True):
            yield self._ids_of(text, split_special, False) if otherwise else ids[start:end]

    def _plain_sizes(self, text: str, ids: np.ndarray) -> np.ndarray:
        return super()._plain_sizes(text, ids) if self._engine is None else self._sizes[ids]

    @functools.cached_property
    def _sizes(self) -> np.ndarray:
        """The bytes of each of the vocabulary's tokens, by id."""
        sizes = np.zeros(max(self.vocabulary.ids.values()) + 1, np.int64)
        sizes[list(self.vocabulary.ids.values())] = [len(token) for token in self.vocabulary.ids]
        return sizes


def _cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields the texts in order, some megabytes at a time."""
    spare = min(_cores() - 1, 4)  # more than these make ids faster than lists of them can be made
    most = _PART if spare == 1 else spare * _PART_OF_CORE
    start = size = 0
    for number, text in enumerate(texts):
        size += len(text)
        if size >= most:
            yield texts[start : number + 1]
            start, size = number + 1, 0
    if start < len(texts):
        yield texts[start:]
