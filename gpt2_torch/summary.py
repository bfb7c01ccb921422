"""One vector for a sequence: where it ends, and the head that summarises it."""

import torch
from torch import nn

from .layers import ACTIVATIONS, Linear


def kept_tokens(attention_mask, new):
    """Returns which of the new tokens are real, boolean (B, T); None where no mask (B, S) tells."""
    return None if attention_mask is None or attention_mask.ndim == 4 else attention_mask[:, -new:] != 0


def first_kept(keep):
    """Returns the place of each row's first real token (B,), 0 where it has none."""
    return torch.argmax(keep.byte(), dim=1)


def last_kept(keep):
    """Returns the place of each row's last real token (B,), the very last where it has none."""
    return keep.shape[1] - 1 - first_kept(keep.flip(1))


def at(x, index):
    """Returns the vector of x (B, T, C) at each row's place (B,)."""
    inside = ((index >= 0) & (index < x.shape[1]))[:, None]
    index = torch.where(inside, index[:, None], 0)[:, :, None]
    # compiled code cannot refuse a place that the row lacks: NaN tells of it
    return torch.where(inside, torch.take_along_dim(x, index, dim=1)[:, 0], torch.nan)  # (B, C)


def mean_of_kept(x, keep):
    """Returns the mean of x (B, T, C) over each row's real tokens, over all where it has none."""
    keep = keep | ~keep.any(dim=1, keepdim=True)
    share = keep.to(x.dtype) / keep.sum(dim=1, keepdim=True)
    return (x * share[:, :, None]).sum(dim=1)  # (B, C)


class SequenceSummary(nn.Module):
    """A sequence's vector, dropout, projection, activation, dropout."""

    def __init__(self, config):
        super().__init__()
        self.summary_type, self.activation = config.summary_type, config.summary_activation
        self.summary = Linear(config.n_embd, config.summary_width, bias=True) if config.summary_use_proj else None
        self.first_dropout = nn.Dropout(config.summary_first_dropout)
        self.last_dropout = nn.Dropout(config.summary_last_dropout)

    def pool(self, x, keep, index):
        """Returns (B, C): x (B, T, C) at its first or last real token or `index`, or the mean of the real ones."""
        if self.summary_type == "first":
            return at(x, first_kept(keep))
        if self.summary_type == "mean":
            return mean_of_kept(x, keep)
        return at(x, last_kept(keep) if index is None or self.summary_type == "last" else index)

    def forward(self, x, keep, index):
        x = self.first_dropout(self.pool(x, keep, index))
        x = x if self.summary is None else self.summary(x)
        x = x if self.activation is None else ACTIVATIONS[self.activation](x)
        return self.last_dropout(x)
