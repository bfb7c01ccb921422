"""Weights in 8 bits, for inference on a CPU: a quarter of what a token has to read, in half of the memory.

A weight is rounded to whole numbers times a scale for each of its outputs; what comes in is rounded, row by row, to 256
steps between its least and its greatest number. Products of whole numbers are exact: a row is the same alone and in a
batch, whichever way computes it.
"""

import functools
import warnings

import torch
import torch.nn.functional as F
from torch import nn

from gpt2_core.errors import GPT2Error

from ..layers import Conv1D
from .layouts import fbgemm

MOST = 127  # of a weight; what comes in is 0 to 255
_OUTPUTS = 4096  # of a weight that are rounded at a time: without a second copy of a head in float32
_TINY = torch.finfo(torch.float32).tiny
_HALF = 128  # of what comes in: two products of as much fit in 16 bits, two of 255 do not
_HALVES = torch.tensor([0.0, _HALF], device="cpu").view(2, 1, 1)  # where each of the two begins
_SPANS = 1 / 64, torch.finfo(torch.float32).max  # of a row that FBGEMM rounds as is done here


class Int8(nn.Module):
    """x W^T + b with W (out, in) in 8 bits, x and b in floating point; made of a float weight, whose layout is free."""

    def __init__(self, weight, bias):
        super().__init__()
        weight = weight.detach()
        scale = torch.maximum(weight.amax(dim=1), -weight.amin(dim=1)).float().clamp_min_(_TINY).div_(MOST)
        # oneDNN reads others than these wrongly, whose rows lie one after the other
        whole, sums = torch.empty(weight.shape, dtype=torch.int8), torch.empty_like(scale)
        for i in range(0, len(weight), _OUTPUTS):
            some = slice(i, i + _OUTPUTS)
            exact = (weight[some].float() / scale[some, None]).round_()
            whole[some], sums[some] = exact, exact.sum(dim=1)
        self.scale = scale
        self.sums = sums.mul_(scale)  # (out,) what each output gets for 1 more in all inputs
        self.bias = torch.zeros_like(scale) if bias is None else bias.detach().float()
        self.one, self.zero = torch.ones_like(scale), torch.zeros(len(scale), dtype=torch.int32)
        self.product, self.packed = _laid_out(whole, self.one)
        # a second copy: oneDNN reads weights half as fast for one row, FBGEMM multiplies many rows half as fast
        self.single = _packed_by_fbgemm(whole, scale) if has_fbgemm() else None

    def forward(self, x):
        rows = x.detach().float()
        if x.ndim != 2:
            rows = rows.reshape(-1, x.shape[-1])
        y = self.one_row(rows) if len(rows) == 1 and self.single is not None else None
        y = (self.rows(rows) if y is None else y).to(x.dtype)
        return y if x.ndim == 2 else y.view(*x.shape[:-1], -1)

    def rows(self, x):
        least, greatest = x.aminmax(dim=-1, keepdim=True)
        step = (greatest - least).div_(255).clamp_min_(_TINY)
        whole = (x - least).mul_(step.reciprocal()).round_()
        y = self.product(whole, self).mul_(step * self.scale)
        return y.add_(torch.addcmul(self.bias, self.sums, least))

    def one_row(self, x):
        """Returns the same by FBGEMM, which counts steps from 0; None of a row whose steps it would alter."""
        least, greatest = x.aminmax()
        if not _SPANS[0] < greatest.item() - least.item() <= _SPANS[1]:
            return None
        return _fbgemm(x - least, self.single).add_(torch.addcmul(self.bias, self.sums, least))

    def train(self, mode=True):
        if mode:
            raise GPT2Error("a model in 8 bits cannot learn: train the one that it was made of")
        return super().train(mode)

    def _apply(self, fn, recurse=True):
        moved = fn(torch.empty(0))
        if moved.device.type == "cpu" and moved.dtype == torch.float32:
            return self
        raise GPT2Error("a model in 8 bits stays on the CPU, in the type that it was loaded with")

    def __deepcopy__(self, memo):
        return self  # which nothing changes

    def __reduce_ex__(self, protocol):
        raise GPT2Error("a model in 8 bits cannot be saved: save the one that it was made of")


def _laid_out(whole, one):
    """Returns the fastest way that is right here, and a weight as it is read that way."""
    if has_onednn():
        return _onednn, torch.ops.onednn.qlinear_prepack(whole, None)
    if not has_fbgemm() and has_halves() and _has_short_sums(whole):
        return _halves, _packed_by_fbgemm(whole, one)
    return _plain, whole


