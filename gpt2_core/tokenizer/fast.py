"""GPT2TokenizerFast: the same ids as GPT2Tokenizer's from a compiled engine, gigatoken."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..ahead import ahead
from ..errors import GPT2Error
from . import byte_level, files, newer
from .slow import GPT2Tokenizer
from .vocabulary import Vocabulary, published_vocabulary

_FOR_ALL_CORES = 1 << 21  # characters in a batch from which on threads are worth starting
_PART = 1 << 20  # characters given to them at once; meanwhile lists are made of the part before


class GPT2TokenizerFast(GPT2Tokenizer):
    """As GPT2Tokenizer, and faster.

    Vocabularies that lack bytes or whose merges are in no order take its way, and so do texts with letters that are
    new in Unicode (newer.py).

    >>> GPT2TokenizerFast.from_pretrained("gpt2").encode("hello world")
    [31373, 995]
    """

    is_fast = True

    @functools.cached_property
    def _engine(self) -> Any:
        """What turns texts into ids; None where only the definition is exact."""
        if self.vocabulary is published_vocabulary():
            return _published_engine()
        return engine(self.vocabulary) if self.vocabulary.is_whole() and self.vocabulary.is_in_order() else None

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

    def _plain_ids_of_all(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        if self._engine is None or _cores() == 1 or sum(map(len, texts)) < _FOR_ALL_CORES:
            return super()._plain_ids_of_all(texts)
        return itertools.chain.from_iterable(ahead(map(self._ids_of_part, _parts(texts))))

    def _ids_of_part(self, texts: Sequence[str]) -> Iterable[np.ndarray]:
        """Returns the ids of each text, by all cores; in Python's own thread where the engine cannot take one."""
        if any(map(newer.in_text, texts)):
            return list(super()._plain_ids_of_all(texts))
        try:
            rows = self._engine.encode_batch(texts).layout
        except TypeError:  # lone surrogates
            return list(super()._plain_ids_of_all(texts))
        ids, ends = np.asarray(rows.content.data), rows.offsets.data.tolist()
        return (ids[start:end] for start, end in itertools.pairwise(ends))

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
    start = size = 0
    for number, text in enumerate(texts):
        size += len(text)
        if size >= _PART:
            yield texts[start : number + 1]
            start, size = number + 1, 0
    if start < len(texts):
        yield texts[start:]


def engine(vocabulary: Vocabulary) -> Any:
    """Returns gigatoken's tokenizer of a vocabulary, without added tokens."""
    try:
        import gigatoken
    except ImportError:
        raise GPT2Error(
            'GPT2TokenizerFast needs gigatoken: pip install "gpt2-duo[fast]"; GPT2Tokenizer gives the same ids without'
        ) from None
    return gigatoken.Tokenizer.from_json(files.tokenizer_json(vocabulary, {}, False, None))


@functools.cache
def _published_engine() -> Any:
    return engine(published_vocabulary())
