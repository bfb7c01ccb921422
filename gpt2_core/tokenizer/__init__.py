"""Text to token ids and back."""

from .added_tokens import AddedToken
from .encoding import BatchEncoding
from .fast import GPT2TokenizerFast
from .slow import GPT2Tokenizer

__all__ = ["AddedToken", "BatchEncoding", "GPT2Tokenizer", "GPT2TokenizerFast"]
