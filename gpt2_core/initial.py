"""Initial weights from a seed, drawn here in numpy: the same seed gives bit-equal models in both frameworks."""

import dataclasses
import zlib
from collections.abc import Container, Iterator

import numpy as np

from .config import GPT2Config
from .plain import check_seed
from .weights import WeightSpec, published_name, weight_specs

LATER = object()  # seed=LATER: the caller assigns every weight after construction, so none is drawn


def initial_weights(
    config: GPT2Config, head: str, seed: int, names: Container[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, float32 array) of every weight of a fresh model, or of those named, one in memory at a time.

    Each tensor has its own stream, keyed by seed and published name, so a trunk starts the same under every head
    and one tensor can be drawn alone.
    """
    seed = check_seed(seed)
    for name, spec in weight_specs(config, head).items():
        if names is None or name in names:
            yield name, _draw(name, spec, seed)


def grown_rows(config: GPT2Config, rows: int, head: str, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, float32 array) of the rows that each table of words lacks for a vocabulary of `rows`.

    They are the rows that a fresh model of that size and seed has there; none where `rows` is smaller.
    """
    seed = check_seed(seed)
    grown = weight_specs(dataclasses.replace(config, vocab_size=rows), head)
    for name, spec in weight_specs(config, head).items():
        if grown[name].shape != spec.shape:
            yield name, _draw(name, grown[name], seed)[config.vocab_size :]


def _draw(name: str, spec: WeightSpec, seed: int) -> np.ndarray:
    if spec.std == 0:
        return np.full(spec.shape, spec.mean, np.float32)
    key = np.array([seed, zlib.crc32(published_name(name).encode())], np.uint64)
    values = np.random.Generator(np.random.Philox(key=key)).standard_normal(spec.shape, np.float32)
    values *= np.float32(spec.std)
    return values
