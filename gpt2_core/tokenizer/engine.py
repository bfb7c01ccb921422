"""gigatoken, the compiled engine of GPT2TokenizerFast."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import GPT2Error
from . import files
from .vocabulary import Vocabulary, published_vocabulary

Encoded = tuple[np.ndarray, list[int]]  # the ids of all texts, one after the other; where each begins, and the end


class Engine:
    """A vocabulary's engine, without added tokens. Threads take turns: gigatoken refuses a second one.

    Both methods raise TypeError where a text has a lone surrogate.
    """

    def __init__(self, vocabulary: Vocabulary):
        try:
            import gigatoken
        except ImportError:
            raise GPT2Error(
                'GPT2TokenizerFast needs gigatoken: pip install "gpt2-duo[fast]"; '
                "GPT2Tokenizer gives the same ids without"
            ) from None
        self._tokenizer: Any = gigatoken.Tokenizer.from_json(files.tokenizer_json(vocabulary, {}, False, None))
        self._turn = threading.Lock()

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text, (n,)."""
        with self._turn:
            return self._tokenizer.encode(text)

    def encode_all(self, texts: Sequence[str]) -> Encoded:
        """Returns the ids of texts, by as many cores as gigatoken takes."""
        with self._turn:
            rows = self._tokenizer.encode_batch(texts).layout
        return np.asarray(rows.content.data), rows.offsets.data.tolist()


def engine_of(vocabulary: Vocabulary) -> Engine | None:
    """Returns a vocabulary's engine, None where only the definition is exact; that of GPT-2's own is made once."""
    if vocabulary is published_vocabulary():
        return published_engine()
    return Engine(vocabulary) if vocabulary.is_whole() and vocabulary.is_in_order() else None


@functools.cache
def published_engine() -> Engine:
    """Returns the engine of GPT-2's own vocabulary."""
    return Engine(published_vocabulary())
