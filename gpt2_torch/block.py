"""One layer: attention, MLP, between them attention to an encoder; each behind its norm, each added to what it got."""

from torch import nn

from .attention import Attention, CrossAttention
from .layers import ACTIVATIONS, Conv1D, LayerNorm


class MLP(nn.Module):
    """Two Conv1D with the activation between them."""

    def __init__(self, config):
        super().__init__()
        self.c_fc = Conv1D(config.n_embd, config.inner_dim)
        self.activation = config.activation_function
        self.c_proj = Conv1D(config.inner_dim, config.n_embd)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x):
        return self.dropout(self.c_proj(ACTIVATIONS[self.activation](self.c_fc(x))))


class Block(nn.Module):
    """x + attn(ln_1 x), then x + crossattention(ln_cross_attn x) if an encoder is given, then x + mlp(ln_2 x)."""

    def __init__(self, config, layer_idx):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config, layer_idx)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        if config.add_cross_attention:
            self.crossattention = CrossAttention(config, layer_idx)
            self.ln_cross_attn = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(
        self, x, visible, past=None, head_mask=None, encoder=None, encoder_visible=None, places=None, lean=None
    ):
        """Returns x (B, T, C), the keys and values to be kept, and the weights of one attention or of both.

        encoder_visible: None where there is no encoder. encoder: None where `past` holds its keys and values.
        places: (T,) slots of `past` that the tokens go to; None puts them after it. lean: see MultiHead.attend.
        """
        own, cross = (None, None) if past is None else (past[:2], past[2:])
        a, present, w = self.attn(self.ln_1(x), visible, own, head_mask, places, lean)
        x = x + a
        weights = (w,)
        if encoder_visible is not None:
            a, kept, w = self.crossattention(self.ln_cross_attn(x), encoder, encoder_visible, cross, head_mask)
            x = x + a
            present, weights = present + kept, (*weights, w)
        x = x + self.mlp(self.ln_2(x))
        return x, present, weights
