"""Text pieces as they are certain."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import GPT2Error
from .call import check_call, texts_of, written
from .decoder import Decoder
from .loop import Found, Given
from .plan import Plan


class Pieces:
    """Tokens to text, of which nothing is ever taken back: no broken characters, nothing of a stop string."""

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()):
        self._bytes, self._skipped = tokenizer.token_bytes, set(tokenizer.all_special_ids)
        self._decoder = codecs.getincrementaldecoder("utf-8")(tokenizer.errors)
        self._stops, self._held = tuple(stops), ""
        self.over = False  # a stop string was met

    def feed(self, token: int) -> str:
        """Returns the text that is certain once this token is known."""
        return "" if token in self._skipped else self._certain(self._decoder.decode(self._bytes(token)))

    def end(self) -> str:
        """Returns what was held back, now that nothing follows."""
        return self._certain(self._decoder.decode(b"", True)) + self._release(len(self._held))

    def _certain(self, new: str) -> str:
        if self.over:
            return ""
        self._held += new
        places = [place for place in (self._held.find(stop) for stop in self._stops) if place >= 0]
        if places:
            self.over = True
            self._held = self._held[: min(places)]
            return self._release(len(self._held))
        longest = max(map(len, self._stops), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return self._release(len(self._held) - size)
        return self._release(len(self._held))

    def _release(self, count: int) -> str:
        certain, self._held = self._held[:count], self._held[count:]
        return certain


def check_stream(plan: Plan, given: Given) -> None:
    """Raises GPT2Error unless a plan is of one text."""
    if plan.rows != 1:
        raise GPT2Error(f"stream writes one text, and {plan.rows} are asked for: generate writes several at once")
    check_call(plan, given, None, None, None)


def pieces(plan: Plan, decoder: Decoder, given: Given) -> Iterator[str]:
    """Yields the text that follows the one prompt of a plan, without what completes a stop string."""
    found, text = Found(texts_of(plan)), Pieces(given.tokenizer, plan.settings.stops)
    for tokens in written(plan, decoder, given, None, False, found):
        if piece := text.feed(int(tokens[0])):
            yield piece
    if piece := text.end():
        yield piece
