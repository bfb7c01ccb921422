"""The small layers: each owns `weight` and `bias` in the checkpoint's own layout."""

import math

import keras
import numpy as np
from keras import ops

from .matmul import product, scores
from .parameters import parameter


def wide(dtype):
    """Returns the type for softmax and loss: float32 at least, because in 16 bits they lose most of their places."""
    return "float64" if dtype == "float64" else "float32"


def as_int32(x):
    """Returns whole numbers in the type that Keras counts in; what it cannot hold comes out at its end, not wrapped.

    Of fractions, which a graph cannot refuse, comes -1, that is no id and no label.
    """
    if "float" in keras.backend.standardize_dtype(x.dtype):
        x = ops.where(ops.equal(x, ops.floor(x)), x, -1)
    if keras.backend.standardize_dtype(x.dtype) in ("int64", "uint32", "uint64"):
        x = ops.clip(x, 0 if "uint" in str(x.dtype) else -(2**31), 2**31 - 1)
    return ops.cast(x, "int32")


class Conv1D(keras.layers.Layer):
    """x W + b with W stored (in, out), GPT-2's name for a linear layer."""

    def __init__(self, n_in, n_out, **kwargs):
        super().__init__(**kwargs)
        self.weight = parameter(self, "weight", n_in, n_out)
        self.bias = parameter(self, "bias", n_out)
        self.built = True

    def call(self, x):
        return product(x, self.weight) + self.bias


class Linear(keras.layers.Layer):
    """x W^T, + b if there is one, with W stored (out, in)."""

    def __init__(self, n_in, n_out, bias=False, **kwargs):
        super().__init__(**kwargs)
        self.weight = parameter(self, "weight", n_out, n_in, autocast=False)
        self.bias = parameter(self, "bias", n_out) if bias else None
        self.built = True

    def call(self, x):
        x = scores(x, ops.cast(self.weight, x.dtype))
        return x if self.bias is None else x + self.bias


def rows_of(table, ids):
    """Returns the rows (..., C) of a table (rows, C) that ids (...) name, with all of their gradients in one table."""
    if keras.config.backend() != "tensorflow":
        return ops.take(table, ids, axis=0)
    import tensorflow as tf

    # TensorFlow's own are a row for each id. Keras' optimizers do not add up those of one id before they square them: a
    # word that a batch has twice would get another step than in PyTorch
    @tf.custom_gradient
    def run(table):
        return tf.gather(table, ids), lambda share: tf.math.unsorted_segment_sum(share, ids, table.shape[0])

    return run(tf.convert_to_tensor(table))


class Embedding(keras.layers.Layer):
    """Rows of a table (rows, C)."""

    def __init__(self, rows, width, **kwargs):
        super().__init__(**kwargs)
        self.weight = parameter(self, "weight", rows, width, autocast=False)
        self.built = True

    def call(self, ids):
        # a graph cannot refuse an id that the table lacks: NaN tells of it where TensorFlow would take another row
        inside = ops.logical_and(ids >= 0, ids < self.weight.shape[0])
        x = rows_of(self.weight, ops.where(inside, ids, 0))
        return ops.cast(ops.where(inside[..., None], x, ops.cast(np.nan, x.dtype)), self.compute_dtype)

    def scores(self, x):
        """Returns x times each row, (..., rows): the table as a head."""
        return scores(x, ops.cast(self.weight, x.dtype))


class LayerNorm(keras.layers.Layer):
    """(x - mean) / sqrt(var + epsilon) * weight + bias over the last axis."""

    def __init__(self, width, epsilon, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.weight = parameter(self, "weight", width, autocast=False)
        self.bias = parameter(self, "bias", width, autocast=False)
        self.built = True

    def call(self, x):
        dtype, wider = self.compute_dtype, wide(self.compute_dtype)
        x = ops.cast(x, wider)
        x = x - ops.mean(x, axis=-1, keepdims=True)
        x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + self.epsilon)
        return ops.cast(x * ops.cast(self.weight, wider) + ops.cast(self.bias, wider), dtype)


def gelu_new(x):
    # written out, because TensorFlow's own gelu rounds its constants to float32 also for float64; 0.5 (1 + tanh u) as
    # sigmoid(2 u), which takes fewer passes and does not cancel where tanh is near -1
    slope = math.sqrt(8 / math.pi)
    return x * ops.sigmoid(x * (slope + 0.044715 * slope * ops.square(x)))


def gelu(x):
    return 0.5 * x * (1 + ops.erf(x * math.sqrt(0.5)))


def quick_gelu(x):
    return x * ops.sigmoid(1.702 * x)


def mish(x):
    return x * ops.tanh(ops.softplus(x))


def linear(x):
    return x


ACTIVATIONS = {
    "gelu_new": gelu_new,
    "gelu_pytorch_tanh": gelu_new,
    "gelu_fast": gelu_new,
    "gelu": gelu,
    "quick_gelu": quick_gelu,
    "relu": ops.relu,
    "silu": ops.silu,
    "swish": ops.silu,
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "mish": mish,
    "linear": linear,
}
