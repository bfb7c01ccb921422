"""One layer: attention and MLP, each behind its norm, each added to the residual stream."""

from torch import nn

from .attention import Attention
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
    """x + attn(ln_1 x), then x + mlp(ln_2 x)."""

    def __init__(self, config, layer_idx):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config, layer_idx)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x, visible, past=None):
        a, present, w = self.attn(self.ln_1(x), visible, past)
        x = x + a
        x = x + self.mlp(self.ln_2(x))
        return x, present, w
