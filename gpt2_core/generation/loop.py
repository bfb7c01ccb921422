"""One token after the other: greedy and sampled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import GPT2Error
from ..plain import plain
from .bans import Text, history_steps
from .decoder import Decoder
from .plan import Plan
from .prompts import aligned
from .stopping import Stopping


@dataclasses.dataclass(frozen=True)
class Given:
    """What a call was given beside its plan: functions of the user's, on tensors of the framework."""

    tokenizer: Any = None  # of stop_strings
    processors: Sequence[Callable[[Any, Any], Any]] = ()  # (ids (B, T), scores (B, V)) -> scores
    criteria: Sequence[Callable[[Any, Any], Any]] = ()  # (ids (B, T), scores (B, V)) -> True, or (B,) of them
    allowed: Callable[[int, Any], Iterable[int]] | None = None  # (number of the prompt, ids (T,)) -> the next ids
    drafter: Callable[[], Decoder] | None = None  # makes the decoder of a smaller model, which guesses

    def __bool__(self) -> bool:
        return bool(self.processors or self.criteria or self.allowed)


@dataclasses.dataclass
class Found:
    """What generate found. Rows are in the order of the prompts, those of one prompt after one another."""

    texts: list[Text]
    scores: list[Any] = dataclasses.field(default_factory=list)  # of each step, (rows, V)
    text_scores: list[float] | None = None  # of beams
    steps: int = 0  # tokens that were asked of the model, one after the other


