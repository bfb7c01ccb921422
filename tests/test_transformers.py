"""300 random models and calls a head, in float64: PyTorch against transformers 5, wherever the contract is the same.

What differs by design is taken out of the calls here, line by line; each is a row of docs/parity.md. The numbers in the
names of the tests are the seeds.
"""

import dataclasses
import logging

import keras
import numpy as np
import pytest
import torch

from gpt2_core import parity
from gpt2_core.parity import TOLERANCE, require_close
from gpt2_core.targets import problem_type
from gpt2_core.weights import HEADS
from tests.comparing import measured_by_the_largest
from tests.frameworks import ARCHITECTURES, Torch, compute, to_numpy
from tests.random_cases import past_length, random_config, random_inputs

transformers = pytest.importorskip("transformers", minversion="5", reason="transformers 5 is not installed")
logging.getLogger("transformers").setLevel(logging.ERROR)  # it warns of token ids outside of tiny vocabularies


def common_config(seed, head):
    """Returns a random config without what transformers has otherwise."""
    config = random_config(seed, head)
    # there it narrows float64; in float64 the order and the upcast change no formula
    config = dataclasses.replace(config, reorder_and_upcast_attn=False)
    if head == "double_heads":  # one score a choice there, whatever num_labels says
        config = dataclasses.replace(config, num_labels=2, id2label=None)
    return config


def common_call(config, head, seed):
    """Returns a random call without what transformers has otherwise."""
    call = random_inputs(config, head, seed)
    call.pop("head_mask", None)  # taken out of transformers 5
    if head == "double_heads" and "inputs_embeds" in call:  # these cannot have an axis of choices there
        call["input_ids"] = (np.abs(call.pop("inputs_embeds")[..., 0]) * 1000).astype(np.int64) % config.vocab_size
    tokens = call["input_ids"].shape if "input_ids" in call else call["inputs_embeds"].shape[:-1]
    P = past_length(call)
    # counted from the start there, whatever the mask says
    position_ids = call.setdefault(
        "position_ids", np.arange(P, P + tokens[-1]).reshape((1,) * (len(tokens) - 1) + (-1,))
    )
    call["position_ids"] = np.broadcast_to(position_ids, tokens).copy()
    if head == "sequence_classification" and call.get("attention_mask", position_ids).ndim > 2:
        call.pop("attention_mask")  # it has no column to end a row by
    call["attention_mask"] = seen_by_someone(call.get("attention_mask"), tokens, P)
    encoder = call.get("encoder_attention_mask")
    if encoder is not None:
        encoder[..., 0] = 1
        if encoder.ndim > len(tokens):  # one of each query is refused there
            call["encoder_attention_mask"] = encoder[..., 0, :]
    if "encoder_hidden_states" not in call:  # the cache of an encoder is not used alone
        call.pop("encoder_attention_mask", None)
    if "past_key_values" in call:  # and given states are not looked at beside one
        call["past_key_values"] = tuple(entry[:2] for entry in call["past_key_values"])
    if "before" in call:
        call["before"] = common_before(call, P)
    if head == "sequence_classification":  # pools by padding alone
        call = pooled_alike(config, call, tokens)
    if head == "double_heads":
        call.setdefault("mc_token_ids", np.full(tokens[:2], tokens[-1] - 1))
        if config.summary_type != "cls_index":  # over choices there, not over tokens
            call.pop("mc_labels", None)
    return call | {"output_attentions": True, "output_hidden_states": True, "use_cache": True}


def common_before(call, P):
    """Returns the arguments of the trunk's call before, the encoder's as in the call that follows it."""
    ids = {name: x for name, x in call["before"].items() if name in ("input_ids", "inputs_embeds")}
    rows = next(iter(ids.values())).shape[0]
    encoder = {name: call[name] for name in ("encoder_hidden_states", "encoder_attention_mask") if name in call}
    return ids | {
        "position_ids": np.arange(P)[None].repeat(rows, 0),
        "attention_mask": seen_by_someone(call["before"].get("attention_mask"), (rows, P), 0),
        **{
            name: x.reshape(rows, *x.shape[-2:]) if name == "encoder_hidden_states" else x.reshape(rows, -1)
            for name, x in encoder.items()
        },
    }


