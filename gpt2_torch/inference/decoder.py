"""A language model as `generate` uses it: a cache made beforehand, one step for the prompts and for every token."""

import contextlib
import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from gpt2_core import generation

from ..attention import added, lean_attention, visible_slots
from ..layers import ACTIVATIONS
from ..logits import best, pick, process
from .products import products_of
from .quantized import Int8

# by a weight's bytes: how many tokens, of each row at least and of all rows, are read at a time on a CPU; measured
PARTS = {1: (32, 512), 2: (256, 256), 4: (256, 512)}
_TREE = __package__.removesuffix("inference")  # how the names of this package's modules begin


class Decoder(generation.Decoder):
    """Rows of tokens in a model; see gpt2_core.generation.Decoder."""

    def __init__(self, model, encoder_hidden_states=None, encoder_attention_mask=None):
        stepped = "step" in model.__dict__  # by a function of the user's, which may be compiled for a cache's size
        super().__init__(model.config.n_positions, grows=not stepped)
        self.model = model
        self.given = encoder_hidden_states, encoder_attention_mask
        self.encoder = self.encoder_mask = None  # of each row; the states until the cache holds their keys and values
        self.cache = self.logits = None
        self.direct = direct(model)
        self.products = None if stepped else products_of(model)  # None also where it gains nothing

    def allocate(self, prompts, slots):
        config = self.model.config
        shape = (len(prompts), config.n_head, slots, config.head_dim)
        zeros = functools.partial(torch.zeros, shape, dtype=self.model.dtype, device=self.model.device)
        self.cache = tuple((zeros(), zeros()) for _ in range(config.n_layer))
        rows = self.tensor(np.asarray(prompts))
        self.encoder, self.encoder_mask = (None if x is None else x[rows] for x in self.given)

    def grow(self, slots):
        def grown(x):
            return F.pad(x, (0, 0, 0, slots - x.shape[2]))

        cache, self.cache = list(self.cache), None
        for i, (k, v, *cross) in enumerate(cache):  # so that each layer's old slots go before the next has new ones
            cache[i] = (grown(k), grown(v), *cross)
        self.cache = tuple(cache)

    def restore(self, past):
        for entry, old in zip(self.cache, past, strict=True):
            for slots, values in zip(entry, old[:2], strict=True):
                slots[:, :, : values.shape[2]] = values
        self.cache = tuple((*entry, *old[2:]) for entry, old in zip(self.cache, past, strict=True))

    def compute(self, ids, positions, kept, first, every):
        places = np.arange(first, first + ids.shape[1])
        given = [self.tensor(x) for x in (ids, positions, kept, places)]
        with contextlib.nullcontext() if self.products is None else self.products.of(*ids.shape):
            if self.direct is not None and not torch.is_autocast_enabled(self.model.device.type):
                self.logits = self.direct(*given, self.cache, first, every).clone()  # which users may change
                return
            self.logits, self.cache = self.model.step(*given, self.cache, self.encoder, self.encoder_mask, every=every)
        self.encoder = None

    def select(self, rows):
        rows = self.tensor(rows)
        self.cache = tuple(tuple(x[rows] for x in entry) for entry in self.cache)
        self.logits = self.logits[rows]
        self.encoder_mask = None if self.encoder_mask is None else self.encoder_mask[rows]

    def past(self):
        return tuple((k[:, :, : self.used], v[:, :, : self.used], *cross) for k, v, *cross in self.cache)

    def scores(self, normalise=False, place=-1):
        logits = self.logits[:, place]
        return torch.log_softmax(logits.double(), dim=-1) if normalise else logits

    def process(self, scores, steps):
        values = [self.tensor(np.asarray(step.value)) for step in steps]
        return process(scores.double(), steps, values)

    def pick(self, scores, uniforms):
        return self.numpy(pick(scores, None if uniforms is None else self.tensor(uniforms)))

    def best(self, scores, running, count, uniforms):
        uniforms = None if uniforms is None else self.tensor(uniforms)
        return tuple(map(self.numpy, best(scores.double(), self.tensor(running), count, uniforms)))

    def tensor(self, array):
        return torch.as_tensor(array, device=self.model.device)

    def numpy(self, tensor):
        return tensor.cpu().numpy()


def direct(model):
    """Returns `model.step` as a function of its own that writes into the cache and returns logits; None without one.

    It calls the small layers one after the other. That spares a token's step the modules around them, which take
    longer to be called and to find their parts than norms, activations and sums take. Where anything was put into
    their way, a hook or another layer, they are not passed by.
    """
    config, trunk = model.config, model.transformer
    if config.add_cross_attention or config.reorder_and_upcast_attn or not all(map(is_as_made, model.modules())):
        return None
    if nn.modules.module._has_any_global_hook() or "step" in model.__dict__:
        return None
    act = ACTIVATIONS[config.activation_function]
    on_cpu, in_8_bits = model.device.type == "cpu", any(isinstance(module, Int8) for module in model.modules())
    least, together = PARTS[1 if in_8_bits else min(model.dtype.itemsize, 4)]
    layers = [
        (block.attn.scale, *(layer.forward for layer in (
            block.ln_1, block.attn.c_attn, block.attn.c_proj, block.ln_2, block.mlp.c_fc, block.mlp.c_proj
        ))) for block in trunk.h
    ]  # fmt: skip

    @torch.inference_mode()
    def step(input_ids, position_ids, kept, places, past, first, every):
        hidden, whole = [], [(slice(None), None)]
        for some, end in generation.parts(*input_ids.shape, first, least, together) if on_cpu else whole:
            begin = first + (some.start or 0)
            x = read(input_ids[:, some], position_ids[:, some], kept[:, :end], places[some], past, begin)
            hidden.append(x if every else x[:, -1:])
        return model.logits(trunk.ln_f(torch.cat(hidden, dim=1) if every else hidden[-1]))

    def read(input_ids, position_ids, kept, places, past, first):
        """Returns (B, T, C) of tokens that see those of the first S slots which `kept` (B, S) says."""
        T, S = input_ids.shape[1], kept.shape[1]
        all_before = on_cpu and T in (1, S) and kept.all().item()  # then none is masked but what comes after
        x = trunk.embed(input_ids, None, None, position_ids)
        mask = None if all_before else added(visible_slots(kept, places)[0], x.dtype)
        heads = (*x.shape[:2], 3, config.n_head, config.head_dim)
        rows = x.view(-1, config.n_embd)  # of all texts, which is what matrices multiply
        # products may come by columns; all that follows but activations wants rows
        for (scale, ln_1, c_attn, attn_proj, ln_2, c_fc, mlp_proj), slots in zip(layers, past, strict=True):
            q, *new = c_attn(ln_1(rows)).contiguous().view(heads).permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
            for old, part in zip(slots, new, strict=True):
                old.narrow(2, first, T).copy_(part)
            k, v = (old.narrow(2, 0, S) for old in slots)  # (B, H, S, D)
            a = lean_attention(q, k, v, mask, all_before and T > 1, scale)
            rows = rows + attn_proj(a.transpose(1, 2).reshape(rows.shape)).contiguous()
            rows = rows + mlp_proj(act(c_fc(ln_2(rows)))).contiguous()
        return rows.view(x.shape)

    return step


def is_as_made(part):
    """Returns whether a module is one of this package or its parts, runs as it was written, and does not learn."""
    hooked = part._forward_hooks or part._forward_pre_hooks or part._compiled_call_impl is not None
    ours = type(part).__module__.startswith(_TREE) or type(part) in (nn.ModuleList, nn.Dropout)
    return ours and not hooked and "forward" not in part.__dict__ and not part.training
