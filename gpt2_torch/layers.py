"""The small layers: each owns `weight` and `bias` in the checkpoint's own layout."""

import torch
import torch.nn.functional as F
from torch import nn

from .multiply import multiply
from .ties import tie_of


def wide(dtype):
    """Returns the type for softmax and loss: float32 at least, because in 16 bits they lose most of their places."""
    return dtype if dtype == torch.float64 else torch.float32


class Conv1D(nn.Module):
    """x W + b with W stored (in, out), GPT-2's name for a linear layer."""

    product = None  # what multiplies in its stead while `generate` runs

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))

    def forward(self, x):
        product = self.product
        return multiply(x, self.weight.T, self.bias) if product is None else product(x)


class Linear(nn.Module):
    """x W^T, + b if there is one, with W stored (out, in)."""

    product = None

    def __init__(self, n_in, n_out, bias=False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.bias = nn.Parameter(torch.empty(n_out)) if bias else None

    def forward(self, x):
        product = self.product
        return multiply(x, self.weight, self.bias) if product is None else product(x)


class Embedding(nn.Module):
    """Rows of a table (rows, C)."""

    product = None

    def __init__(self, rows, width):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids):
        tie = tie_of(self.weight)
        return F.embedding(ids, self.weight) if tie is None else tie.lookup(ids)

    def scores(self, x):
        """Returns x times each row, (..., rows): the table as a head."""
        product, tie = self.product, tie_of(self.weight)
        if product is not None:
            return product(x)
        return multiply(x, self.weight if tie is None else tie.table)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + epsilon) * weight + bias over the last axis."""

    def __init__(self, width, epsilon):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


def gelu_new(x):
    return F.gelu(x, approximate="tanh")


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def linear(x):
    return x


ACTIVATIONS = {
    "gelu_new": gelu_new,
    "gelu_pytorch_tanh": gelu_new,
    "gelu_fast": gelu_new,
    "gelu": F.gelu,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "mish": F.mish,
    "linear": linear,
}