def seen_by_someone(mask, tokens, P):
    """Returns a mask in which the first key is kept: what a query gives that sees nothing, or learns, differs."""
    mask = np.ones((*tokens[:-1], P + tokens[-1]), np.int64) if mask is None else mask.astype(np.int64)
    mask[..., 0] = 1
    return mask


def pooled_alike(config, call, tokens):
    """Returns a call whose rows end where transformers finds their ends."""
    if "input_ids" in call and config.pad_token_id is not None:
        call["input_ids"][:, 0] = (config.pad_token_id + 1) % config.vocab_size  # no row of padding alone
        ends = tokens[1] - 1 - np.argmax(call["input_ids"][:, ::-1] != config.pad_token_id, axis=1)
    else:  # one row alone can do without
        call = {name: one_row(name, x) for name, x in call.items()}
        ends = np.array([tokens[1] - 1])
    mask = call["attention_mask"][:, -tokens[1] :]  # a view: the last token that it keeps is to be that one
    mask[np.arange(tokens[1]) >= ends[:, None]] = 0
    mask[np.arange(len(ends)), ends] = 1
    return call


def one_row(name, x):
    if name == "past_key_values":
        return tuple(tuple(part[:1] for part in entry) for entry in x)
    if name == "before":
        return {inner: y[:1] for inner, y in x.items()}
    return x[:1] if isinstance(x, np.ndarray) else x


def theirs_of(config, model, head):
    """Returns transformers' model with the weights of ours."""
    values = {name: value for name, value in config.to_dict().items() if value is not None}
    made = getattr(transformers, ARCHITECTURES[head])(
        transformers.GPT2Config(**values, attn_implementation="eager")
    ).double()
    state = model.state_dict()
    if config.tie_word_embeddings and head in ("lm_head", "double_heads"):
        state["lm_head.weight"] = state["transformer.wte.weight"]
    made.load_state_dict(state, strict=True)
    return made.eval()


def learn(model, call, config, head):
    """Returns the outputs and the gradients of transformers' model, under our names."""
    theirs = as_theirs(call, config, head)
    if "before" in theirs:
        trunk = model if head == "model" else model.transformer
        theirs["past_key_values"] = trunk(**theirs.pop("before"), use_cache=True).past_key_values
    out = model(**theirs)
    fields = {name: tuple(x) if isinstance(x, list) else x for name, x in out.items() if name != "past_key_values"}
    outputs = parity.flatten(tuple_of(fields))
    weights = dict(model.named_parameters())
    found = torch.autograd.grad(weighed(outputs, head, config, call), list(weights.values()), **UNUSED)
    return outputs, {name: to_numpy(x) for name, x in zip(weights, found, strict=True)}


UNUSED = {"allow_unused": True, "materialize_grads": True}


def as_theirs(call, config, head):
    """Returns the call as transformers takes it."""
    call = tensors(call)
    if "before" in call:
        call["before"] = as_theirs(call["before"], config, "model")
    if head == "double_heads":
        for name in ("position_ids", "attention_mask", "encoder_hidden_states", "encoder_attention_mask"):
            if name in call:
                call[name] = call[name].flatten(0, 1)
    if call["attention_mask"].ndim == 4:  # to be added there
        seen = call["attention_mask"] != 0
        call["attention_mask"] = torch.zeros(seen.shape).double().masked_fill(~seen, torch.finfo(torch.float64).min)
    if head == "sequence_classification" and problem_type(config, call["labels"].shape) == "multi_label_classification":
        call["labels"] = call["labels"].double()
    if "past_key_values" in call:
        cache = transformers.DynamicCache([tuple(map(torch.as_tensor, entry)) for entry in call["past_key_values"]])
        if "encoder_hidden_states" in call:
            cache = transformers.EncoderDecoderCache(cache, transformers.DynamicCache())
        call["past_key_values"] = cache
    return call


