"""Causal self-attention and its mask."""

import math

import torch
from torch import nn

from .layers import Conv1D, wide

# B batch, T new tokens, P past, S = P + T, C n_embd, H heads, D = C / H


def visible_keys(attention_mask, new, past, device):
    """Returns (keep, causal), boolean, broadcastable to (B, H, T, S): the keys that a query sees, and those that it
    spreads over when it sees none, because all before it is padding. A 4-D mask is taken as given."""
    query = torch.arange(past, past + new, device=device)[:, None]
    causal = torch.arange(past + new, device=device)[None, :] <= query  # (T, S)
    if attention_mask is None:
        return causal, causal
    keep = attention_mask != 0
    if keep.ndim == 4:
        return keep, torch.ones_like(causal)
    return causal & keep[:, None, None, :], causal  # (B, 1, T, S), (T, S)


class Attention(nn.Module):
    """Multi-head attention of new tokens over the past and themselves."""

    def __init__(self, config, layer_idx):
        super().__init__()
        self.n_head, self.head_dim = config.n_head, config.head_dim
        self.scale = 1.0
        if config.scale_attn_weights:
            self.scale /= math.sqrt(config.head_dim)
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer_idx + 1
        self.upcast = config.reorder_and_upcast_attn
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.attn_dropout = nn.Dropout(config.attn_pdrop)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def split_heads(self, x):
        B, T, _ = x.shape
        return x.reshape(B, T, self.n_head, self.head_dim).transpose(1, 2)  # (B, H, T, D)

    def merge_heads(self, a):
        B, _, T, _ = a.shape
        return a.transpose(1, 2).reshape(B, T, self.n_head * self.head_dim)  # (B, T, C)

    def probabilities(self, q, k, keep, causal):
        """Returns (B, H, T, S), the softmax in float32 at least; finite also where a query sees no key."""
        dtype, wider = q.dtype, wide(q.dtype)
        if self.upcast:
            q, k = q.to(wider), k.to(wider)
        w = ((q * self.scale) @ k.transpose(-1, -2)).to(wider)  # (B, H, T, S)
        lowest = torch.full((), torch.finfo(wider).min, dtype=wider, device=w.device)
        w = torch.where(keep, w, torch.where(causal, lowest, -torch.inf))
        return torch.softmax(w, dim=-1).to(dtype)

    def forward(self, x, visible, past=None):
        q, k, v = (self.split_heads(part) for part in self.c_attn(x).chunk(3, dim=-1))  # each (B, H, T, D)
        if past is not None:
            k = torch.cat([past[0].to(k), k], dim=2)  # (B, H, S, D)
            v = torch.cat([past[1].to(v), v], dim=2)
        w = self.probabilities(q, k, *visible)
        a = self.merge_heads(self.attn_dropout(w) @ v)
        return self.resid_dropout(self.c_proj(a)), (k, v), w
