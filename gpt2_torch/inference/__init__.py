"""The fast path: what `generate` runs on, and its weights as this machine multiplies them, or in 8 bits."""

from .decoder import Decoder

__all__ = ["Decoder"]
