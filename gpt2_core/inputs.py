"""What a model may be called with: every check on shapes and ids, the same words in both frameworks."""

from collections.abc import Sequence

import numpy as np

from .config import GPT2Config
from .errors import GPT2Error
from .plain import is_int

Shape = Sequence[int | None]  # None: a length that a graph learns only when it runs


def check_shapes(
    config: GPT2Config,
    *,
    input_ids: Shape | None,
    inputs_embeds: Shape | None,
    past_key_values: Sequence | None,
    attention_mask: Shape | None,
    token_type_ids: Shape | None,
    position_ids: Shape | None,
) -> None:
    """Raises GPT2Error unless the shapes fit each other and the config, before any arithmetic.

    `past_key_values` holds the shapes of its (key, value) pairs.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise GPT2Error("give either input_ids or inputs_embeds, one of them and not both")
    name, given, expected = "input_ids", input_ids, "(B, T)"
    if given is None:
        name, given, expected = "inputs_embeds", inputs_embeds or (), "(B, T, C)"
    if len(given) != expected.count(",") + 1:
        shape = tuple(given)
        raise GPT2Error(f"{name} has shape {shape}, it must be {expected}: put a single sequence into a batch of 1")
    batch, new = given[:2]
    if inputs_embeds is not None and not _same(inputs_embeds[2], config.n_embd):
        raise GPT2Error(f"inputs_embeds has width {inputs_embeds[2]}, the model n_embd={config.n_embd}")
    if new == 0:
        raise GPT2Error(f"{name} holds no tokens: give at least one (bos_token_id starts a text from nothing)")
    past = _past_length(config, past_key_values, batch)
    total = None if new is None or past is None else past + new
    if total is not None and total > config.n_positions and position_ids is None:
        before = f"{past} past and {new} new tokens" if past else f"{new} tokens"
        raise GPT2Error(f"{before} pass n_positions={config.n_positions}: shorten the input")
    _check("token_type_ids", token_type_ids, [(batch, new)])
    _check("position_ids", position_ids, [(batch, new), (1, new)])
    _check_mask(attention_mask, batch, new, past, total)


def check_labels(shape: Shape, inputs: Shape) -> None:
    """Raises GPT2Error unless labels (B, T) fit the inputs, of shape (B, T) or (B, T, C)."""
    _check("labels", shape, [tuple(inputs[:2])])


def check_logits_to_keep(logits_to_keep: object, labels: object) -> None:
    """Raises GPT2Error unless it is a whole number of last positions, 0 for all of them, as labels need."""
    if not is_int(logits_to_keep) or logits_to_keep < 0:  # type: ignore[operator]
        raise GPT2Error(f"logits_to_keep={logits_to_keep!r}: it must be a whole number; 0 keeps every position")
    if logits_to_keep and labels is not None:
        raise GPT2Error(f"labels need every logit, logits_to_keep={logits_to_keep} drops some: leave it at 0")


def check_mask(mask: np.ndarray | None) -> None:
    """Raises GPT2Error unless a mask holds truth values, or 1 for what is kept and 0 for what is not; None passes."""
    if mask is not None and mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        wrong = mask[~np.isin(mask, (0, 1))].flat[0]
        raise GPT2Error(
            f"attention_mask holds {wrong:g}: it must be 1 for tokens that are kept and 0 for those that are not. "
            "Where you have a mask to be added to the scores, pass mask == 0"
        )


def check_ids(config: GPT2Config, name: str, ids: np.ndarray | None) -> None:
    """Raises GPT2Error unless ids are whole numbers within the table that they index; None passes."""
    if ids is None:
        return
    if ids.dtype.kind not in "iu":
        kind = {"b": "truth values", "f": "fractional numbers"}.get(ids.dtype.kind, str(ids.dtype))
        raise GPT2Error(f"{name} holds {kind}: ids must be whole numbers")
    rows, field = (config.n_positions, "n_positions") if name == "position_ids" else (config.vocab_size, "vocab_size")
    kept = ids[ids != -100] if name == "labels" else ids  # -100 marks labels that do not count
    if kept.size and not (0 <= kept.min() and kept.max() < rows):
        wrong = kept[(kept < 0) | (kept >= rows)].flat[0]
        raise GPT2Error(
            f"{name} holds {wrong}: it must be from 0 to {field} - 1 = {rows - 1}"
            + (", or -100 for positions that do not count" if name == "labels" else "")
        )


def check_pairs(past: object) -> None:
    """Raises GPT2Error unless a cache is a sequence of pairs of tensors."""
    pairs = past if isinstance(past, list | tuple) else None
    if pairs is None or not all(isinstance(p, list | tuple) and all(hasattr(x, "shape") for x in p) for p in pairs):
        raise GPT2Error("past_key_values must be what a model returned: n_layer pairs (key, value) of tensors")


def _past_length(config: GPT2Config, past: Sequence | None, batch: int | None) -> int | None:
    if past is None:
        return 0
    if len(past) != config.n_layer or any(len(pair) != 2 for pair in past):
        raise GPT2Error(
            f"past_key_values has {len(past)} entries, it must be n_layer={config.n_layer} pairs (key, value)"
        )
    length = past[0][0][2] if len(past[0][0]) == 4 else None
    wanted = (batch, config.n_head, length, config.head_dim)
    for pair in past:
        for shape in pair:
            if len(shape) != 4 or not all(_same(a, b) for a, b in zip(shape, wanted, strict=True)):
                raise GPT2Error(
                    f"past_key_values holds a tensor of shape {tuple(shape)}, it must be "
                    f"(B, n_head, P, head_dim) = {wanted}"
                )
    return length


def _check_mask(mask: Shape | None, batch, new, past, total) -> None:
    if mask is not None and len(mask) == 2 and total is not None and mask[1] == new != total:
        raise GPT2Error(
            f"attention_mask covers the {new} new tokens only: with past_key_values it must cover the "
            f"{past} past ones too, shape {(batch, total)}"
        )
    _check("attention_mask", mask, [(batch, total), (batch, 1, new, total)])


def _check(name: str, shape: Shape | None, allowed: list[Shape]) -> None:
    if shape is None:
        return
    for wanted in allowed:
        if len(shape) == len(wanted) and all(_same(a, b) for a, b in zip(shape, wanted, strict=True)):
            return
    raise GPT2Error(f"{name} has shape {tuple(shape)}, it must be {' or '.join(str(tuple(s)) for s in allowed)}")


def _same(a: int | None, b: int | None) -> bool:
    return a is None or b is None or a == b


def as_array(name: str, values: object) -> np.ndarray:
    """Returns a list or an array of numbers as an array; rows of unequal length raise."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise GPT2Error(f"{name} has rows of unequal length: pad them, and pass attention_mask") from None
    if array.dtype.kind not in "iufb":
        raise GPT2Error(f"{name} holds {array.dtype}: it must hold numbers")
    return array
