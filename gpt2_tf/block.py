"""One layer: attention, MLP, between them attention to an encoder; each behind its norm, each added to what it got."""

import keras

from .attention import Attention, CrossAttention
from .dropout import dropout, place
from .layers import ACTIVATIONS, Conv1D, LayerNorm

PLACES = 5  # where a block drops: two in each attention, one in the MLP


class MLP(keras.layers.Layer):
    """Two Conv1D with the activation between them."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.c_fc = Conv1D(config.n_embd, config.inner_dim, name="c_fc", dtype=dtype)
            self.activation = config.activation_function
            self.c_proj = Conv1D(config.inner_dim, config.n_embd, name="c_proj", dtype=dtype)
        self.dropout = config.resid_pdrop
        self.built = True

    def call(self, x, seed=None):
        return dropout(self.c_proj(ACTIVATIONS[self.activation](self.c_fc(x))), self.dropout, seed)


class Block(keras.layers.Layer):
    """x + attn(ln_1 x), then x + crossattention(ln_cross_attn x) if an encoder is given, then x + mlp(ln_2 x)."""

    def __init__(self, config, layer_idx, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon, name="ln_1", dtype=dtype)
            self.attn = Attention(config, layer_idx, name="attn", dtype=dtype)
            self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon, name="ln_2", dtype=dtype)
            if config.add_cross_attention:
                self.crossattention = CrossAttention(config, layer_idx, name="crossattention", dtype=dtype)
                self.ln_cross_attn = LayerNorm(
                    config.n_embd, config.layer_norm_epsilon, name="ln_cross_attn", dtype=dtype
                )
            self.mlp = MLP(config, name="mlp", dtype=dtype)
        self.built = True

    def call(self, x, visible, past=None, head_mask=None, encoder=None, encoder_visible=None, places=None, seed=None):
        """Returns x (B, T, C), the keys and values to be kept, and the weights of one attention or of both.

        encoder_visible: None where there is no encoder. encoder: None where `past` holds its keys and values.
        places: (T,) slots of `past` that the tokens go to; None puts them after it.
        """
        own, cross = (None, None) if past is None else (past[:2], past[2:])
        a, present, w = self.attn(self.ln_1(x), visible, own, head_mask, places, seed)
        x = x + a
        weights = (w,)
        if encoder_visible is not None:
            a, kept, w = self.crossattention(
                self.ln_cross_attn(x), encoder, encoder_visible, cross, head_mask, place(seed, 2)
            )
            x = x + a
            present, weights = present + kept, (*weights, w)
        x = x + self.mlp(self.ln_2(x), place(seed, 4))
        return x, present, weights
