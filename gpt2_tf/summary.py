"""One vector for a sequence: where it ends, and the head that summarises it."""

import keras
import numpy as np
from keras import ops

from .dropout import dropout
from .layers import ACTIVATIONS, Linear


def kept_tokens(attention_mask, new):
    """Returns which of the new tokens are real, boolean (B, T); None where no mask (B, S) tells."""
    known = attention_mask is not None and len(attention_mask.shape) == 2
    return ops.not_equal(attention_mask[:, -new:], 0) if known else None


def first_kept(keep):
    """Returns the place of each row's first real token (B,), 0 where it has none."""
    return ops.argmax(ops.cast(keep, "int32"), axis=1)


def last_kept(keep):
    """Returns the place of each row's last real token (B,), the very last where it has none."""
    return ops.shape(keep)[1] - 1 - first_kept(ops.flip(keep, axis=1))


def at(x, index):
    """Returns the vector of x (B, T, C) at each row's place (B,)."""
    inside = ops.logical_and(index >= 0, index < ops.shape(x)[1])[:, None]
    index = ops.where(inside, index[:, None], 0)[:, :, None]
    # a graph cannot refuse a place that the row lacks: NaN tells of it
    return ops.where(inside, ops.take_along_axis(x, index, axis=1)[:, 0], ops.cast(np.nan, x.dtype))  # (B, C)


def mean_of_kept(x, keep):
    """Returns the mean of x (B, T, C) over each row's real tokens, over all where it has none."""
    keep = ops.logical_or(keep, ops.logical_not(ops.any(keep, axis=1, keepdims=True)))
    keep = ops.cast(keep, x.dtype)
    share = keep / ops.sum(keep, axis=1, keepdims=True)
    return ops.sum(x * share[:, :, None], axis=1)  # (B, C)


class SequenceSummary(keras.layers.Layer):
    """A sequence's vector, dropout, projection, activation, dropout."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.summary_type, self.activation = config.summary_type, config.summary_activation
        self.summary = None
        if config.summary_use_proj:
            with keras.name_scope(self.name):
                self.summary = Linear(
                    config.n_embd, config.summary_width, bias=True, name="summary", dtype=self.dtype_policy
                )
        self.first_dropout = config.summary_first_dropout
        self.last_dropout = config.summary_last_dropout
        self.built = True

    def pool(self, x, keep, index):
        """Returns (B, C): x (B, T, C) at its first or last real token or `index`, or the mean of the real ones."""
        if self.summary_type == "first":
            return at(x, first_kept(keep))
        if self.summary_type == "mean":
            return mean_of_kept(x, keep)
        return at(x, last_kept(keep) if index is None or self.summary_type == "last" else index)

    def call(self, x, keep, index, seed=None):
        x = dropout(self.pool(x, keep, index), self.first_dropout, seed)
        x = x if self.summary is None else self.summary(x)
        x = x if self.activation is None else ACTIVATIONS[self.activation](x)
        return dropout(x, self.last_dropout, seed, 1)
