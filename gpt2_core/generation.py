"""GenerationConfig, and what it means for one call: a plan that both frameworks execute alike."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .config import GPT2Config
from .errors import GPT2Error, nearest
from .sampling import uniforms

DEFAULT_NEW_TOKENS = 20  # what the reference continues by when no length is given


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How to continue a prompt. Names and defaults are those of transformers; a token id of None is the model's."""

    max_length: int | None = None  # tokens in all, prompt included
    max_new_tokens: int | None = None  # wins over max_length
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = 50  # 0 or None: every token
    top_p: float = 1.0
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self):
        for name in ("max_length", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise GPT2Error(f"{name}={value!r}: it must be a whole number of at least 1")
        if not _is_number(self.temperature) or not 0 < self.temperature < float("inf"):
            raise GPT2Error(
                f"temperature={self.temperature!r}: it must be above 0; for the likeliest token at every "
                "step use do_sample=False"
            )
        if self.top_k is not None and (type(self.top_k) is not int or self.top_k < 0):
            raise GPT2Error(f"top_k={self.top_k!r}: it must be a whole number; 0 keeps every token")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise GPT2Error(f"top_p={self.top_p!r}: it must be above 0 and at most 1, which keeps every token")


class LogitsStep(NamedTuple):
    """One function of the frameworks' logits.py and its argument."""

    name: str
    value: float | int


class GenerationPlan(NamedTuple):
    """Everything that is decided before the first token."""

    input_ids: np.ndarray  # (B, T) int64, each row's tokens at its right end
    attention_mask: np.ndarray  # (B, T) int64
    max_new_tokens: int
    steps: tuple[LogitsStep, ...]
    uniforms: np.ndarray | None  # (max_new_tokens, B) float64; None: the likeliest token
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    use_cache: bool


def plan(
    config: GPT2Config,
    generation_config: GenerationConfig | None,
    overrides: dict,
    input_ids: Any,
    attention_mask: Any,
    seed: int | Sequence[int] | None,
) -> GenerationPlan:
    """Returns the plan of one `generate` call; contradictory settings raise here, before any work."""
    settings = _settings(generation_config, overrides)
    eos = settings.eos_token_id if settings.eos_token_id is not None else config.eos_token_id
    eos_ids = () if eos is None else tuple(eos) if isinstance(eos, Sequence) else (eos,)
    pad = next((i for i in (settings.pad_token_id, config.pad_token_id, *eos_ids) if i is not None), 0)
    bos = settings.bos_token_id if settings.bos_token_id is not None else config.bos_token_id
    ids, mask = _prompts(config, input_ids, attention_mask, bos, pad)
    new_tokens = _new_tokens(settings, ids.shape[1], config.n_positions)
    numbers = None
    if settings.do_sample:
        numbers = uniforms(secrets.randbits(63) if seed is None else seed, len(ids), new_tokens)
    steps = _steps(settings, config.vocab_size) if settings.do_sample else ()
    return GenerationPlan(ids, mask, new_tokens, steps, numbers, eos_ids, pad, settings.use_cache)


def _settings(generation_config: GenerationConfig | None, overrides: dict) -> GenerationConfig:
    names = [field.name for field in dataclasses.fields(GenerationConfig)]
    for name in overrides:
        if name not in names:
            raise GPT2Error(f"generate has no setting {name!r}.{nearest(name, names)}")
    return dataclasses.replace(generation_config or GenerationConfig(), **overrides)


def _steps(settings: GenerationConfig, vocab_size: int) -> tuple[LogitsStep, ...]:
    """Returns the steps in the reference's order, those without effect left out."""
    steps = []
    if settings.temperature != 1:
        steps.append(LogitsStep("temperature", float(settings.temperature)))
    if settings.top_k and settings.top_k < vocab_size:
        steps.append(LogitsStep("top_k", settings.top_k))
    if settings.top_p < 1:
        steps.append(LogitsStep("top_p", float(settings.top_p)))
    return tuple(steps)


def _new_tokens(settings: GenerationConfig, prompt: int, n_positions: int) -> int:
    room = n_positions - prompt
    if room < 1:
        raise GPT2Error(
            f"the prompt has {prompt} tokens and the model n_positions={n_positions}: "
            "shorten it so that at least one token fits after it"
        )
    if settings.max_new_tokens is not None:
        wanted = settings.max_new_tokens
    elif settings.max_length is not None:
        wanted = settings.max_length - prompt
        if wanted < 1:
            raise GPT2Error(
                f"max_length={settings.max_length} counts the prompt, which has {prompt} tokens already: "
                "raise it, or use max_new_tokens"
            )
    else:
        return min(DEFAULT_NEW_TOKENS, room)
    if wanted > room:
        raise GPT2Error(
            f"a prompt of {prompt} tokens and {wanted} new ones pass n_positions={n_positions}: "
            f"ask for at most {room} new tokens, or shorten the prompt"
        )
    return wanted


def _prompts(
    config: GPT2Config, input_ids: Any, attention_mask: Any, bos: int | None, pad: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (ids, mask), both (B, T): every row's kept tokens moved to its right end, where text goes on."""
    rows = _rows(input_ids, attention_mask, bos)
    if not rows:
        raise GPT2Error("input_ids holds no prompt: give at least one row of token ids")
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), pad, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for r, row in enumerate(rows):
        for token in row:
            if not 0 <= token < config.vocab_size:
                raise GPT2Error(
                    f"input_ids holds {token}: ids must be from 0 to vocab_size - 1 = {config.vocab_size - 1}"
                )
        if row:
            ids[r, -len(row) :] = row
            mask[r, -len(row) :] = 1
    return ids, mask


def _rows(input_ids: Any, attention_mask: Any, bos: int | None) -> list[list[int]]:
    if input_ids is None:
        rows: list = [[]]
    elif isinstance(input_ids, Sequence) and (not input_ids or isinstance(input_ids[0], int | np.integer)):
        rows = [list(input_ids)]  # one prompt as a flat list
    else:
        rows = [np.asarray(row).tolist() for row in input_ids]
    if any(not isinstance(row, list) or any(type(token) is not int for token in row) for row in rows):
        raise GPT2Error("input_ids must be whole numbers of shape (B, T), or a list of lists of token ids")
    if attention_mask is not None:
        masks = [np.asarray(row).tolist() for row in attention_mask]
        if [len(row) for row in masks] != [len(row) for row in rows]:
            raise GPT2Error(
                f"attention_mask covers {[len(row) for row in masks]} tokens a row, "
                f"input_ids has {[len(row) for row in rows]}: they must match"
            )
        rows = [
            [token for token, keep in zip(row, kept, strict=True) if keep]
            for row, kept in zip(rows, masks, strict=True)
        ]
    if bos is None and not all(rows):
        raise GPT2Error("a prompt is empty, and the model has no bos_token_id to start from: pass bos_token_id")
    return [row or [bos] for row in rows]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
