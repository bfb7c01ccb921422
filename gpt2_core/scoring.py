"""How likely a language model takes a text to be: texts of any length, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .errors import GPT2Error

_ROWS = 64  # of logits that are in memory as float64


def log_probabilities(
    logits_of: Callable[[Sequence[int]], np.ndarray], ids: Sequence[int], n_positions: int, stride: int | None = None
) -> Iterator[np.ndarray]:
    """Yields float64 (n,), window by window: together the logarithm of each token's probability but the first's.

    logits_of: gives the logits (T, V) of tokens (T,). stride: how many tokens a window begins after the one before:
    each token after the first window is seen after at least n_positions - stride others; None is half the context.
    """
    stride = max(1, n_positions // 2) if stride is None else stride
    if not 1 <= stride <= n_positions:
        raise GPT2Error(f"stride={stride}: it must be from 1 to the model's n_positions={n_positions}")
    scored = 1
    for start in range(0, len(ids) - 1, stride):
        if scored >= len(ids):
            return
        stop = min(start + n_positions, len(ids) - 1)  # of the tokens that are read; the next one is scored last
        logits = logits_of(ids[start:stop])[scored - 1 - start :]
        yield chosen(logits, np.asarray(ids[scored : stop + 1]))
        scored = stop + 1


def chosen(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns the logarithms (n,), float64, of the probabilities that logits (n, V) give to ids (n,)."""
    found = np.empty(len(ids))
    for first in range(0, len(ids), _ROWS):
        part = logits[first : first + _ROWS].astype(np.float64)
        part -= part.max(axis=1, keepdims=True)
        picked = part[np.arange(len(part)), ids[first : first + _ROWS]]
        found[first : first + _ROWS] = picked - np.log(np.exp(part).sum(axis=1))
    return found