def _onednn(whole, layer):
    whole = whole.to(torch.uint8)
    return torch.ops.onednn.qlinear_pointwise.default(
        whole, 1.0, 0, layer.packed, layer.one, layer.zero, None, 1.0, 0, torch.float32, "none", [], ""
    )


def _halves(whole, layer):
    """The same for processors that add two products in 16 bits, which whole rows overflow and their halves do not."""
    halves = (whole - _HALVES).clamp_(0, _HALF)  # (2, rows, in)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
    return multiply(halves, 1.0, 0, layer.packed).sum(dim=0)


def _has_short_sums(whole):
    """Returns whether float32 holds whatever sums _halves adds up, so that it rounds once, as _plain does."""
    if whole.shape[1] * MOST * _HALF <= 2**24:
        return True
    for some in whole.split(_OUTPUTS):
        exact = some.float()
        largest = exact.sum(dim=1).abs_().add_(exact.abs_().sum(dim=1)).div_(2)  # of one sign only
        if largest.amax() * _HALF > 2**24:
            return False
    return True


def _plain(whole, layer):
    """The same without private operations; float64 holds sums of such products exactly."""
    return F.linear(whole.double(), layer.packed.double()).float()


def _fbgemm(above, packed):
    """The same of one row whose least number is 0, which it rounds itself, times its step and the weight's scales."""
    return torch.ops.quantized.linear_dynamic.default(above, packed)


def _packed_by_fbgemm(whole, scale):
    zeros = torch.zeros(len(scale), dtype=torch.long)
    with fbgemm(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the way to make its tensors is to go: then has_fbgemm says so
        made = torch._make_per_channel_quantized_tensor(whole, scale.double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(made, None)


@functools.cache
def has_onednn():
    """Returns whether PyTorch's operations on 8 bits are there, and right where sums are the largest."""
    weight, x = torch.full((16, 4096), MOST, dtype=torch.int8), torch.full((1, 4096), 255, dtype=torch.uint8)
    weight[::2] *= -1
    try:
        layer = type("", (), {"one": torch.ones(16), "zero": torch.zeros(16, dtype=torch.int32)})
        layer.packed = torch.ops.onednn.qlinear_prepack(weight, None)
        return torch.equal(_onednn(x, layer).double(), F.linear(x.double(), weight.double()))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


@functools.cache
def has_halves():
    """Returns whether FBGEMM's products of given steps are there, and right of halves where sums are the largest."""
    weight, x = torch.full((16, 1024), MOST, dtype=torch.int8), torch.full((2, 1024), 255.0)
    weight[::2] *= -1
    x[1] = torch.arange(1024) % 256
    try:
        layer = type("", (), {"packed": _packed_by_fbgemm(weight, torch.ones(16))})
        return torch.equal(_halves(x, layer).double(), F.linear(x.double(), weight.double()))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


@functools.cache
def has_fbgemm():
    """Returns whether PyTorch's dynamic products are there, and are those of this file to the last bit."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-MOST, MOST + 1, (48, 4096), generator=generator).to(torch.int8)
    weight[0], weight[1], scale = MOST, -MOST, torch.rand(48, generator=generator) / 100
    x = torch.rand(1, 4096, generator=generator).mul_(9)
    x[0, :4000].round_()
    x[0, 0], x[0, 1000:3000] = 0, 9  # pairs of products that processors of old add up wrongly
    step = x.amax() / 255
    sums = F.linear((x * step.reciprocal()).round().double(), weight.double()).float()
    try:
        return torch.equal(_fbgemm(x, _packed_by_fbgemm(weight, scale)), sums * (step * scale))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


def quantized(model, way):
    """Returns a model after its matrices, a language model's head too, were replaced one by one; as it is for None."""
    if way not in (None, "int8"):
        raise GPT2Error(f"quantize={way!r}: it must be None or 'int8'")
    if way is None:
        return model
    places = [(m, name) for m in model.modules() for name, part in m.named_children() if isinstance(part, Conv1D)]
    for module, name in places:  # which holds none of the layers, so that each goes when it is replaced
        layer = getattr(module, name)
        setattr(module, name, Int8(layer.weight.T, layer.bias))
    head = getattr(model, "lm_head", False)
    if head:
        model.lm_head = Int8(head.weight, head.bias)
    elif head is None:  # the table's rows are looked up as they are
        model.transformer.wte.__dict__["product"] = Int8(model.transformer.wte.weight, None)
    return model.requires_grad_(False)


def check_whole(model):
    """Raises GPT2Error of a model in 8 bits, for what needs its weights."""
    if any(isinstance(module, Int8) for module in model.modules()):
        raise GPT2Error("a model in 8 bits no longer has its weights: do this with the one that it was made of")
