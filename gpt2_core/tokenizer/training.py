"""Vocabularies learnt from texts, by the tokenizers library."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..errors import GPT2Error
from ..plain import is_int
from .byte_level import byte_symbols
from .tokens import END_OF_TEXT
from .vocabulary import Vocabulary

_LEAST = 257  # the bytes and <|endoftext|>


def train_vocabulary(
    texts: Iterable[str], vocab_size: int, *, min_frequency: int = 2, progress: bool = False
) -> Vocabulary:
    """Returns a byte-level BPE vocabulary learnt from texts, ids laid out as GPT-2's: bytes, merges, <|endoftext|>.

    It has fewer than vocab_size tokens where no further pair of tokens comes min_frequency times. The same texts give
    the same vocabulary.
    """
    if not is_int(vocab_size) or vocab_size < _LEAST:
        least = f"{_LEAST}, the bytes and {END_OF_TEXT}"
        raise GPT2Error(f"vocab_size={vocab_size!r}: it must be a whole number from {least}")
    try:
        from tokenizers import ByteLevelBPETokenizer
    except ImportError:
        raise GPT2Error('training a tokenizer needs tokenizers: pip install "gpt2-duo[train]"') from None
    learner = ByteLevelBPETokenizer()
    if vocab_size > _LEAST:
        learner.train_from_iterator(
            texts, vocab_size=vocab_size - 1, min_frequency=min_frequency, show_progress=progress
        )
    found = json.loads(learner.to_str())["model"]["merges"] if vocab_size > _LEAST else []
    merges = tuple(tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in found)
    tokens = [*sorted(byte_symbols()), *(first + second for first, second in merges), END_OF_TEXT]
    return Vocabulary({token: i for i, token in enumerate(tokens)}, merges)
