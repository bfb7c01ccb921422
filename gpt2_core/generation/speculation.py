"""Guessing several tokens and having the model check them at once: the tokens of greedy decoding in fewer steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .bans import Text
from .decoder import Decoder
from .loop import Found, Given, Scorer
from .plan import Plan
from .stopping import Stopping

Guesser = Callable[[Sequence[int], int], list[int]]  # (tokens so far, most guesses) -> guesses
_LONGEST = 3  # tokens at the end of a text that are looked for in it, or fewer


def looked_up(tokens: Sequence[int], count: int) -> list[int]:
    """Returns what followed the last tokens where they were last before.

    >>> looked_up([1, 2, 3, 4, 9, 1, 2, 3], 2)
    [4, 9]
    """
    ids = np.asarray(tokens)
    for size in range(min(_LONGEST, len(ids) - 1), 0, -1):
        windows = np.lib.stride_tricks.sliding_window_view(ids[:-1], size)
        found = np.flatnonzero((windows == ids[-size:]).all(axis=1))
        if len(found):
            start = int(found[-1]) + size
            return ids[start : start + count].tolist()
    return []


class Draft:
    """Guesses of a smaller model, greedy ones; it keeps a cache of its own."""

    def __init__(self, decoder: Decoder, room: int, prompt: int):
        self.decoder, self.room, self.prompt = decoder, room, prompt
        self.read: list[int] = []

    def __call__(self, tokens: Sequence[int], count: int) -> list[int]:
        """Returns the `count` tokens that are likeliest to follow."""
        self._catch_up(tokens)
        guesses: list[int] = []
        while len(guesses) < count:
            guesses.append(int(self.decoder.pick(self.decoder.scores(False), None)[0]))
            if len(guesses) < count:
                self._feed(guesses[-1:])
        return guesses

    def _catch_up(self, tokens: Sequence[int]) -> None:
        if not self.read:
            self.decoder.start([tokens], self.room, [self.prompt])
            self.read = list(tokens)
            return
        pairs = zip(self.read, tokens[:-1], strict=False)  # the last one is read again, for its scores
        same = next(
            (i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(self.read), len(tokens) - 1)
        )
        self.decoder.forget(len(self.read) - same)
        del self.read[same:]
        self._feed(tokens[same:])

    def _feed(self, tokens: Sequence[int]) -> None:
        self.decoder.feed(np.array([tokens]))
        self.read += tokens


def checked(plan: Plan, decoder: Decoder, given: Given, found: Found) -> Iterator[np.ndarray]:
    """Writes greedy texts into `found`, one after the other; yields each token where there is one text."""
    settings, drafter, stopping = plan.settings, given.drafter, Stopping(plan, given.tokenizer)
    count = settings.prompt_lookup_num_tokens or settings.num_assistant_tokens
    for text in found.texts:
        room = plan.limits[text.prompt] + count
        guess: Guesser = looked_up
        if drafter is not None:
            guess = Draft(drafter(), room, text.prompt)
        decoder.start([text.tokens], room, [text.prompt])
        for token in _checked(plan, decoder, given, found, text, guess, count, stopping):
            if len(found.texts) == 1:
                yield np.array([token])


def _checked(
    plan: Plan,
    decoder: Decoder,
    given: Given,
    found: Found,
    text: Text,
    guess: Guesser,
    count: int,
    stopping: Stopping,
) -> Iterator[int]:
    scorer = Scorer(plan, decoder, given)
    guesses: list[int] = []
    while True:
        found.steps += 1
        for place in range(-1 - len(guesses), 0):  # after what was known, then after each guess while they are right
            scores = scorer([text], place=place)
            if plan.settings.output_scores:
                found.scores.append(scores)
            token = int(decoder.pick(scores, None)[0])
            text.tokens.append(token)
            done = stopping.ends(text) or bool(scorer.stopped([text], scores)[0])
            yield token
            if done or stopping.is_late():
                return
            if place < -1 and guesses[place + 1] != token:
                decoder.forget(-1 - place)
                break
        left = min(plan.limits[text.prompt] - len(text.new), plan.n_positions - len(text.tokens))
        guesses = guess(text.tokens, min(count, left - 1)) if left > 1 else []
        decoder.feed(np.array([[text.tokens[-1], *guesses]]))
