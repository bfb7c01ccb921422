"""What a model may be called with: every check on shapes and ids, the same words in both frameworks."""

import inspect
from collections.abc import Sequence

import numpy as np

from .config import GPT2Config
from .errors import GPT2Error
from .plain import is_int, plain

Shape = Sequence[int | None]  # None: a length that a graph learns only when it runs


def check_shapes(
    config: GPT2Config,
    *,
    input_ids: Shape | None = None,
    inputs_embeds: Shape | None = None,
    past_key_values: Sequence | None = None,
    attention_mask: Shape | None = None,
    token_type_ids: Shape | None = None,
    position_ids: Shape | None = None,
    head_mask: Shape | None = None,
    encoder_hidden_states: Shape | None = None,
    encoder_attention_mask: Shape | None = None,
    choices: bool = False,
) -> None:
    """Raises GPT2Error unless the shapes fit each other and the config, before any arithmetic.

    `past_key_values` holds the shapes of its entries. choices: every input but head_mask and the cache, whose rows are
    B*N, has an axis N of choices after B.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise GPT2Error("give either input_ids or inputs_embeds, one of them and not both")
    name, given, axes = "input_ids", input_ids, ["B", "N", "T"] if choices else ["B", "T"]
    if inputs_embeds is not None:
        name, given, axes = "inputs_embeds", inputs_embeds, [*axes, "C"]
    if given is None or len(given) != len(axes):
        way = "put the choices of one question into it" if choices else "put a single sequence into a batch of 1"
        raise GPT2Error(f"{name} has shape {tuple(given or ())}, it must be ({', '.join(axes)}): {way}")
    sizes = dict(zip(axes, given, strict=True))
    new, lead = sizes["T"], tuple(sizes[axis] for axis in ("B", "N") if axis in sizes)
    if inputs_embeds is not None and not _same(inputs_embeds[-1], config.n_embd):
        raise GPT2Error(f"inputs_embeds has width {inputs_embeds[-1]}, the model n_embd={config.n_embd}")
    if new == 0:
        raise GPT2Error(f"{name} holds no tokens: give at least one (bos_token_id starts a text from nothing)")
    past = _past_length(config, past_key_values, rows_of(lead))
    total = None if new is None or past is None else past + new
    if total is not None and total > config.n_positions and position_ids is None:
        before = f"{past} past and {new} new tokens" if past else f"{new} tokens"
        raise GPT2Error(f"{before} pass n_positions={config.n_positions}: shorten the input")
    check_shape("token_type_ids", token_type_ids, (*lead, new))
    check_shape("position_ids", position_ids, (*lead, new), (*(1 for _ in lead), new))
    _check_mask(attention_mask, lead, new, past, total)
    check_shape("head_mask", head_mask, (config.n_head,), (config.n_layer, config.n_head))
    _check_encoder(config, encoder_hidden_states, encoder_attention_mask, past_key_values, (*lead, new))


def rows_of(lead: Shape) -> int | None:
    """Returns how many sequences the axes before the tokens hold."""
    rows: int | None = 1
    for size in lead:
        rows = None if rows is None or size is None else rows * size
    return rows


def check_shape(name: str, shape: Shape | None, *allowed: Shape) -> None:
    """Raises GPT2Error unless a shape is one of the allowed; None passes."""
    if shape is None or any(_fits(shape, wanted) for wanted in allowed):
        return
    raise GPT2Error(f"{name} has shape {tuple(shape)}, it must be {' or '.join(str(tuple(s)) for s in allowed)}")


def _fits(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(_same(a, b) for a, b in zip(shape, wanted, strict=True))


def _same(a: int | None, b: int | None) -> bool:
    return a is None or b is None or a == b


def _check_mask(mask: Shape | None, lead: Shape, new, past, total) -> None:
    axes = len(lead)
    if mask is not None and len(mask) == axes + 1 and total is not None and mask[axes] == new != total:
        raise GPT2Error(
            f"attention_mask covers the {new} new tokens only: with past_key_values it must cover the "
            f"{past} past ones too, shape {(*lead, total)}"
        )
    check_shape("attention_mask", mask, (*lead, total), (*lead, 1, new, total))


def _past_length(config: GPT2Config, past: Sequence | None, rows: int | None) -> int | None:
    """Returns the length of a cache, None where a graph does not know it; raises unless every entry fits."""
    if past is None:
        return 0
    with_encoder = _holds_encoder(past)
    sizes = "pairs (key, value)"
    if config.add_cross_attention:
        sizes += ", or the four of cross-attention (key, value, cross_key, cross_value)"
    allowed = 4 if with_encoder and config.add_cross_attention else 2
    if len(past) != config.n_layer or any(len(entry) != allowed for entry in past):
        held = sorted({len(entry) for entry in past})
        raise GPT2Error(
            f"past_key_values has {len(past)} entries of {' and '.join(map(str, held)) or 'no'} tensors, "
            f"it must be n_layer={config.n_layer} {sizes}"
        )
    for kind, part in (("P", slice(0, 2)), ("E", slice(2, 4))):
        shapes = [shape for entry in past for shape in entry[part]]
        length = shapes[0][2] if shapes and len(shapes[0]) == 4 else None
        wanted = (rows, config.n_head, length, config.head_dim)
        for shape in shapes:
            if not _fits(shape, wanted):
                raise GPT2Error(
                    f"past_key_values holds a tensor of shape {tuple(shape)}, it must be "
                    f"(B, n_head, {kind}, head_dim) = {wanted}"
                )
    return past[0][0][2]


def _holds_encoder(past: Sequence | None) -> bool:
    return past is not None and len(past) > 0 and len(past[0]) == 4


def _check_encoder(config: GPT2Config, states: Shape | None, mask: Shape | None, past, tokens: Shape) -> None:
    *lead, new = tokens
    if states is None and mask is None:
        return
    if not config.add_cross_attention:
        name = "encoder_attention_mask" if states is None else "encoder_hidden_states"
        raise GPT2Error(f"{name} was given to a model without cross-attention: it needs add_cross_attention=True")
    if states is None and not _holds_encoder(past):
        raise GPT2Error("encoder_attention_mask was given without encoder_hidden_states: give both")
    check_shape("encoder_hidden_states", states, (*lead, None, config.n_embd))
    length = past[0][2][2] if states is None else states[-2]
    if length == 0:
        raise GPT2Error("encoder_hidden_states holds no tokens: give at least one, or leave it out")
    check_shape("encoder_attention_mask", mask, (*lead, length), (*lead, new, length))


def check_config(model: str, config: object) -> None:
    """Raises GPT2Error unless a class of the name `model` was given a config to be made of."""
    if not isinstance(config, GPT2Config):
        raise GPT2Error(
            f"config is a {type(config).__name__}: give a GPT2Config, or use {model}.from_pretrained(folder)"
        )


def check_constructor(model: type, *names: str) -> None:
    """Raises GPT2Error unless a model's class, which may be a user's own, takes these arguments when it is made."""
    taken = inspect.signature(model.__init__).parameters  # type: ignore[misc]
    missing = [name for name in names if name not in taken]
    if missing and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        raise GPT2Error(
            f"{model.__name__}.__init__ takes no {' and no '.join(missing)}: give it **kwargs, and hand them on to "
            "super().__init__"
        )


def check_table(config: GPT2Config, layer: object) -> None:
    """Raises GPT2Error unless a layer has a weight (vocab_size, C), as a word table must."""
    wanted = (config.vocab_size, config.n_embd)
    if tuple(getattr(getattr(layer, "weight", None), "shape", ())) != wanted:
        raise GPT2Error(
            f"the word table must be a layer with a weight {wanted}; resize_token_embeddings changes its size"
        )


def check_logits_to_keep(logits_to_keep: object, labels: object) -> None:
    """Raises GPT2Error unless it is a whole number of last positions, 0 for all of them, as labels need."""
    if not is_int(plain(logits_to_keep)) or logits_to_keep < 0:  # type: ignore[operator]
        raise GPT2Error(f"logits_to_keep={logits_to_keep!r}: it must be a whole number; 0 keeps every position")
    if logits_to_keep and labels is not None:
        raise GPT2Error(f"labels need every logit, logits_to_keep={logits_to_keep} drops some: leave it at 0")


def check_mask(name: str, mask: np.ndarray | None) -> None:
    """Raises GPT2Error unless a mask holds truth values, or 1 for what is kept and 0 for what is not; None passes."""
    if mask is not None and mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        wrong = mask[~np.isin(mask, (0, 1))].flat[0]
        raise GPT2Error(
            f"{name} holds {wrong:g}: it must be 1 for tokens that are kept and 0 for those that are not. "
            "Where you have a mask to be added to the scores, pass mask == 0"
        )


def check_ids(config: GPT2Config, name: str, ids: np.ndarray | None, dtype: str) -> None:
    """Raises GPT2Error unless ids of type `dtype` are whole numbers within the table that they index.

    None passes: numbers that a graph cannot look at yet.
    """
    field = "n_positions" if name == "position_ids" else "vocab_size"
    check_range(name, ids, dtype, getattr(config, field), field)


def check_range(name: str, ids: np.ndarray | None, dtype: str, end: int, what: str, *, skip: bool = False) -> None:
    """Raises GPT2Error unless all of `ids` are whole numbers from 0 to `end` - 1, which is called `what`.

    None passes, if its type is one of whole numbers. skip: -100 is allowed too, for what does not count.
    """
    check_whole(name, dtype)
    if ids is None:
        return
    counted = ids[ids != -100] if skip else ids
    if counted.size and not (0 <= counted.min() and counted.max() < end):
        wrong = counted[(counted < 0) | (counted >= end)].flat[0]
        raise GPT2Error(
            f"{name} holds {wrong}: it must be from 0 to {what} - 1 = {end - 1}"
            + (", or -100 for what does not count" if skip else "")
        )


def check_whole(name: str, dtype: str) -> None:
    """Raises GPT2Error unless a type, named as in numpy, is one of whole numbers."""
    if not dtype.startswith(("int", "uint")):
        kind = "truth values" if dtype == "bool" else "fractional numbers" if "float" in dtype else dtype
        raise GPT2Error(f"{name} holds {kind}: ids must be whole numbers")


def check_pairs(past: object) -> None:
    """Raises GPT2Error unless a cache is a sequence of sequences of tensors."""
    entries = past if isinstance(past, list | tuple) else None
    if entries is None or not all(isinstance(e, list | tuple) and all(hasattr(x, "shape") for x in e) for e in entries):
        raise GPT2Error("past_key_values must be what a model returned: n_layer pairs (key, value) of tensors")


def as_array(name: str, values: object) -> np.ndarray:
    """Returns a list or an array of numbers as an array; rows of unequal length raise."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise GPT2Error(f"{name} has rows of unequal length: pad them, and pass attention_mask") from None
    if array.dtype.kind not in "iufb":
        raise GPT2Error(f"{name} holds {array.dtype}: it must hold numbers")
    return array
