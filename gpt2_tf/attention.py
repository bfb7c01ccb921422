"""Causal self-attention, cross-attention, and what each query sees."""

import contextlib
import contextvars
import math

import keras
import numpy as np
from keras import ops

from .dropout import dropout
from .layers import Conv1D, wide
from .matmul import similarities, weighted

_OWNED = contextvars.ContextVar("owned", default=None)

# B batch, T new tokens, P past, S = P + T, E encoder tokens, C n_embd, H heads, D = C / H


def visible_keys(attention_mask, new, past):
    """Returns (keep, causal), boolean, broadcastable to (B, H, T, S): the keys that a query sees, and those that it
    spreads over when it sees none, because all before it is padding. A 4-D mask is taken as given."""
    query = ops.arange(past, past + new)[:, None]
    causal = ops.arange(past + new)[None, :] <= query  # (T, S)
    if attention_mask is None:
        return causal, causal
    keep = ops.not_equal(attention_mask, 0)
    if len(keep.shape) == 4:
        return keep, ops.ones_like(causal)
    return causal & keep[:, None, None, :], causal  # (B, 1, T, S), (T, S)


def visible_slots(kept, places):
    """Returns (keep, causal), as above, of a cache's S slots, of which a query at a place sees those before and it.

    Padding sees itself: every query sees a key.
    """
    slots = ops.arange(ops.shape(kept)[1])
    causal = slots <= places[:, None]  # (T, S)
    return (causal & kept[:, None, None, :]) | (slots == places[:, None]), causal  # (B, 1, T, S), (T, S)


def visible_encoder_keys(encoder_attention_mask, length):
    """Returns (keep, every), as above, of the encoder's tokens, which have no order."""
    every = ops.ones((1, length), "bool")
    if encoder_attention_mask is None:
        return every, every
    keep = ops.not_equal(encoder_attention_mask, 0)
    return keep[:, None, None, :] if len(keep.shape) == 2 else keep[:, None], every  # (B, 1, 1 or T, E), (1, E)


def put(slots, places, x):
    """Returns a cache's slots (B, H, S, D) with x (B, H, T, D) at places (T,), which follow one another."""
    owned, D = _OWNED.get(), x.shape[-1]
    if owned is None:
        return ops.slice_update(slots, (0, 0, places[0], 0), x)
    import tensorflow as tf

    if not owned:  # the same for every layer
        shape = tf.shape(slots)
        owned += tf.reshape(tf.range(shape[0] * shape[1])[:, None] * shape[2] + places, (-1,)), shape
    rows, shape = owned
    filled = tf.raw_ops.InplaceUpdate(x=tf.reshape(slots, (-1, D)), i=rows, v=tf.reshape(x, (-1, D)))
    return tf.reshape(filled, shape)


@contextlib.contextmanager
def owned_caches():
    """Has what TensorFlow traces in this context write into caches instead of copying them: no one else holds them."""
    token = _OWNED.set([])
    try:
        yield
    finally:
        _OWNED.reset(token)


class MultiHead(keras.layers.Layer):
    """What both attentions share: C split into heads, and their weighted sums over the keys."""

    def __init__(self, config, layer_idx, **kwargs):
        super().__init__(**kwargs)
        self.n_head, self.head_dim = config.n_head, config.head_dim
        self.scale = 1.0
        if config.scale_attn_weights:
            self.scale /= math.sqrt(config.head_dim)
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer_idx + 1
        self.upcast = config.reorder_and_upcast_attn
        self.attn_dropout = config.attn_pdrop
        self.resid_dropout = config.resid_pdrop

    def split_heads(self, x):
        T = ops.shape(x)[1]
        return ops.transpose(ops.reshape(x, (-1, T, self.n_head, self.head_dim)), (0, 2, 1, 3))  # (B, H, T, D)

    def merge_heads(self, a):
        T = ops.shape(a)[2]
        return ops.reshape(ops.transpose(a, (0, 2, 1, 3)), (-1, T, self.n_head * self.head_dim))  # (B, T, C)

    def probabilities(self, q, k, keep, causal):
        """Returns (B, H, T, S), the softmax in float32 at least; finite also where a query sees no key."""
        dtype, wider = self.compute_dtype, wide(self.compute_dtype)
        if self.upcast:
            q, k = ops.cast(q, wider), ops.cast(k, wider)
        w = ops.cast(similarities(q * self.scale, k), wider)  # (B, H, T, S)
        lowest, never = ops.cast(np.finfo(wider).min, wider), ops.cast(-np.inf, wider)
        w = ops.where(keep, w, ops.where(causal, lowest, never))
        # of a single key, a prompt of one token, the softmax is 1; Keras would warn of it
        w = ops.ones_like(w) if w.shape[-1] == 1 else ops.softmax(w, axis=-1)
        return ops.cast(w, dtype)

    def attend(self, q, k, v, visible, head_mask, seed):
        """Returns (B, T, C), before the projection, and the weights (B, H, T, S) of each value."""
        w = self.probabilities(q, k, *visible)
        if head_mask is not None:
            w = w * ops.cast(head_mask, w.dtype)[:, None, None]
        return self.merge_heads(weighted(dropout(w, self.attn_dropout, seed), v)), w


class Attention(MultiHead):
    """Attention of new tokens over the past and themselves."""

    def __init__(self, config, layer_idx, **kwargs):
        super().__init__(config, layer_idx, **kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd, name="c_attn", dtype=dtype)
            self.c_proj = Conv1D(config.n_embd, config.n_embd, name="c_proj", dtype=dtype)
        self.built = True

    def call(self, x, visible, past=None, head_mask=None, places=None, seed=None):
        q, k, v = (self.split_heads(part) for part in ops.split(self.c_attn(x), 3, axis=-1))  # each (B, H, T, D)
        if past is not None and places is None:
            k = ops.concatenate([ops.cast(past[0], k.dtype), k], axis=2)  # (B, H, S, D)
            v = ops.concatenate([ops.cast(past[1], v.dtype), v], axis=2)
        present = k, v
        if places is not None:  # slots for them, made beforehand, of which the first ones may be seen
            present = put(past[0], places, k), put(past[1], places, v)
            k, v = (slots[:, :, : ops.shape(visible[0])[-1]] for slots in present)
        a, w = self.attend(q, k, v, visible, head_mask, seed)
        return dropout(self.c_proj(a), self.resid_dropout, seed, 1), present, w


class CrossAttention(MultiHead):
    """Attention of new tokens over an encoder's, whose keys and values are those of the past unless it is given."""

    def __init__(self, config, layer_idx, **kwargs):
        super().__init__(config, layer_idx, **kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.c_attn = Conv1D(config.n_embd, 2 * config.n_embd, name="c_attn", dtype=dtype)
            self.q_attn = Conv1D(config.n_embd, config.n_embd, name="q_attn", dtype=dtype)
            self.c_proj = Conv1D(config.n_embd, config.n_embd, name="c_proj", dtype=dtype)
        self.built = True

    def call(self, x, encoder, visible, past=None, head_mask=None, seed=None):
        q = self.split_heads(self.q_attn(x))  # (B, H, T, D)
        if encoder is None:
            k, v = (ops.cast(part, q.dtype) for part in past)
        else:
            k, v = (self.split_heads(part) for part in ops.split(self.c_attn(encoder), 2, axis=-1))  # each (B, H, E, D)
        a, w = self.attend(q, k, v, visible, head_mask, seed)
        return dropout(self.c_proj(a), self.resid_dropout, seed, 1), (k, v), w
