"""Causal self-attention, cross-attention, and what each query sees."""

import contextlib
import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from .layers import Conv1D, wide
from .multiply import is_narrow_for_one, is_too_narrow

_WIDENED = 2**20  # numbers of keys that are made float32 at a time: copies of more would be in memory fresh each time

# B batch, T new tokens, P past, S = P + T, E encoder tokens, C n_embd, H heads, D = C / H


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


def visible_slots(kept, places):
    """Returns (keep, causal), as above, of a cache's S slots, of which a query at a place sees those before and it.

    Padding sees itself: every query sees a key.
    """
    slots = torch.arange(kept.shape[1], device=kept.device)
    causal = slots <= places[:, None]  # (T, S)
    return (causal & kept[:, None, None, :]) | (slots == places[:, None]), causal  # (B, 1, T, S), (T, S)


def visible_encoder_keys(encoder_attention_mask, length, device):
    """Returns (keep, every), as above, of the encoder's tokens, which have no order."""
    every = torch.ones(1, length, dtype=torch.bool, device=device)
    if encoder_attention_mask is None:
        return every, every
    keep = encoder_attention_mask != 0
    return keep[:, None, None, :] if keep.ndim == 2 else keep[:, None], every  # (B, 1, 1 or T, E), (1, E)


def added(keep, dtype):
    """Returns what is added to scores (B, H, T, S) before their softmax, where every query sees a key; -inf hides one.

    None of a square (T, S): there every query sees itself and all before it.
    """
    if keep.ndim == 2 and keep.shape[0] == keep.shape[1]:
        return None
    return torch.zeros(keep.shape, dtype=dtype, device=keep.device).masked_fill_(~keep, -torch.inf)


def lean_attention(q, k, v, mask, is_causal, scale, dropout=0.0):
    """Returns (B, H, T, D), the sums of values by weights that are never in memory. mask: what `added` returns."""
    run = functools.partial(F.scaled_dot_product_attention, dropout_p=dropout, is_causal=is_causal, scale=scale)
    q = q.to(k.dtype)  # under autocast q is narrower than what a cache keeps
    if not (is_too_narrow(k) or (q.shape[2] == 1 and is_narrow_for_one(k))):
        return run(q, k, v, mask if mask is None else mask.to(k.dtype))
    B = len(k)
    rows = max(1, B * _WIDENED // max(1, k.numel()))
    if rows >= B:
        return run(q.float(), k.float(), v.float(), mask if mask is None else mask.float()).to(q.dtype)
    parts = [x.split(rows) for x in (q, k, v)]
    masks = [None] * len(parts[0]) if mask is None else mask.float().expand(B, 1, -1, -1).split(rows)
    return torch.cat([
        run(*(x.float() for x in some), mask).to(q.dtype) for *some, mask in zip(*parts, masks, strict=True)
    ])  # fmt: skip


def put(slots, places, x):
    """Returns a cache's slots (B, H, S, D) with x (B, H, T, D) at places (T,), written into them."""
    return slots.index_copy_(2, places, x.to(slots.dtype))


class MultiHead(nn.Module):
    """What both attentions share: C split into heads, and their weighted sums over the keys."""

    def __init__(self, config, layer_idx):
        super().__init__()
        self.n_head, self.head_dim = config.n_head, config.head_dim
        self.scale = 1.0
        if config.scale_attn_weights:
            self.scale /= math.sqrt(config.head_dim)
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer_idx + 1
        self.upcast = config.reorder_and_upcast_attn
        self.attn_dropout = nn.Dropout(config.attn_pdrop)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def split_heads(self, x):
        T = x.shape[1]
        return x.reshape(-1, T, self.n_head, self.head_dim).transpose(1, 2)  # (B, H, T, D)

    def merge_heads(self, a):
        T = a.shape[2]
        return a.transpose(1, 2).reshape(-1, T, self.n_head * self.head_dim)  # (B, T, C)

    def probabilities(self, q, k, keep, causal):
        """Returns (B, H, T, S), the softmax in float32 at least; finite also where a query sees no key."""
        dtype, wider = q.dtype, wide(q.dtype)
        if self.upcast:
            q, k = q.to(wider), k.to(wider)
        # autocast would narrow again what was widened
        with torch.autocast(q.device.type, enabled=False) if self.upcast else contextlib.nullcontext():
            w = ((q * self.scale) @ k.transpose(-1, -2)).to(wider)  # (B, H, T, S)
        lowest = torch.full((), torch.finfo(wider).min, dtype=wider, device=w.device)
        w = torch.where(keep, w, torch.where(causal, lowest, -torch.inf))
        return torch.softmax(w, dim=-1).to(dtype)

    def attend(self, q, k, v, visible, head_mask, lean=None):
        """Returns (B, T, C), before the projection, and the weights (B, H, T, S) of each value.

        lean: what `added` returns, in a tuple: then the weights are None, and are never in memory.
        """
        if lean is not None and not self.upcast:
            drop = self.attn_dropout.p if self.training else 0.0
            return self.merge_heads(lean_attention(q, k, v, *lean, lean[0] is None, self.scale, drop)), None
        narrow = q.dtype
        if is_too_narrow(q):
            q, k, v = q.float(), k.float(), v.float()
        w = self.probabilities(q, k, *visible)
        if head_mask is not None:
            w = w * head_mask.to(w.dtype)[:, None, None]
        return self.merge_heads((self.attn_dropout(w) @ v).to(narrow)), w.to(narrow)


class Attention(MultiHead):
    """Attention of new tokens over the past and themselves."""

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, x, visible, past=None, head_mask=None, places=None, lean=None):
        q, k, v = (self.split_heads(part) for part in self.c_attn(x).chunk(3, dim=-1))  # each (B, H, T, D)
        if past is not None and places is None:
            k = torch.cat([past[0].to(k), k], dim=2)  # (B, H, S, D)
            v = torch.cat([past[1].to(v), v], dim=2)
        present = k, v
        if places is not None:  # slots for them, made beforehand, of which the first ones may be seen
            present = put(past[0], places, k), put(past[1], places, v)
            k, v = (slots[:, :, : visible[0].shape[-1]] for slots in present)
        a, w = self.attend(q, k, v, visible, head_mask, lean)
        return self.resid_dropout(self.c_proj(a)), present, w


class CrossAttention(MultiHead):
    """Attention of new tokens over an encoder's, whose keys and values are those of the past unless it is given."""

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        self.c_attn = Conv1D(config.n_embd, 2 * config.n_embd)
        self.q_attn = Conv1D(config.n_embd, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, x, encoder, visible, past=None, head_mask=None):
        q = self.split_heads(self.q_attn(x))  # (B, H, T, D)
        if encoder is None:
            k, v = (part.to(q) for part in past)
        else:
            k, v = (self.split_heads(part) for part in self.c_attn(encoder).chunk(2, dim=-1))  # each (B, H, E, D)
        a, w = self.attend(q, k, v, visible, head_mask)
        return self.resid_dropout(self.c_proj(a)), (k, v), w
