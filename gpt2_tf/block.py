"""One layer: attention and MLP, each behind its norm, each added to the residual stream."""

import keras

from .attention import Attention
from .layers import ACTIVATIONS, Conv1D, LayerNorm


class MLP(keras.layers.Layer):
    """Two Conv1D with the activation between them."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.c_fc = Conv1D(config.n_embd, config.inner_dim, name="c_fc", dtype=dtype)
            self.activation = config.activation_function
            self.c_proj = Conv1D(config.inner_dim, config.n_embd, name="c_proj", dtype=dtype)
            self.dropout = keras.layers.Dropout(config.resid_pdrop, dtype=dtype)
        self.built = True

    def call(self, x):
        return self.dropout(self.c_proj(ACTIVATIONS[self.activation](self.c_fc(x))))


class Block(keras.layers.Layer):
    """x + attn(ln_1 x), then x + mlp(ln_2 x)."""

    def __init__(self, config, layer_idx, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon, name="ln_1", dtype=dtype)
            self.attn = Attention(config, layer_idx, name="attn", dtype=dtype)
            self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon, name="ln_2", dtype=dtype)
            self.mlp = MLP(config, name="mlp", dtype=dtype)
        self.built = True

    def call(self, x, visible, past=None):
        a, present, w = self.attn(self.ln_1(x), visible, past)
        x = x + a
        x = x + self.mlp(self.ln_2(x))
        return x, present, w
