"""x W^T + b for any use, gradients too, where PyTorch's own way is slow on this machine's processor.

On processors of AMD MKL is slow, the default in float32. On one that has no instructions for 16 bits PyTorch multiplies
them one number at a time, a hundred times as slowly as float32.
"""

import functools
import itertools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

# processor -> from so many outputs on oneDNN multiplies faster than MKL, PyTorch's own in float32, weights as they are
OUTPUTS = {"AMD": 1, "older AMD": 2**14}
_MANY, _TURNED = 2**14, 2**11  # columns from which on a turned factor goes in parts, and of each part; measured
_LEAST = 2**18  # numbers of a weight for which it pays: oneDNN prepares each new shape for a millisecond
_TOKENS = 16  # that oneDNN is told to lay weights out for: good for one as well as for many
_WIDENED = 1024  # rows and columns that are made float32 at a time, 3 MB of a weight of 124M


@functools.cache
def processor():
    """Returns the kind of this machine's processor, of those that were measured; None of others."""
    cpuinfo = Path("/proc/cpuinfo")
    told = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else platform.processor()
    if "AuthenticAMD" in told:
        return "AMD" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else "older AMD"
    return "Intel with AMX" if "GenuineIntel" in told and "amx_bf16" in told else None


@functools.cache
def lacks(dtype):
    """Returns whether this is an x86 processor without instructions for a type of 16 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    told = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    try:
        return dtype in told and not getattr(torch.ops.mkldnn, told[dtype])()
    except (AttributeError, NotImplementedError, RuntimeError):
        return False


@functools.cache
def has_onednn(dtype):
    """Returns whether PyTorch's private operations of oneDNN are there for a type, and right."""
    x, weight, bias = torch.eye(16, 48), torch.arange(64 * 48.0).reshape(64, 48) % 7, torch.ones(64)
    try:
        found = by_onednn(x.to(dtype), packed(weight.to(dtype)), bias.to(dtype))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.equal(found.float(), F.linear(x, weight, bias))


def packed(weight):
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _TOKENS)


def by_onednn(x, weight, bias):
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


def widened(x, weight, bias):
    """Returns x W^T + b of 16 bits, multiplied and summed in float32: a part of a large array at a time is widened."""
    rows = x.reshape(-1, x.shape[-1])
    y = rows.new_empty(len(rows), len(weight))
    for some, words in itertools.product(blocks(len(rows)), blocks(len(weight))):
        first, *others = ((rows[some, inner], weight[words, inner]) for inner in blocks(rows.shape[1]))
        made = F.linear(*map(torch.Tensor.float, first), None if bias is None else bias[words].float())
        for a, b in others:
            made.addmm_(a.float(), b.float().T)
        y[some, words] = made
    return y.view(*x.shape[:-1], -1)


def blocks(length):
    return [slice(i, i + _WIDENED) for i in range(0, length, _WIDENED)]


class ByOneDNN(torch.autograd.Function):
    """x (..., in) times weight (out, in), + bias (out,); its gradients are such products too."""

    @staticmethod
    def forward(x, weight, bias):
        return by_onednn(x, weight, bias)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        asked, rows = ctx.needs_input_grad, grad.reshape(-1, grad.shape[-1])
        of_x = multiply(grad, weight.T) if asked[0] else None
        of_weight = of_bias = None
        if asked[1]:
            x = x.reshape(-1, x.shape[-1])
            # as the weight lies: a parameter's gradient is laid out as it is
            of_weight = turned(rows, x) if weight.is_contiguous() else turned(x, rows).T
        if asked[2]:
            of_bias = rows.sum(0)
        return of_x, of_weight, of_bias

    @staticmethod
    def jvp(ctx, x_tangent, weight_tangent, bias_tangent):
        x, weight = ctx.saved_tensors
        changes = [] if x_tangent is None else [watched(x_tangent, weight)]
        changes += [] if weight_tangent is None else [watched(x, weight_tangent)]
        changes += [] if bias_tangent is None else [bias_tangent.expand(*x.shape[:-1], -1)]
        return sum(changes)

    @staticmethod
    def vmap(info, in_dims, x, weight, bias):
        return torch.vmap(watched, in_dims)(x, weight, bias), 0


class Widened(ByOneDNN):
    """The same of 16 bits, in float32: what is kept for gradients has 16, and is widened again for them."""

    @staticmethod
    def forward(x, weight, bias):
        return widened(x, weight, bias)


def multiply(x, weight, bias=None):
    """Returns x (..., in) times weight (out, in), + bias (out,), to the rounding of its type what PyTorch's own is."""
    if is_pytorchs(x):
        return F.linear(x, weight, bias)
    if is_plain(x, weight):
        if lacks(x.dtype):
            return Widened.apply(x, weight, bias)
        if x.dtype == torch.float32 and is_slow(weight):
            return ByOneDNN.apply(x, weight, bias)
    return watched(x, weight, bias)


def turned(a, b):
    """Returns a^T b, (n, m) of (N, n) and (N, m), some rows at a time: oneDNN copies a first factor that is turned."""
    by_parts = a.shape[1] >= _MANY and a.dtype == torch.float32 and is_plain(a, b) and is_slow(b.T)
    if not by_parts or torch.is_grad_enabled():
        return multiply(a.T, b.T)
    made = a.new_empty(a.shape[1], b.shape[1])
    for i in range(0, len(made), _TURNED):
        made[i : i + _TURNED] = multiply(a[:, i : i + _TURNED].T, b.T)
    return made


def watched(x, weight, bias=None):
    """Returns the same by operations that PyTorch can watch and transform."""
    if lacks(x.dtype) and weight.dtype == x.dtype:
        return F.linear(x.float(), weight.float(), None if bias is None else bias.float()).to(x.dtype)
    return F.linear(x, weight, bias)


def is_pytorchs(x):
    """Returns whether x is multiplied PyTorch's own way, whichever is faster: a compiler or autocast chooses there."""
    chosen = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return chosen or not x.is_cpu or torch.is_autocast_enabled("cpu")


def is_too_narrow(x):
    """Returns whether products of x are made in float32, since the processor has no instructions for its type."""
    return not is_pytorchs(x) and lacks(x.dtype)


def is_narrow_for_one(keys):
    """Returns whether one query's attention is sooner computed in float32 than in the 16 bits of its keys."""
    return keys.dtype == torch.bfloat16 and not is_pytorchs(keys) and processor() == "AMD"


def is_slow(weight):
    """Returns whether oneDNN multiplies a weight (out, in) in float32 faster than PyTorch's own way."""
    outputs = OUTPUTS.get(processor())
    return outputs is not None and len(weight) >= outputs and weight.numel() >= _LEAST and has_onednn(torch.float32)


def is_plain(x, weight):
    """Returns whether these are tensors that hold numbers, and nobody watches what is done to them."""
    plain = type(x) is torch.Tensor and type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.dtype == x.dtype
    return plain and x.numel() > 0 and not is_in_torch_dispatch_mode()
