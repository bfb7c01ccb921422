"""GPT2TokenizerFast: the same ids as GPT2Tokenizer's from a compiled engine, gigatoken."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import GPT2Error
from . import byte_level, files, newer
from .slow import GPT2Tokenizer
from .vocabulary import Vocabulary, published_vocabulary

_FOR_ALL_CORES = 1 << 23  # characters in a batch from which on threads are worth starting


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
        if self._engine is None or newer.in_text(text):
            return super()._plain_ids(text)
        try:
            return self._engine.encode(text)
        except TypeError:  # lone surrogates
            return self._ids_of_surrogates(text)

    def _ids_of_surrogates(self, text: str) -> np.ndarray:
        clean = byte_level.cleaned(text, self.errors)
        return super()._plain_ids(text) if clean == text else self._engine.encode(clean)

    def _plain_ids_of_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        if self._engine is not None and sum(map(len, texts)) > _FOR_ALL_CORES and not any(map(newer.in_text, texts)):
            try:
                rows = self._engine.encode_batch(texts).layout
            except TypeError:
                return super()._plain_ids_of_all(texts)
            ids, ends = np.asarray(rows.content.data), rows.offsets.data[1:].tolist()
            return np.split(ids, ends[:-1])
        return super()._plain_ids_of_all(texts)

    def _plain_sizes(self, text: str, ids: np.ndarray) -> np.ndarray:
        return super()._plain_sizes(text, ids) if self._engine is None else self._sizes[ids]

    @functools.cached_property
    def _sizes(self) -> np.ndarray:
        """The bytes of each of the vocabulary's tokens, by id."""
        sizes = np.zeros(max(self.vocabulary.ids.values()) + 1, np.int64)
        sizes[list(self.vocabulary.ids.values())] = [len(token) for token in self.vocabulary.ids]
        return sizes


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
