"""The fast path: what `generate` runs on, and its steps as graphs."""

from .decoder import Decoder

__all__ = ["Decoder"]
