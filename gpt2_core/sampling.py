"""Uniform numbers by (seed, row, step): counter-based, so they are the same everywhere and in any order."""

from collections.abc import Sequence

import numpy as np

from .errors import GPT2Error
from .plain import check_seed, plain


def uniforms(seed: int | Sequence[int], rows: int, steps: int, sequences: int = 1) -> np.ndarray:
    """Returns float64 numbers in [0, 1) of shape (steps, rows * sequences), one per step and row.

    An int seed gives each row of a batch its own numbers. A list gives row r those that `seed[r]` gives the first
    row of any batch, so that a row's text does not depend on what else is in the batch. Where a row is to be
    continued several times, the first has the numbers that it has when it is the only one.
    """
    seed = plain(seed)
    if isinstance(seed, list):
        keys = [(row_seed, 0) for row_seed in seed]
        if len(keys) != rows:
            raise GPT2Error(f"seed lists {len(keys)} numbers for {rows} rows: give one number, or one per row")
    else:
        keys = [(seed, row) for row in range(rows)]
    return np.stack([_stream(*key, steps, n) for key in keys for n in range(sequences)], axis=1)


def _stream(seed: int, row: int, steps: int, sequence: int) -> np.ndarray:
    """Returns the numbers of one row: word t of Philox 4x64 with the key (seed, row) makes step t's.

    sequence: the counter's second word.
    """
    key, counter = np.array([check_seed(seed), row], np.uint64), np.array([0, sequence, 0, 0], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(steps)
    return (words >> np.uint64(11)) * 2.0**-53
