"""A GPT-2 in numpy, as plain as it can be: what both trees are held against where no fixture reaches."""

import math

import numpy as np

erf = np.vectorize(math.erf)

ACTIVATIONS = {
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "linear": lambda x: x,
}
ACTIVATIONS |= {
    "gelu_pytorch_tanh": ACTIVATIONS["gelu_new"],
    "gelu_fast": ACTIVATIONS["gelu_new"],
    "swish": ACTIVATIONS["silu"],
}


def language_model(config, weights, ids):
    """Returns the logits (T, V) of one unpadded row of ids (T,), in float64."""
    w = {name.removeprefix("transformer."): np.asarray(values, np.float64) for name, values in weights.items()}
    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    for i in range(config.n_layer):
        block = {name.removeprefix(f"h.{i}."): values for name, values in w.items() if name.startswith(f"h.{i}.")}
        x = x + attention(config, block, layer_norm(config, block, "ln_1", x), i)
        x = x + mlp(config, block, layer_norm(config, block, "ln_2", x))
    head = w["wte.weight"] if config.tie_word_embeddings else w["lm_head.weight"]
    return layer_norm(config, w, "ln_f", x) @ head.T


def attention(config, w, x, layer_idx):
    q, k, v = np.split(x @ w["attn.c_attn.weight"] + w["attn.c_attn.bias"], 3, axis=-1)
    out = np.zeros_like(x)
    for head in range(config.n_head):
        part = slice(head * config.head_dim, (head + 1) * config.head_dim)
        for t in range(len(x)):  # each query by itself, over what came before
            scores = k[: t + 1, part] @ q[t, part]
            if config.scale_attn_weights:
                scores = scores / np.sqrt(config.head_dim)
            if config.scale_attn_by_inverse_layer_idx:
                scores = scores / (layer_idx + 1)
            p = np.exp(scores - scores.max())
            out[t, part] = (p / p.sum()) @ v[: t + 1, part]
    return out @ w["attn.c_proj.weight"] + w["attn.c_proj.bias"]


def mlp(config, w, x):
    inner = ACTIVATIONS[config.activation_function](x @ w["mlp.c_fc.weight"] + w["mlp.c_fc.bias"])
    return inner @ w["mlp.c_proj.weight"] + w["mlp.c_proj.bias"]


def layer_norm(config, w, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + config.layer_norm_epsilon)
    return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def next_token_loss(logits, labels):
    """Returns the mean of -log p of each label (T,) after its prefix; -100 does not count."""
    losses = [
        np.log(np.exp(row - row.max()).sum()) + row.max() - row[label]
        for row, label in zip(logits[:-1], labels[1:], strict=True)
        if label != -100
    ]
    return np.mean(losses)
