"""Text to token ids and back."""

from .slow import GPT2Tokenizer

__all__ = ["GPT2Tokenizer"]
