"""What the heads learn from: every check on labels, and which loss they ask for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .config import GPT2Config
from .errors import GPT2Error
from .inputs import Shape, check_range, check_shape, check_whole


class Given(NamedTuple):
    """What a call was given to learn from."""

    name: str
    numbers: np.ndarray | None  # None where a graph cannot look at them yet
    dtype: str  # as numpy names it
    shape: Shape


# Every check below takes also the shape of the tokens, (B, T) or (B, N, T).


def check_labels(config: GPT2Config, given: Given, tokens: Shape) -> None:
    """Raises GPT2Error unless labels name a token for each token."""
    check_shape(given.name, given.shape, tokens)
    check_range(given.name, given.numbers, given.dtype, config.vocab_size, "vocab_size", skip=True)


def check_token_labels(config: GPT2Config, given: Given, tokens: Shape) -> None:
    """Raises GPT2Error unless labels name one of num_labels for each token."""
    check_shape(given.name, given.shape, tokens)
    check_range(given.name, given.numbers, given.dtype, config.num_labels, "num_labels", skip=True)


def check_answer(config: GPT2Config, given: Given, tokens: Shape) -> None:
    """Raises GPT2Error unless places of answers are (B,), each a whole number of at least 0, or -100.

    Those at or past the end of the sequence do not count either: their answer was cut off.
    """
    check_shape(given.name, given.shape, tokens[:1], (tokens[0], 1))
    check_whole(given.name, given.dtype)
    places = np.zeros(0, np.int64) if given.numbers is None else given.numbers
    wrong = places[(places < 0) & (places != -100)]
    if wrong.size:
        raise GPT2Error(f"{given.name} holds {wrong.flat[0]}: it must be at least 0, or -100 for what does not count")


def check_both_ends(start_positions: object, end_positions: object) -> None:
    """Raises GPT2Error where one end of the answers was given without the other."""
    if (start_positions is None) != (end_positions is None):
        raise GPT2Error("start_positions and end_positions go together: give both or neither")


def check_choice_tokens(config: GPT2Config, given: Given, tokens: Shape) -> None:
    """Raises GPT2Error unless each choice (B, N) has a place among its T tokens."""
    check_shape(given.name, given.shape, tokens[:2])
    if tokens[2] is not None:
        check_range(given.name, given.numbers, given.dtype, tokens[2], "T")


def check_choice_labels(config: GPT2Config, given: Given, tokens: Shape) -> None:
    """Raises GPT2Error unless labels say which choice is right (B,), or which label each choice has (B, N)."""
    if not (config.summary_use_proj and config.summary_proj_to_labels):
        raise GPT2Error(
            f"{given.name} need a score for each choice, and this head gives n_embd numbers: "
            "set summary_use_proj=True and summary_proj_to_labels=True"
        )
    if config.summary_width > 1:
        check_shape(given.name, given.shape, tokens[:2])
        check_range(given.name, given.numbers, given.dtype, config.num_labels, "num_labels", skip=True)
        return
    check_shape(given.name, given.shape, tokens[:1])
    if tokens[1] is not None:
        check_range(given.name, given.numbers, given.dtype, tokens[1], "N", skip=True)


def problem_type(config: GPT2Config, shape: Shape) -> str:
    """Returns which of PROBLEM_TYPES labels of this shape are: the config's, else what the shape tells.

    With one label every target is a number; with more, (B,) names one label each and (B, num_labels) says of each label
    whether it holds.
    """
    if config.problem_type is not None:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    return "single_label_classification" if len(shape) < 2 or shape[-1] == 1 else "multi_label_classification"


def check_sequence_labels(config: GPT2Config, given: Given, tokens: Shape) -> None:
    """Raises GPT2Error unless labels fit the sequences and the problem."""
    (batch, _), K, problem = tokens, config.num_labels, problem_type(config, given.shape)
    one_each = K == 1 or problem == "single_label_classification"
    check_shape(given.name, given.shape, *(((batch,), (batch, 1)) if one_each else ((batch, K),)))
    if problem == "single_label_classification":
        check_range(given.name, given.numbers, given.dtype, K, "num_labels", skip=True)
    elif given.numbers is not None:
        labels = given.numbers
        low, high = (0, 1) if problem == "multi_label_classification" else (-np.inf, np.inf)
        fits = np.isfinite(labels) & (labels >= low) & (labels <= high)
        if not fits.all():
            allowed = "from 0 to 1, where several labels may hold" if high == 1 else "a finite number"
            raise GPT2Error(f"{given.name} holds {labels[~fits].flat[0]:g}: each must be {allowed}")


def ends_by_padding(config: GPT2Config, batch: int | None, *, mask: bool, ids: bool) -> bool:
    """Returns whether the end of each row is looked for by pad_token_id; raises GPT2Error where nothing tells it.

    mask, ids: whether attention_mask (B, S) and input_ids were given. The mask tells it first.
    """
    if mask:
        return False
    if ids and config.pad_token_id is not None:
        return True
    if batch == 1:
        return False
    missing = "inputs_embeds show no padding" if config.pad_token_id is not None else "config.pad_token_id is None"
    raise GPT2Error(
        f"nothing tells where each of the {'' if batch is None else f'{batch} '}rows ends: pass attention_mask "
        f"(B, T), 1 for real tokens ({missing})"
    )
