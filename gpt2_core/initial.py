"""Initial weights from a seed, drawn here in numpy: the same seed gives bit-equal models in both frameworks."""

import zlib
from collections.abc import Iterator

import numpy as np

from .config import GPT2Config
from .errors import GPT2Error
from .plain import is_int, plain
from .weights import published_name, weight_specs

LATER = object()  # seed=LATER: the caller assigns every weight after construction, so none is drawn


def initial_weights(config: GPT2Config, head: str, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, float32 array) of every weight of a fresh model, one tensor in memory at a time.

    Each tensor has its own stream, keyed by seed and published name, so a trunk starts the same under every head
    and one tensor can be drawn alone.
    """
    seed = plain(seed)
    if not is_int(seed) or not 0 <= seed < 2**64:
        raise GPT2Error(f"seed={seed!r}: it must be a whole number from 0 to 2**64 - 1")
    for name, spec in weight_specs(config, head).items():
        if spec.std == 0:
            yield name, np.full(spec.shape, spec.mean, np.float32)
            continue
        key = np.array([seed, zlib.crc32(published_name(name).encode())], np.uint64)
        values = np.random.Generator(np.random.Philox(key=key)).standard_normal(spec.shape, np.float32)
        values *= np.float32(spec.std)
        yield name, values