def window(length: int, n_positions: int) -> int:
    """Returns how many of a row's first tokens the model no longer sees, of so many.

    The rest starts where a multiple of half the context is: a cache serves until it is full, then half of it is read
    again. What a token follows from depends on its place alone.

    >>> [window(n, 8) for n in (8, 9, 12, 13)]
    [0, 4, 4, 8]
    """
    half = max(1, n_positions // 2)
    return 0 if length <= n_positions else -(-(length - n_positions) // half) * half


class Scorer:
    """The scores of what follows each text, after all that changes them."""

    def __init__(self, plan: Plan, decoder: Decoder, given: Given):
        self.plan, self.decoder, self.given = plan, decoder, given

    def __call__(
        self, texts: Sequence[Text], normalise: bool = False, place: int = -1, done: np.ndarray | None = None
    ) -> Any:
        """Returns scores (B, V), of beams the logarithms of probabilities.

        place: of the tokens that were read last. done: (B,) rows whose scores no longer matter.
        """
        given, decoder = self.given, self.decoder
        scores = decoder.scores(normalise, place)
        steps = history_steps(self.plan, texts, self._allowed if given.allowed else None, done)
        scores = decoder.process(scores, steps) if steps else scores
        for processor in given.processors:
            found = processor(self.ids(texts), scores)
            if tuple(getattr(found, "shape", ())) != tuple(scores.shape) or isinstance(found, np.ndarray):
                wanted = f"a tensor of {tuple(scores.shape)}"
                raise GPT2Error(f"a logits_processor returned {_told(found)}: it must return scores, {wanted}")
            scores = found
        return decoder.process(scores, self.plan.steps) if self.plan.steps else scores

    def _allowed(self, text: Text) -> Iterable[int]:
        return self.given.allowed(text.prompt, self.decoder.tensor(np.array(text.tokens)))  # type: ignore[misc]

    def ids(self, texts: Sequence[Text]) -> Any:
        """Returns the tokens of texts as a user's functions are given them, (B, T), shorter ones padded on the left."""
        return self.decoder.tensor(padded(texts, self.plan.pad_token_id))

    def stopped(self, texts: Sequence[Text], scores: Any) -> np.ndarray:
        """Returns which texts a user's function ends, (B,)."""
        ended = np.zeros(len(texts), bool)
        for criterion in self.given.criteria:
            answer = criterion(self.ids(texts), scores)
            flags = np.asarray(plain(answer.cpu() if hasattr(answer, "cpu") else answer))
            if flags.dtype != bool or flags.shape not in ((), ended.shape):
                raise GPT2Error(
                    f"a stopping_criteria function returned {_told(answer)}: it must return True or False, or one of "
                    f"them for each of {len(texts)} texts"
                )
            ended |= flags
        return ended


def _told(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"a {type(value).__name__} of {tuple(shape)}"


def padded(texts: Sequence[Text], pad: int, width: int = 0) -> np.ndarray:
    """Returns texts as one array: prompts end at the same column, and what is short after that is padded.

    width: columns of the prompts at least.
    """
    before = max(width, *(text.length for text in texts))
    after = max(len(text.tokens) - text.length for text in texts)
    ids = np.full((len(texts), before + after), pad, np.int64)
    for row, text in zip(ids, texts, strict=True):
        start = before - text.length
        row[start : start + len(text.tokens)] = text.tokens
    return ids


def begin(plan: Plan, decoder: Decoder, past: tuple[Any, int] | None) -> None:
    """Has the decoder read the prompts. past: keys and values of each prompt's first tokens, and how many they are."""
    if past is not None:
        ids, mask = aligned(plan.prompts, plan.pad_token_id, plan.width)
        decoder.resume(ids, mask, *past, max(plan.limits))
    else:
        texts = [Text(row, len(row), i) for i, row in enumerate(plan.prompts)]
        start(plan, decoder, texts, np.zeros(len(texts), bool))
    each = plan.rows // len(plan.prompts)
    if each > 1:
        decoder.choose([i for i in range(len(plan.prompts)) for _ in range(each)])


def start(plan: Plan, decoder: Decoder, texts: Sequence[Text], done: np.ndarray) -> None:
    """Has the decoder read what is seen of texts anew."""
    seen = [
        text.tokens[-1:] if ended else text.tokens[window(len(text.tokens), plan.n_positions) :]
        for text, ended in zip(texts, done, strict=True)
    ]
    room = max(plan.limits) - min(len(text.tokens) - text.length for text in texts)
    if plan.settings.overflow == "slide":
        room = min(room, plan.n_positions - max(map(len, seen)))
    decoder.start(seen, room if plan.settings.use_cache else 0, [text.prompt for text in texts])


def read(plan: Plan, decoder: Decoder, texts: Sequence[Text], done: np.ndarray, last: np.ndarray) -> None:
    """Has the decoder read the last tokens, (B,); all that is seen where the cache is full, or not to be used."""
    moves = any(
        window(len(text.tokens), plan.n_positions) != window(len(text.tokens) - 1, plan.n_positions)
        for text, ended in zip(texts, done, strict=True)
        if not ended
    )
    if plan.settings.use_cache and decoder.room and not moves:
        decoder.feed(last[:, None])
    else:
        start(plan, decoder, texts, done)


def one_by_one(plan: Plan, decoder: Decoder, given: Given, found: Found, keep_rows: bool) -> Iterator[np.ndarray]:
    """Writes greedy or sampled texts into `found`; yields each step's tokens, (rows,), padding where a row is done.

    keep_rows: rows that are done stay in the batch, since their cache is wanted.
    """
    texts, stopping, scorer = found.texts, Stopping(plan, given.tokenizer), Scorer(plan, decoder, given)
    keep_rows = keep_rows or plan.settings.output_scores or bool(given)
    live, done = np.arange(len(texts)), np.zeros(len(texts), bool)
    while True:
        scores = scorer([texts[i] for i in live], done=done[live])
        if plan.settings.output_scores:
            found.scores.append(scores)
        drawn = None if plan.uniforms is None else plan.uniforms[found.steps, 0, live]
        found.steps += 1
        new = np.full(len(texts), plan.pad_token_id, np.int64)
        for i, token in zip(live.tolist(), decoder.pick(scores, drawn).tolist(), strict=True):
            if not done[i]:
                new[i] = token
                texts[i].tokens.append(token)
                done[i] = stopping.ends(texts[i])
        if given.criteria:
            done[live] |= scorer.stopped([texts[i] for i in live], scores)
        yield new
        if done.all() or stopping.is_late():
            return
        if not keep_rows and done[live].mean() >= 0.5:  # sooner would cost more than it saves
            places = np.flatnonzero(~done[live])
            live = live[places]
            decoder.choose(places.tolist())
        read(plan, decoder, [texts[i] for i in live], done[live], new[live])
