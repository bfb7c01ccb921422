"""Products of `generate` on a CPU: a model's weights in this machine's layouts, made anew when they have changed."""

import concurrent.futures
import contextlib
import threading
import warnings
import weakref

import torch

from ..layers import Conv1D
from .layouts import HALVES, ROWS, Product, fastest, fbgemm


class Products:
    """Those of a model, made when they are first needed, and again when their weights have changed.

    layers: each with whether its weight is (in, out), as all but the head's are. ways: a value of FASTEST.
    """

    def __init__(self, layers, ways):
        self.layers, self.ways, self.made = layers, ways, {}
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
        of_layers, of_head = self.ways[rows > 1]
        most = self.ways.most, self.ways.most_transposed
        wanted = []
        for layer, turned in self.layers:
            layout = of_layers if turned else of_head
            if layer in self.made and not (self.made[layer].layout == layout and self.made[layer].is_of(layer)):
                del self.made[layer]  # one layout at a time is in memory
            if layout is not None and layer not in self.made:
                wanted.append((layer, turned, layout, *(most if turned else ())))
        self._lay_out(wanted)
        for layer, _ in self.layers:
            if layer in self.made:
                layer.__dict__["product"] = self.made[layer]
        try:
            with _without_onednn if rows * tokens == 1 and of_layers == ROWS else contextlib.nullcontext():
                yield
        finally:
            for layer, _ in self.layers:
                layer.__dict__.pop("product", None)

    def _lay_out(self, wanted):
        if not any(layout == HALVES for _, _, layout, *_ in wanted):
            self.made.update((given[0], Product(*given)) for given in wanted)
            return
        # FBGEMM lays out with one thread, 124M weights for 2.7 seconds: side by side, the largest first
        wanted = sorted(wanted, key=lambda given: -given[0].weight.numel())
        with fbgemm(), concurrent.futures.ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for product, (layer, *_) in zip(pool.map(lambda given: Product(*given), wanted), wanted, strict=True):
                self.made[layer] = product


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
    ways = fastest(model.device, model.dtype) if model.pack_weights and fit else None
    if ways is None:
        return None
    if model not in _KEPT:
        _KEPT[model] = Products(layers, ways)
    _KEPT[model].layers, _KEPT[model].ways = layers, ways
    _KEPT[model].check()
    return _KEPT[model]
