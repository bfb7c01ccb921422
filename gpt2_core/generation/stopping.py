"""When a row is done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ..errors import GPT2Error
from .bans import Text
from .plan import Plan


class Stopping:
    """The rules by which rows end: end tokens, lengths, stop strings, time."""

    def __init__(self, plan: Plan, tokenizer: Any):
        self._ends, self._limits = set(plan.end_tokens), plan.limits
        self._stops = [text.encode() for text in plan.settings.stops]
        self._bytes = tokenizer.token_bytes if self._stops else None
        seconds = plan.settings.max_time
        self._until = None if seconds is None else time.monotonic() + seconds

    def is_late(self) -> bool:
        """Returns whether the time is over."""
        return self._until is not None and time.monotonic() >= self._until

    def ends(self, text: Text) -> bool:
        """Returns whether a text's last token ends it."""
        return self.is_full(text) or text.tokens[-1] in self._ends or self._completes_a_stop(text)

    def is_full(self, text: Text) -> bool:
        """Returns whether a text has as many tokens as it may have."""
        return len(text.tokens) - text.length >= self._limits[text.prompt]

    def _completes_a_stop(self, text: Text) -> bool:
        """A stop string that ends within the last token has no more tokens than bytes; earlier ones were found."""
        new = text.new
        return any(stop in self._spelt(new[-len(stop) :]) for stop in self._stops)

    def _spelt(self, tokens: Sequence[int]) -> bytes:
        return b"".join([self._bytes(token) for token in tokens])  # type: ignore[misc]


def check_tokenizer(name: str, tokenizer: Any) -> None:
    """Raises GPT2Error unless a tokenizer is one of gpt2_core's, which tell a token's bytes."""
    if not hasattr(tokenizer, "token_bytes"):
        kind = type(tokenizer)
        got = "none was given" if tokenizer is None else f"got a {kind.__name__} of {kind.__module__.split('.')[0]}"
        raise GPT2Error(f"{name} needs tokenizer=, a GPT2Tokenizer or GPT2TokenizerFast of gpt2_core: {got}")
