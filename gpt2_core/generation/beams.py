"""Beam search: several texts of a prompt at once, the best of which is returned.

The rules are those of transformers 5, which are its own (its `early_stopping=False` stops where the best text so far,
at its length so far, is worse than the worst that is done). Here each prompt is searched by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .bans import Text
from .decoder import Decoder
from .loop import Found, Given, Scorer, read
from .plan import Plan
from .stopping import Stopping

NEVER = -1e9  # the score of what is not to be chosen; sums with it stay finite


class Done(NamedTuple):
    """A text that ended, and its score: the sum of its logarithms, divided by length ** length_penalty."""

    score: float
    text: Text


class Candidate(NamedTuple):
    """One continuation of one beam."""

    score: float
    beam: int
    text: Text
    ended: bool


class Search:
    """The beams of one prompt."""

    def __init__(self, plan: Plan, text: Text):
        self.plan, settings = plan, plan.settings
        self.beams = [text] * settings.num_beams
        self.scores = [0.0] + [NEVER] * (settings.num_beams - 1)  # all are the same text, of which one is enough
        self.prompt = text.prompt
        self.done: list[Done] = []
        self.over = False

    def advance(self, candidates: Sequence[Candidate]) -> list[int]:
        """Goes on with the best of the candidates, the likeliest first; returns which beam each continues.

        One that is over goes on in vain, beside others whose scores are wanted.
        """
        if self.over:
            return list(range(self.plan.settings.num_beams))
        settings, count = self.plan.settings, self.plan.settings.num_beams
        for candidate in candidates[:count]:  # the others are there to go on with
            if candidate.ended:
                self.done.append(Done(self._score(candidate.score, len(candidate.text.new)), candidate.text))
        self.done = sorted(self.done, key=lambda done: -done.score)[:count]
        hopes = [c.score + (NEVER if c.ended else 0.0) for c in candidates]
        best = sorted(range(len(candidates)), key=lambda i: -hopes[i])[:count]
        self.beams, self.scores = [candidates[i].text for i in best], [hopes[i] for i in best]
        full = len(self.done) == count
        self.over = (
            all(candidate.ended for candidate in candidates)
            or (full and settings.early_stopping is True)
            or (full and self._best_possible() <= self.done[-1].score)
        )
        return [candidates[i].beam for i in best]

    def _score(self, score: float, length: int) -> float:
        return score / length**self.plan.settings.length_penalty

    def _best_possible(self) -> float:
        """The score that the best beam may still reach, as early_stopping reckons it."""
        settings, text = self.plan.settings, self.beams[0]
        hopes = settings.early_stopping == "never" and settings.length_penalty > 0
        return self._score(self.scores[0], self.plan.limits[text.prompt] if hopes else len(text.new))


def search(plan: Plan, decoder: Decoder, given: Given, found: Found) -> None:
    """Writes the best texts of each prompt into `found`, with their scores."""
    width = plan.settings.num_beams
    count = min(plan.candidates, width * plan.vocab_size)
    stopping, scorer = Stopping(plan, given.tokenizer), Scorer(plan, decoder, given)
    searches = live = [Search(plan, Text(row, len(row), i)) for i, row in enumerate(plan.prompts)]
    while True:
        scores = scorer([text for each in live for text in each.beams], normalise=True)
        if plan.settings.output_scores:
            found.scores.append(scores)
        drawn = None if plan.uniforms is None else plan.uniforms[found.steps][:, [each.prompt for each in live]]
        found.steps += 1
        values, indices = decoder.best(scores, np.array([each.scores for each in live]), count, drawn)
        late, rows = stopping.is_late(), []
        for place, each in enumerate(live):
            beams, tokens = (part.tolist() for part in np.divmod(indices[place], plan.vocab_size))
            texts = [each.beams[beam].with_token(token) for beam, token in zip(beams, tokens, strict=True)]
            ended = [late or stopping.ends(text) for text in texts] | scorer.stopped(texts, scores)
            origins = each.advance(list(map(Candidate, values[place].tolist(), beams, texts, ended.tolist())))
            rows += [place * width + beam for beam in origins]
        if all(each.over for each in live):
            break
        if not plan.settings.output_scores:
            rows = [row for row in rows if not live[row // width].over]
            live = [each for each in live if not each.over]
        decoder.choose(rows)
        texts = [text for each in live for text in each.beams]
        read(plan, decoder, texts, np.zeros(len(texts), bool), np.array([text.tokens[-1] for text in texts]))
    best = [done for each in searches for done in each.done[: plan.settings.num_return_sequences]]
    found.texts, found.text_scores = [done.text for done in best], [done.score for done in best]
