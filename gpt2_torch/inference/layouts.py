"""How a layer's weight is laid out and multiplied on a CPU, where that is faster than PyTorch's own way.

What pays was measured (docs/performance.md): on processors of AMD MKL is slow, the default in float32; on those of
Intel oneDNN is, the default in 16 bits, unless weights were laid out for it.
"""

import contextlib
import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..multiply import by_onednn, has_onednn, lacks, packed, processor, widened

# oneDNN's own layout; (out, in), for one row times a matrix; as it is, multiplied by oneDNN; as it is, a few rows times
# shares of it side by side; FBGEMM's own of float16
PACKED, ROWS, PLAIN, SHARES, HALVES = "packed", "rows", "plain", "shares", "halves"


class Ways(NamedTuple):
    """The fastest layouts for one row and for several, each of the layers and of the head; None: PyTorch's own."""

    one: tuple
    several: tuple
    most: float = math.inf  # tokens that a layer, not the head, multiplies so
    most_transposed: float = 0  # that it multiplies as the transpose; more go PyTorch's own way


# of the processors and types that were measured
FASTEST = {
    # packed weights would take up to a third off several rows' tokens, for as much memory as all weights
    ("AMD", torch.float32): Ways((SHARES, SHARES), (SHARES, SHARES)),
    ("AMD", torch.bfloat16): Ways((ROWS, ROWS), (PACKED, PACKED)),
    # packed weights would take up to a third off several tokens' products, for as much memory as all weights
    ("older AMD", torch.float32): Ways((PLAIN, PLAIN), (PLAIN, PLAIN), most=40, most_transposed=160),
    # packed weights would take a sixth off the layers' products of several rows, for as much memory as all weights
    ("Intel with AMX", torch.float32): Ways((None, None), (None, PLAIN)),
    ("Intel with AMX", torch.bfloat16): Ways((PACKED, PACKED), (PACKED, PACKED)),
    ("Intel with AMX", torch.float16): Ways((PACKED, PACKED), (PACKED, PACKED)),
}
_HALVES = Ways((HALVES, HALVES), (HALVES, HALVES))
_INNER = 4  # shares of what comes in
_FEW = 4  # tokens that shares of a table of words multiply sooner than oneDNN
_LARGEST = torch.finfo(torch.float16).max
_SMALLEST = 2**-6  # of a weight's largest number: then what float16 cannot hold of the others is 2^-19 of it


def fastest(device, dtype):
    """Returns the Ways of this machine; None where PyTorch's own are as fast."""
    if device.type != "cpu":
        return None
    if lacks(dtype):
        return _HALVES if has_fbgemm() else None
    ways = FASTEST.get((processor(), dtype))
    return ways if ways and has_onednn(dtype) else None


@functools.cache
def has_fbgemm():
    """Returns whether PyTorch's products of weights in float16 are there, and right."""
    x, weight = torch.eye(16, 48, dtype=torch.float16), torch.arange(64 * 48).reshape(64, 48) % 7
    try:
        with fbgemm():
            found = _by_fbgemm(x, _halves(weight.half()), torch.ones(64, dtype=torch.float16))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.equal(found, (weight.T[:16] + 1).half())


@contextlib.contextmanager
def fbgemm():
    """Has PyTorch lay weights out for FBGEMM, whichever engine a user chose for models of 8 bits."""
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        yield
    finally:
        torch.backends.quantized.engine = engine


def _halves(weight):
    return torch.ops.quantized.linear_prepack_fp16(weight.float(), None)


def _by_fbgemm(x, weight, bias):
    y = torch.ops.quantized.linear_dynamic_fp16.default(x.float(), weight)
    return (y if bias is None else y.add_(bias)).to(x.dtype)


def by_transpose(x, weight, bias):
    """Returns x W^T + b as the transpose of W x^T, which MKL computes faster on AMD: laid out by columns."""
    y = torch.addmm(bias[:, None], weight, x.reshape(-1, x.shape[-1]).T).T
    return y.view(*x.shape[:-1], -1)


