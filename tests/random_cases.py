"""Random small models and random calls of them, one pair a seed: what the parity tests run through both frameworks."""

from __future__ import annotations

import numpy as np

from gpt2_core import GPT2Config
from gpt2_core.config import ACTIVATIONS, SUMMARY_TYPES


def random_config(seed: int, head: str = "lm_head") -> GPT2Config:
    """Returns a small config in which every field that changes a number takes all kinds of values."""
    r = np.random.default_rng([seed, 1])
    heads = int(r.integers(1, 4))
    vocab_size = int(r.integers(20, 90))
    labels = int(r.integers(1, 5))
    given = {"num_labels": labels} if head != "double_heads" or r.integers(2) else {}  # else one score a choice
    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=int(r.integers(12, 40)),
        n_head=heads,
        n_embd=heads * int(r.integers(-(-8 // heads), 13)),  # a layer norm of two numbers is all cancellation
        n_layer=int(r.integers(1, 4)),
        n_inner=r.choice([None, 24]),
        activation_function=str(r.choice(ACTIVATIONS)),
        layer_norm_epsilon=float(r.choice([1e-5, 1e-3])),
        initializer_range=float(r.choice([0.02, 0.3])),
        scale_attn_weights=bool(r.integers(2)),
        scale_attn_by_inverse_layer_idx=bool(r.integers(2)),
        reorder_and_upcast_attn=bool(r.integers(2)),
        tie_word_embeddings=bool(r.integers(2)),
        add_cross_attention=bool(r.random() < 0.4),
        use_cache=bool(r.integers(2)),
        output_attentions=bool(r.integers(2)),
        output_hidden_states=bool(r.integers(2)),
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=r.choice([None, 0, vocab_size - 1]),
        summary_type=str(r.choice(SUMMARY_TYPES)),
        summary_use_proj=bool(r.random() < 0.8),
        summary_activation=r.choice([None, *ACTIVATIONS]),
        summary_proj_to_labels=bool(r.random() < 0.8),
        problem_type=_problem(r, labels) if head == "sequence_classification" else None,
        **given,
    )


def _problem(r, labels):
    kinds = [None, "regression", "multi_label_classification", "single_label_classification"]
    return r.choice(kinds if labels > 1 else kinds[:2])


def random_inputs(config: GPT2Config, head: str, seed: int) -> dict:
    """Returns the arguments of one call: padding of every kind, a past of any length, embeddings, masks, an encoder.

    In place of a cache there may be `before`, the arguments of the call of the trunk that makes it: input cut in two.
    """
    r = np.random.default_rng([seed, 2])
    lead = (int(r.integers(1, 4)),) if head != "double_heads" else (int(r.integers(1, 3)), int(r.integers(1, 4)))
    P = int(r.integers(1, config.n_positions - 1)) if r.random() < 0.4 else 0
    T = int(r.integers(2, config.n_positions - P + 1))
    tokens = (*lead, T)
    inputs = _tokens(config, r, tokens)
    mask = random_mask(r, lead, T, P)
    if mask is not None:
        inputs["attention_mask"] = mask
    if r.random() < 0.3:
        inputs["token_type_ids"] = r.integers(0, config.vocab_size, tokens)
    if r.random() < 0.3:
        shape = tokens if r.integers(2) else (*(1 for _ in lead), T)
        inputs["position_ids"] = r.integers(0, config.n_positions, shape)
    if r.random() < 0.3:
        shape = (config.n_head,) if r.integers(2) else (config.n_layer, config.n_head)
        inputs["head_mask"] = r.random(shape) if r.integers(2) else r.integers(0, 2, shape)
    inputs |= _encoder(config, r, tokens)
    if P:
        inputs |= _past(config, r, tokens, P, mask)
        cached = _encoder_tokens(inputs)
        if cached and "encoder_hidden_states" not in inputs and r.integers(2):
            inputs["encoder_attention_mask"] = _keep(r, (*lead, cached))
    for flag in ("use_cache", "output_attentions", "output_hidden_states"):
        if r.integers(2):
            inputs[flag] = bool(r.integers(2))
    return inputs | _targets(config, r, head, tokens, inputs)


def _tokens(config, r, tokens):
    if r.random() < 0.25:
        return {"inputs_embeds": r.normal(size=(*tokens, config.n_embd))}
    ids = r.integers(0, config.vocab_size, tokens)
    if config.pad_token_id is not None and r.integers(2):  # some of them within the text, some at its end
        ids[r.random(tokens) < 0.2] = config.pad_token_id
        ids[..., tokens[-1] - int(r.integers(0, 3)) :] = config.pad_token_id
    return {"input_ids": ids.astype(r.choice(["int32", "int64"]))}


def random_mask(r, lead, T, P):
    """Returns a mask (*lead, P + T), padded right, left, inside or everywhere, or one (*lead, 1, T, P + T), or None."""
    S = P + T
    kind = r.choice(["none", "right", "left", "both", "holes", "nothing kept", "given"])
    if kind == "none":
        return None
    if kind == "given":  # also with queries that see nothing at all
        return _keep(r, (*lead, 1, T, S), bool)
    if kind == "holes":
        return _keep(r, (*lead, S))
    mask = np.ones((*lead, S), r.choice(["int64", "float32", "bool"]))
    for row in np.ndindex(lead):
        left, right = r.integers(0, S // 2 + 1, 2)
        mask[row][: left if kind in ("left", "both") else 0] = 0
        mask[row][S - (right if kind in ("right", "both") else 0) :] = 0
    if kind == "nothing kept":
        mask[(0,) * len(lead)] = 0
    return mask


def _keep(r, shape, dtype=np.int64):
    return (r.random(shape) < 0.75).astype(dtype)


def _encoder(config, r, tokens):
    if not config.add_cross_attention or r.random() < 0.2:
        return {}
    *lead, T = tokens
    E = int(r.integers(1, 6))
    found = {"encoder_hidden_states": r.normal(size=(*lead, E, config.n_embd))}
    shapes = {"none": None, "keys": (*lead, E), "pairs": (*lead, T, E)}
    shape = shapes[r.choice(list(shapes))]
    return found if shape is None else found | {"encoder_attention_mask": _keep(r, shape)}


def _past(config, r, tokens, P, mask):
    """Returns a cache of P tokens that nothing computed, or the call before, whose cache it is."""
    rows = int(np.prod(tokens[:-1]))
    if r.integers(2):
        before = _tokens(config, r, (rows, P)) | _encoder(config, r, (rows, P))
        if mask is not None:
            seen = _keep(r, (rows, 1, P, P), bool) if mask.ndim > len(tokens) else mask.reshape(rows, -1)[:, :P]
            before["attention_mask"] = seen
        return {"before": before}
    cached = int(r.integers(1, 5)) if config.add_cross_attention and r.integers(2) else 0
    lengths = [P, P] + ([cached, cached] if cached else [])
    shapes = [(rows, config.n_head, length, config.head_dim) for length in lengths]
    return {"past_key_values": tuple(tuple(r.normal(size=shape) for shape in shapes) for _ in range(config.n_layer))}


def past_length(inputs):
    """Returns how many tokens went before those of a call."""
    if "before" in inputs:
        before = inputs["before"]
        return (before["input_ids"] if "input_ids" in before else before["inputs_embeds"]).shape[1]
    return inputs["past_key_values"][0][0].shape[2] if "past_key_values" in inputs else 0


def _encoder_tokens(inputs):
    """Returns how many tokens of an encoder a call's cache holds."""
    if "before" in inputs:
        return inputs["before"].get("encoder_hidden_states", np.empty((0, 0))).shape[1]
    past = inputs["past_key_values"][0]
    return past[2].shape[2] if len(past) == 4 else 0


def _targets(config, r, head, tokens, inputs):
    """Returns what the head learns from, most of the time."""
    *lead, T = tokens
    B = lead[0]
    if head == "lm_head" and r.random() < 0.2:
        return {"logits_to_keep": int(r.integers(0, T + 1))}
    if head == "model":
        return {}
    found = {}
    if head in ("lm_head", "double_heads"):
        found["labels"] = _with_gaps(r, r.integers(0, config.vocab_size, tokens))
    if head == "token_classification":
        found["labels"] = _with_gaps(r, r.integers(0, config.num_labels, tokens))
    if head == "double_heads":
        found |= _choices(config, r, tokens)
    if head == "question_answering":
        # past the end: the answer was cut off
        found = {name: r.integers(0, T + 1, B) for name in ("start_positions", "end_positions")}
        for places in found.values():
            places[0] = r.integers(0, T)
    if head == "sequence_classification":
        found["labels"] = _sequence_labels(config, r, B)
        seen = inputs.get("attention_mask")
        two_axes = seen is not None and seen.ndim == 2
        if not two_axes and B > 1 and (config.pad_token_id is None or "inputs_embeds" in inputs):
            found["attention_mask"] = _keep(r, (B, past_length(inputs) + T))  # else nothing tells where a row ends
    return found


def _choices(config, r, tokens):
    B, N, T = tokens
    found = {"mc_token_ids": r.integers(0, T, (B, N))} if r.integers(2) else {}
    if config.summary_use_proj and config.summary_proj_to_labels and r.random() < 0.8:
        many = config.summary_width > 1
        found["mc_labels"] = r.integers(0, config.num_labels, (B, N)) if many else r.integers(0, N, B)
    return found


def _sequence_labels(config, r, B):
    K, problem = config.num_labels, config.problem_type
    if K == 1:
        return r.normal(size=(B, 1) if r.integers(2) else (B,))
    if problem == "regression":
        return r.normal(size=(B, K))
    if problem == "multi_label_classification" or (problem is None and r.integers(2)):
        return r.random((B, K)) if r.integers(2) else r.integers(0, 2, (B, K))
    return r.integers(0, K, (B, 1) if r.integers(2) else (B,))


def _with_gaps(r, labels):
    """Returns labels some of which do not count; the second of the first row, which a first token predicts, does."""
    labels = np.where(r.random(labels.shape) < 0.2, -100, labels)
    first = (0,) * (labels.ndim - 1)
    labels[(*first, 1)] = abs(labels[(*first, 1)]) % 2
    return labels


def in_dtype(inputs, dtype):
    """Returns the inputs with their floating point arrays in `dtype`."""

    def cast(x):
        if isinstance(x, tuple):
            return tuple(cast(item) for item in x)
        if isinstance(x, dict):
            return in_dtype(x, dtype)
        return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x

    return {name: cast(x) for name, x in inputs.items()}
