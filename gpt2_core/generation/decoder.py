"""Rows of tokens in a model, and which slots of its cache they fill. The frameworks compute; what is where is here."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .plan import LogitsStep
from .prompts import Rows, aligned

_GRAIN = 64  # slots of a cache come in multiples of this, so that what is compiled for one length serves many
_AHEAD = 128  # slots that a cache is made, and grows, beyond its tokens: a step reads free ones too


def parts(rows: int, tokens: int, first: int, least: int, together: int) -> Iterator[tuple[slice, int]]:
    """Yields slices of a step's tokens to be read one after the other, and how many slots each sees, from `first` on.

    What layers hand to each other then is memory that the process has, instead of what the system hands out anew, and
    attention does not multiply what it is not to see. least, together: tokens of each row at least, and of all rows.
    """
    count = -(-tokens // max(least, together // rows))
    for start, stop in itertools.pairwise(tokens * i // count for i in range(count + 1)):
        yield slice(start, stop), first + stop


class Decoder(abc.ABC):
    """A batch of rows that a language model has read, and its scores of the token after each.

    The cache has S slots a row, and grows. Rows end at the same slot; where one is shorter than others its first slots
    are not seen. Subclasses hold the cache and compute.
    """

    def __init__(self, n_positions: int, grows: bool = True):
        """grows: whether caches may do so; one that may not is made at once for all tokens to come."""
        self.n_positions, self.grows = n_positions, grows
        self.kept = np.zeros((0, 0), bool)  # (B, S) slots that hold a token
        self.used = 0  # slots that were filled
        self.most = 0  # slots that the cache may grow to

    @property
    def room(self) -> int:
        """How many tokens can follow."""
        return self.most - self.used

    def start(self, rows: Rows, room: int, prompts: Sequence[int]) -> None:
        """Reads rows of tokens, in one go. room: tokens that may follow. prompts: which one each row is of."""
        ids, mask = aligned(rows, 0)
        self._fill(mask, room)
        self.allocate(prompts, self.kept.shape[1])
        self._read(ids, 0)

    def resume(self, ids: np.ndarray, mask: np.ndarray, past: Any, count: int, room: int) -> None:
        """Reads the tokens (B, T) that follow the first `count`, whose keys and values are given."""
        self._fill(mask, room)
        self.allocate(range(len(ids)), self.kept.shape[1])
        self.restore(past)
        self._read(ids[:, count:], count)

    def feed(self, tokens: np.ndarray) -> None:
        """Reads the next tokens of each row, (B, K); the scores are then those after each of the K."""
        first, count = self.used, tokens.shape[1]
        self.used += count
        if self.used > (slots := self.kept.shape[1]):
            self.kept = np.pad(self.kept, ((0, 0), (0, self._slots() - slots)))
            self.grow(self.kept.shape[1])
        self.kept[:, first : self.used] = True
        self._read(tokens, first, every=count > 1)

    def forget(self, count: int) -> None:
        """Takes back the last tokens of each row."""
        self.used -= count
        self.kept[:, self.used :] = False

    def choose(self, rows: Sequence[int]) -> None:
        """Goes on with these rows, in this order; one may be there several times."""
        self.kept = self.kept[list(rows)]
        self.select(np.asarray(rows, np.int64))

    def _fill(self, mask: np.ndarray, room: int) -> None:
        rows, self.used = mask.shape
        self.most = _whole(self.used + room)
        self.kept = np.zeros((rows, self._slots()), bool)
        self.kept[:, : self.used] = mask

    def _slots(self) -> int:
        """Returns how many the cache is to have."""
        return min(self.most, _whole(self.used + _AHEAD)) if self.grows else self.most

    def _read(self, ids: np.ndarray, first: int, every: bool = False) -> None:
        positions = np.cumsum(self.kept, axis=1)[:, first : self.used] - 1
        positions = positions.clip(0, self.n_positions - 1)  # of padding: before a row, and after one that is done
        self.compute(ids, positions, self.kept, first, every)

    @abc.abstractmethod
    def allocate(self, prompts: Sequence[int], slots: int) -> None:
        """Makes a cache of S slots for each row. prompts: which one it is of, whose encoder it sees."""

    @abc.abstractmethod
    def grow(self, slots: int) -> None:
        """Gives the cache more slots, S."""

    @abc.abstractmethod
    def restore(self, past: Any) -> None:
        """Puts keys and values of earlier tokens, as `past_key_values` has them, into the first slots."""

    @abc.abstractmethod
    def compute(self, ids: np.ndarray, positions: np.ndarray, kept: np.ndarray, first: int, every: bool) -> None:
        """Reads ids (B, T) at positions (B, T) into slots from `first` on; keeps the last logits, or every one."""

    @abc.abstractmethod
    def select(self, rows: np.ndarray) -> None:
        """Has cache and logits hold these rows of themselves."""

    @abc.abstractmethod
    def past(self) -> Any:
        """Returns the keys and values of the filled slots as `past_key_values`."""

    @abc.abstractmethod
    def scores(self, normalise: bool = False, place: int = -1) -> Any:
        """Returns the logits (B, V) after the last of the tokens that were read, or after the one at a place of them.

        normalise: as logarithms of probabilities, in float64.
        """

    @abc.abstractmethod
    def process(self, scores: Any, steps: Sequence[LogitsStep]) -> Any:
        """Returns scores after steps."""

    @abc.abstractmethod
    def pick(self, scores: Any, uniforms: np.ndarray | None) -> np.ndarray:
        """Returns the next token (B,): the likeliest, or the one that numbers (B,) draw."""

    @abc.abstractmethod
    def best(self, scores: Any, running: np.ndarray, count: int, uniforms: np.ndarray | None) -> tuple:
        """Returns (values, indices), (N, count): of scores (N*beams, V) + running (N, beams), the best of each N.

        uniforms: (count, N) draw them one after the other, each from what is left; None takes the highest.
        """

    @abc.abstractmethod
    def tensor(self, array: np.ndarray) -> Any:
        """Returns an array as a tensor of the framework, on the model's device."""

    def shown(self, array: np.ndarray) -> Any:
        """Returns an array as a streamer is given it."""
        return self.tensor(array)

    @abc.abstractmethod
    def numpy(self, tensor: Any) -> np.ndarray:
        """Returns a tensor as an array."""


def _whole(slots: int) -> int:
    """Returns slots, or the next more of which there is a whole number of grains."""
    return -(-slots // _GRAIN) * _GRAIN
