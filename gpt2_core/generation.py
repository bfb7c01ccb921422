"""GenerationConfig, and what it means for one call: a plan that both frameworks execute alike."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .config import GPT2Config
from .errors import GPT2Error, nearest
from .plain import is_int, is_number, plain
from .sampling import uniforms

DEFAULT_NEW_TOKENS = 20  # where no length is given; the reference counts the prompt in


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How to continue a prompt. Names and defaults are those of transformers; a token id of None is the model's."""

    max_length: int | None = None  # tokens in all, prompt included
    max_new_tokens: int | None = None  # wins over max_length
    do_sample: bool = False
    temperature: float | None = 1.0  # None: 1
    top_k: int | None = 50  # 0 or None: every token
    top_p: float | None = 1.0  # None: 1, every token
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        for name in ("max_length", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and (not is_int(value) or value < 1):
                raise GPT2Error(f"{name}={value!r}: it must be a whole number of at least 1")
        for name in ("do_sample", "use_cache"):
            if not isinstance(getattr(self, name), bool):
                raise GPT2Error(f"{name}={getattr(self, name)!r}: it must be True or False")
        value = self.temperature
        if value is not None and (not is_number(value) or not 0 < value < float("inf")):
            raise GPT2Error(
                f"temperature={value!r}: it must be above 0; for the likeliest token at every step use do_sample=False"
            )
        if self.top_k is not None and (not is_int(self.top_k) or self.top_k < 0):
            raise GPT2Error(f"top_k={self.top_k!r}: it must be a whole number; 0 keeps every token")
        if self.top_p is not None and (not is_number(self.top_p) or not 0 < self.top_p <= 1):
            raise GPT2Error(f"top_p={self.top_p!r}: it must be above 0 and at most 1, which keeps every token")
        for name in ("bos_token_id", "pad_token_id"):
            value = getattr(self, name)
            if value is not None and (not is_int(value) or value < 0):
                raise GPT2Error(f"{name}={value!r}: it must be a token id")
        eos = self.eos_token_id
        if eos is not None and not all(is_int(token) for token in (eos if isinstance(eos, list) else [eos])):
            raise GPT2Error(f"eos_token_id={eos!r}: it must be a token id or a list of token ids")


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
    pad = _pad_token(config, settings.pad_token_id, eos_ids)
    bos = settings.bos_token_id if settings.bos_token_id is not None else config.bos_token_id
    ids, mask = _prompts(config, input_ids, attention_mask, bos, pad)
    new_tokens = _new_tokens(settings, ids.shape[1], config.n_positions)
    numbers = None
    if settings.do_sample:
        numbers = uniforms(int.from_bytes(os.urandom(8), "little") >> 1 if seed is None else seed, len(ids), new_tokens)
    elif seed is not None:
        uniforms(seed, len(ids), 1)  # not used, but a wrong one is told all the same
    steps = _steps(settings, config.vocab_size) if settings.do_sample else ()
    return GenerationPlan(ids, mask, new_tokens, steps, numbers, eos_ids, pad, settings.use_cache)


def _pad_token(config: GPT2Config, pad: int | None, eos_ids: Sequence[int]) -> int:
    """Returns what fills up rows that are done: the id given, else the first of the config's that is a token."""
    if pad is not None:
        if pad >= config.vocab_size:
            raise GPT2Error(
                f"pad_token_id={pad} is no token of the model: it must be below vocab_size={config.vocab_size}"
            )
        return pad
    known = (i for i in (config.pad_token_id, *eos_ids) if i is not None and 0 <= i < config.vocab_size)
    return next(known, 0)


def _settings(generation_config: GenerationConfig | None, overrides: dict) -> GenerationConfig:
    names = [field.name for field in dataclasses.fields(GenerationConfig)]
    for name in overrides:
        if name not in names:
            raise GPT2Error(f"generate has no setting {name!r}.{nearest(name, names)}")
    if not isinstance(generation_config, GenerationConfig | None):
        raise GPT2Error(
            f"generation_config is a {type(generation_config).__name__}: give a GenerationConfig, or its fields by name"
        )
    return dataclasses.replace(generation_config or GenerationConfig(), **overrides)


def _steps(settings: GenerationConfig, vocab_size: int) -> tuple[LogitsStep, ...]:
    """Returns the steps in the reference's order, those without effect left out."""
    steps = []
    if settings.temperature not in (None, 1):
        steps.append(LogitsStep("temperature", float(settings.temperature)))
    if settings.top_k and settings.top_k < vocab_size:
        steps.append(LogitsStep("top_k", settings.top_k))
    if settings.top_p not in (None, 1):
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
    rows = _rows(config, input_ids, attention_mask, bos)
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), pad, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for r, row in enumerate(rows):
        for token in row:
            if not 0 <= token < config.vocab_size:
                raise GPT2Error(
                    f"input_ids holds {token}: ids must be from 0 to vocab_size - 1 = {config.vocab_size - 1}"
                )
        ids[r, -len(row) :] = row
        mask[r, -len(row) :] = 1
    return ids, mask


def _as_rows(given: Any) -> Any:
    """Returns prompts, or their masks, as a list of rows where they are lists at all: a flat one is one row."""
    values = [] if given is None else plain(given)
    if values == [] and len(getattr(given, "shape", ())) > 1:
        raise GPT2Error("input_ids holds no prompts: give at least one; an empty one starts from bos_token_id")
    flat = isinstance(values, list) and not any(isinstance(row, list) for row in values)
    return [values] if flat else values


def _rows(config: GPT2Config, input_ids: Any, attention_mask: Any, bos: int | None) -> list[list[int]]:
    rows, masks = _as_rows(input_ids), _as_rows(attention_mask)
    if not isinstance(rows, list) or not all(isinstance(row, list) and all(map(is_int, row)) for row in rows):
        raise GPT2Error("input_ids must be whole numbers of shape (B, T), or a list of lists of token ids")
    if attention_mask is not None:
        if not isinstance(masks, list) or not all(isinstance(row, list) for row in masks):
            raise GPT2Error("attention_mask must have the shape of input_ids, (B, T)")
        lengths = [len(row) for row in masks]
        if lengths != [len(row) for row in rows]:
            raise GPT2Error(
                f"attention_mask covers {lengths} tokens a row, input_ids has {[len(row) for row in rows]}: "
                "they must match"
            )
        rows = [[token for token, keep in zip(*pair, strict=True) if keep] for pair in zip(rows, masks, strict=True)]
    if all(rows):
        return rows
    if bos is None:
        raise GPT2Error("a prompt is empty, and the model has no bos_token_id to start from: pass bos_token_id")
    if bos >= config.vocab_size:
        raise GPT2Error(
            f"a prompt is empty, and bos_token_id={bos} is no token of the model (vocab_size={config.vocab_size}): "
            "pass bos_token_id"
        )
    return [row or [bos] for row in rows]
