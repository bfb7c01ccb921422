"""Products of `generate` on a CPU: a layer's weights laid out anew where that is faster than PyTorch's own way.

What pays was measured on two kinds of processors (docs/performance.md): on those of AMD MKL is slow, the default in
float32; on those of Intel oneDNN is, the default in 16 bits, unless weights were laid out for it.
"""

import contextlib
import functools
import platform
import threading
import warnings
import weakref
from pathlib import Path

import torch
import torch.nn.functional as F

from .layers import Conv1D

# layouts of a weight: oneDNN's own; (out, in), for one row times a matrix; as it is, multiplied by oneDNN
PACKED, ROWS, PLAIN = "packed", "rows", "plain"

# (processor, type) -> the fastest for one row and for several, each of the layers and of the head; None: PyTorch's own
FASTEST = {
    ("AMD", torch.float32): ((PACKED, PLAIN), (PACKED, PACKED)),
    ("AMD", torch.bfloat16): ((ROWS, ROWS), (PACKED, PACKED)),
    # packed weights would take a sixth off the layers' products of several rows, for as much memory as all weights
    ("Intel with AMX", torch.float32): ((None, None), (None, PLAIN)),
    ("Intel with AMX", torch.bfloat16): ((PACKED, PACKED), (PACKED, PACKED)),
    ("Intel with AMX", torch.float16): ((PACKED, PACKED), (PACKED, PACKED)),
}
_TOKENS = 16  # that oneDNN is told to lay weights out for: good for one as well as for many


def fastest(device, dtype):
    """Returns the layouts on this machine, as FASTEST has them; None where PyTorch's own ways are as fast."""
    if device.type != "cpu" or not _has_onednn():
        return None
    return FASTEST.get((processor(), dtype))


@functools.cache
def processor():
    """Returns the kind of this machine's processor as FASTEST names it; None of others."""
    cpuinfo = Path("/proc/cpuinfo")
    told = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else platform.processor()
    if "AuthenticAMD" in told:
        return "AMD"
    return "Intel with AMX" if "GenuineIntel" in told and "amx_bf16" in told else None


@functools.cache
def _has_onednn():
    """Returns whether PyTorch's private operations of oneDNN are there and right."""
    x, weight, bias = torch.eye(16, 48), torch.arange(64 * 48.0).reshape(64, 48) % 7, torch.ones(64)
    try:
        return torch.equal(_product(x, _packed(weight), bias), F.linear(x, weight, bias))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


def _packed(weight):
    return torch.ops.mkldnn._reorder_linear_weight(weight, _TOKENS)


def _product(x, weight, bias):
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


class Product:
    """x W^T + b of one layer, with its weight in one layout."""

    def __init__(self, layer, turned, layout):
        self.weight, self.bias, self.layout = layer.weight, getattr(layer, "bias", None), layout
        self.version, self.place = self.weight._version, self.weight.data_ptr()
        weight = self.weight.detach().T if turned else self.weight.detach()  # (out, in)
        if layout == PLAIN:
            self.given = weight
        else:
            self.given = _packed(weight.contiguous()) if layout == PACKED else weight.contiguous()
        self.is_copy = layout == PACKED or self.given is not weight
        self.sums = self._sums()

    def __call__(self, x):
        return (F.linear if self.layout == ROWS else _product)(x, self.given, self.bias)

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


class Products:
    """Those of a model, made when they are first needed, and again when their weights have changed.

    layers: each with whether its weight is (in, out), as all but the head's are. layouts: a value of FASTEST.
    """

    def __init__(self, layers, layouts):
        self.layers, self.layouts, self.made = layers, layouts, {}
        self.lock = threading.RLock()  # one thread at a time multiplies by them

    def check(self):
        """Forgets them all if a weight was changed behind PyTorch's back, through `.data`."""
        with self.lock:
            if not all(product.is_equal() for product in self.made.values()):
                self.made.clear()

    @contextlib.contextmanager
    def of(self, rows, tokens):
        """Has the layers multiply by them, `tokens` tokens of each of `rows` rows; but for autocast, which narrows."""
        if torch.is_autocast_enabled("cpu"):
            yield
            return
        with self.lock:
            yield from self._of(rows, tokens)

    def _of(self, rows, tokens):
        of_layers, of_head = self.layouts[rows > 1]
        for layer, turned in self.layers:
            layout = of_layers if turned else of_head
            if layer in self.made and not (self.made[layer].layout == layout and self.made[layer].is_of(layer)):
                del self.made[layer]  # one layout at a time is in memory
            if layout is None:
                continue
            if layer not in self.made:
                self.made[layer] = Product(layer, turned, layout)
            layer.__dict__["product"] = self.made[layer]
        try:
            with _without_onednn if rows * tokens == 1 and of_layers == ROWS else contextlib.nullcontext():
                yield
        finally:
            for layer, _ in self.layers:
                layer.__dict__.pop("product", None)


class _WithoutOneDNN:
    """Has PyTorch multiply one row of bfloat16 by its own kernel, which reads weights as fast as memory gives them.

    The flag is the process's: it is set as long as any thread needs it.
    """

    def __init__(self):
        self.lock, self.users, self.flags = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            self.users += 1
            if self.users == 1:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of GPUs, said where the flag is set
                    self.flags = torch.backends.mkldnn.flags(enabled=False)
                    self.flags.__enter__()

    def __exit__(self, *_raised):
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.flags.__exit__(None, None, None)


_without_onednn = _WithoutOneDNN()


_KEPT = weakref.WeakKeyDictionary()  # model -> Products, which neither copies nor files of a model should hold


def products_of(model):
    """Returns a model's Products; None where PyTorch's own are as good, or weights do not count their changes."""
    layers = [(layer, True) for layer in model.modules() if isinstance(layer, Conv1D)]
    if not layers:
        return None  # they are in 8 bits
    layers.append((model.lm_head or model.transformer.wte, False))
    weights = [layer.weight for layer, _ in layers]
    fit = all(w.dtype == model.dtype and isinstance(w, torch.nn.Parameter) and not w.is_inference() for w in weights)
    layouts = fastest(model.device, model.dtype) if model.pack_weights and fit else None
    if layouts is None:
        return None
    if model not in _KEPT:
        _KEPT[model] = Products(layers, layouts)
    _KEPT[model].layers, _KEPT[model].layouts = layers, layouts
    _KEPT[model].check()
    return _KEPT[model]