@functools.cache
def most_shares(outputs):
    """Returns in how many shares of one size so many outputs can be cut, 64 at most."""
    return next(shares for shares in range(64, 0, -1) if outputs % shares == 0)


def by_shares(x, weight, bias):
    """Returns x W^T + b, of a few rows by shares of a weight as it lies: MKL reads them faster in batches."""
    rows = x.reshape(-1, x.shape[-1])
    (tokens, n_in), n_out = rows.shape, len(weight)
    if weight.is_contiguous() and tokens <= _FEW and (shares := most_shares(n_out)) > 1:  # of its outputs
        turned = rows.T.expand(shares, n_in, tokens)
        y = torch.bmm(weight.view(shares, -1, n_in), turned).view(n_out, tokens).T
    elif tokens == 1 and weight.T.is_contiguous() and (shares := math.gcd(n_in, _INNER)) > 1:  # of what comes in
        y = torch.bmm(rows.view(shares, 1, -1), weight.T.view(shares, -1, n_out)).sum(0)
    else:
        return by_onednn(x, weight, bias)
    return (y if bias is None else y.add_(bias)).reshape(*x.shape[:-1], n_out)


# layout -> what makes it of a weight (out, in), and what multiplies by it
_LAYING = {
    PACKED: (packed, by_onednn),
    PLAIN: (lambda weight: weight, by_onednn),
    SHARES: (lambda weight: weight, by_shares),
    ROWS: (torch.Tensor.contiguous, F.linear),
    HALVES: (_halves, _by_fbgemm),
}
_UNFIT = (lambda weight: weight, widened)


def fits(weight):
    """Returns whether float16, whose range is narrower than bfloat16's, holds a weight as well as sums need it."""
    return weight.dtype == torch.float16 or _SMALLEST <= weight.abs().amax().item() <= _LARGEST


class Product:
    """x W^T + b of one layer, with its weight in one layout, for as many tokens as Ways says."""

    def __init__(self, layer, turned, layout, most=math.inf, most_transposed=0):
        self.weight, self.bias, self.layout = layer.weight, getattr(layer, "bias", None), layout
        self.most, self.most_transposed = most, most_transposed
        self.version, self.place = self.weight._version, self.weight.data_ptr()
        self.plain = self.weight.detach().T if turned else self.weight.detach()  # (out, in)
        lay, self.multiply = _LAYING[layout] if layout != HALVES or fits(self.plain) else _UNFIT
        self.given = lay(self.plain)
        self.is_copy = self.given is not self.plain
        self.sums = self._sums()

    def __call__(self, x):
        tokens = x.numel() // x.shape[-1]
        if tokens <= self.most:
            return self.multiply(x, self.given, self.bias)
        return (by_transpose if tokens <= self.most_transposed else F.linear)(x, self.plain, self.bias)

    def is_of(self, layer):
        """Returns whether a layer's weight is the one that was laid out, as far as PyTorch counts changes."""
        weight, bias = layer.weight, getattr(layer, "bias", None)
        same = weight is self.weight and bias is self.bias
        return same and (weight._version, weight.data_ptr()) == (self.version, self.place)

    def is_equal(self):
        """Returns whether the weight is what was laid out, by sums that also see what PyTorch does not count."""
        return torch.equal(self.sums, self._sums())

    def _sums(self):
        """Returns the sum of the bits of each column; of a weight that is used as it is, none."""
        weight = self.weight.detach()
        if not self.is_copy:
            return torch.empty(0)
        pairs = weight.dtype == torch.float32 or (weight.is_contiguous() and weight.shape[-1] % 2 == 0)
        # two numbers of 16 bits as one of 32, which PyTorch sums 15 times as fast
        return weight.view(torch.int32 if pairs else torch.int16).sum(dim=0, dtype=torch.int32)