def tensors(call):
    """Returns a call with tensors for arrays."""
    return keras.tree.map_structure(lambda x: torch.as_tensor(x) if isinstance(x, np.ndarray) else x, call)


def tuple_of(fields):
    from collections import namedtuple

    return namedtuple("Fields", fields)(**fields)


def shown(outputs, head, config, call):
    """Returns the outputs that mean the same in both, in one shape, at tokens that are real."""
    T = call["position_ids"].shape[-1]
    mask = call["attention_mask"]
    kept = mask[..., -T:] == 1 if mask.ndim == call["position_ids"].ndim else np.ones_like(call["position_ids"], bool)
    rows = torch.as_tensor(kept.reshape(-1, T))
    found = {}
    for name, x in outputs.items():
        field = name.split(".")[0]
        if field in ("loss", "mc_loss", "past_key_values") or (
            field == "mc_logits" and config.summary_type != "cls_index"
        ):
            continue
        if field in ("hidden_states", "last_hidden_state") or (field == "logits" and head != "sequence_classification"):
            x = x.reshape(*rows.shape[:1], -1, x.shape[-1])
            x = x[rows[:, -x.shape[1] :]]
        elif field in ("attentions", "cross_attentions"):
            x = x.reshape(len(rows), config.n_head, *x.shape[-2:]).transpose(1, 2)[rows]
        elif field in ("start_logits", "end_logits"):
            x = x[rows]
        found[name] = x
    return found


def weighed(outputs, head, config, call):
    """Returns a sum of all outputs, each number with a weight of its own: what gradients are taken of."""
    found = shown(outputs, head, config, call)
    parts = [(x * torch.cos(torch.arange(x.numel())).reshape(x.shape)).sum() for _, x in sorted(found.items())]
    return sum(parts[1:], parts[0])


def real_targets(call, head):
    """Returns the call with no target at padding, nor after it: what is computed there is each one's own affair."""
    T, mask, labels = call["position_ids"].shape[-1], call["attention_mask"], call.get("labels")
    kept = mask[..., -T:] == 1
    if labels is None or head == "sequence_classification" or labels.shape != kept.shape:
        return call
    before = np.concatenate([np.ones_like(kept[..., :1]), kept[..., :-1]], axis=-1)
    labels = np.where(kept & before, labels, -100)
    without = {name: x for name, x in call.items() if name != "labels"}
    return without | {"labels": labels} if (labels[..., 1:] != -100).any() else without


@pytest.mark.parametrize("seed", range(300))
@pytest.mark.parametrize("head", HEADS)
def test_torch_equals_transformers(head, seed):
    config = common_config(seed, head)
    call = real_targets(common_call(config, head, seed), head)
    model = Torch().create(head, config, seed=seed, dtype="float64")
    theirs, expected = learn(theirs_of(config, model, head), call, config, head)
    ours = parity.flatten(compute(model, tensors(call)))
    ours = {name: x for name, x in ours.items() if name in theirs}  # theirs have no cross-attentions but for two heads
    weights = dict(model.named_parameters())
    found = torch.autograd.grad(weighed(ours, head, config, call), list(weights.values()), **UNUSED)
    gradients = {name: to_numpy(x) for name, x in zip(weights, found, strict=True)}

    # in float32 there, whatever the model's type
    losses = [{name: to_numpy(x) for name, x in side.items() if name in ("loss", "mc_loss")} for side in (ours, theirs)]
    if losses[1]:
        require_close(*losses, TOLERANCE["float32"])
    ours, theirs = ({n: to_numpy(x) for n, x in shown(side, head, config, call).items()} for side in (ours, theirs))
    ours |= measured_by_the_largest(gradients, expected, "float64")
    theirs |= measured_by_the_largest(expected, expected, "float64")
    require_close(ours, theirs, TOLERANCE["float64"])
