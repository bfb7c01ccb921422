"""What the tokens so far do to the scores of the next one, whichever framework computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import GPT2Error
from ..plain import is_int, plain
from .plan import LogitsStep, Plan

Allowed = Callable[[int, Any], Iterable[int]]


class Text:
    """One row as it grows: the prompt's tokens and the new ones. prompt: the number of its prompt in the batch."""

    def __init__(self, tokens: Sequence[int], length: int, prompt: int):
        self.tokens, self.length, self.prompt = list(tokens), length, prompt

    @property
    def new(self) -> list[int]:
        """The tokens after the prompt."""
        return self.tokens[self.length :]

    def with_token(self, token: int) -> Text:
        """Returns a copy that is longer by a token."""
        return Text([*self.tokens, token], self.length, self.prompt)


def history_steps(
    plan: Plan,
    texts: Sequence[Text],
    allowed: Callable[[Text], Iterable[int]] | None,
    done: np.ndarray | None = None,
) -> list[LogitsStep]:
    """Returns the steps that follow from each row's own tokens, those without effect left out; of rows done, none."""
    settings, steps = plan.settings, []
    if settings.repetition_penalty not in (None, 1):
        factors = np.ones((len(texts), plan.vocab_size))
        for row, text in zip(factors, texts, strict=True):
            row[text.tokens] = settings.repetition_penalty
        steps.append(LogitsStep("repetition_penalty", factors))
    banned = np.zeros((len(texts), plan.vocab_size), bool)
    for i, (row, text) in enumerate(zip(banned, texts, strict=True)):
        if done is not None and done[i]:
            continue
        row[_banned(plan, text)] = True
        if allowed is not None:
            row[_not_allowed(plan, allowed(text))] = True
    dead = banned.all(axis=1)
    if plan.is_beams:  # those of a prompt stand together, and one of them is enough
        dead = dead.reshape(-1, settings.num_beams).all(axis=1)
    if dead.any():
        raise GPT2Error("the settings forbid every token: nothing can follow")
    if banned.any():
        steps.append(LogitsStep("ban", banned))
    return steps


def _banned(plan: Plan, text: Text) -> list[int]:
    """Returns the tokens that may not follow a text."""
    settings, tokens = plan.settings, text.tokens
    found = list(settings.suppress_tokens or ())
    if settings.min_new_tokens is None:
        too_short = len(tokens) < (settings.min_length or 0)
    else:
        too_short = len(text.new) < settings.min_new_tokens
    if too_short:
        found += [i for i in plan.end_tokens if 0 <= i < plan.vocab_size]
    if settings.no_repeat_ngram_size:
        found += repeating(tokens, settings.no_repeat_ngram_size)
    for word in settings.bad_words_ids or ():
        start = word[:-1]
        if not start and word[-1] in plan.end_tokens:
            continue  # as in transformers: min_new_tokens is what keeps a text from ending
        if len(start) <= len(tokens) and tokens[len(tokens) - len(start) :] == list(start):
            found.append(word[-1])
    return found


def repeating(tokens: Sequence[int], size: int) -> list[int]:
    """Returns the tokens that would make the last `size` a stretch that was there before.

    >>> repeating([1, 2, 3, 1, 2], 3)
    [3]
    """
    ids = np.asarray(tokens)
    if len(ids) < size:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(ids, size)
    same = (windows[:, : size - 1] == ids[len(ids) - size + 1 :]).all(axis=1)
    return windows[same, -1].tolist()


def _not_allowed(plan: Plan, allowed: Any) -> np.ndarray:
    ids = plain(allowed)
    if not isinstance(ids, list) or not ids or not all(is_int(i) and 0 <= i < plan.vocab_size for i in ids):
        raise GPT2Error(
            f"prefix_allowed_tokens_fn must return token ids, at least one, all below vocab_size={plan.vocab_size}"
        )
    return np.setdiff1d(np.arange(plan.vocab_size), ids)
