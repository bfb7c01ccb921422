"""GPT2Tokenizer: text to ids and back, in readable Python."""

from __future__ import annotations

import functools

import numpy as np

from . import byte_level
from .base import BaseTokenizer
from .vocabulary import Vocabulary

_WORDS_KEPT = 2**16  # pre-tokens whose tokens are remembered
_LONGEST_KEPT = 64  # bytes: what is longer hardly comes again


class WordTokens:
    """The tokens of pre-tokens, with a bounded memory."""

    def __init__(self, vocabulary: Vocabulary):
        self.ranks = {pair: rank for rank, pair in enumerate(vocabulary.merges)}
        self.in_order = vocabulary.is_in_order()
        self._kept = functools.lru_cache(_WORDS_KEPT)(self._merged)

    def __call__(self, word: bytes) -> list[str]:
        """Returns the tokens of a pre-token's bytes."""
        return self._kept(word) if len(word) <= _LONGEST_KEPT else self._merged(word)

    def _merged(self, word: bytes) -> list[str]:
        merge = byte_level.merge if self.in_order else byte_level.merge_by_sweeps
        return merge(byte_level.to_symbols(word), self.ranks)


class GPT2Tokenizer(BaseTokenizer):
    """Byte-level BPE in readable Python: the definition that GPT2TokenizerFast is held against.

    >>> tokenizer = GPT2Tokenizer.from_pretrained("gpt2")
    >>> tokenizer.encode("hello world")
    [31373, 995]
    >>> tokenizer.decode([31373, 995])
    'hello world'
    """

    @functools.cached_property
    def _words(self) -> WordTokens:
        return WordTokens(self.vocabulary)

    def _plain_tokens(self, text: str) -> list[str]:
        """Returns the tokens of a text without added tokens."""
        return [token for word in byte_level.pre_tokens(text, self.errors) for token in self._words(word)]

    def _plain_ids(self, text: str) -> np.ndarray:
        tokens = self._plain_tokens(text)
        ids = self.vocabulary.ids
        try:
            return np.array([ids[token] for token in tokens], np.int64)
        except KeyError:  # a vocabulary that lacks bytes
            return np.array([self._id(token) for token in tokens], np.int64)

    def _plain_sizes(self, text: str, ids: np.ndarray) -> np.ndarray:
        return np.array([len(token) for token in self._plain_tokens(text)], np.int64)
