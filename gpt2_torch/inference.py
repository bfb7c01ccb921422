"""A language model as `generate` uses it: a cache made beforehand, one step for the prompts and for every token."""

import contextlib
import functools

import numpy as np
import torch

from gpt2_core import generation

from .logits import best, pick, process
from .products import products_of


class Decoder(generation.Decoder):
    """Rows of tokens in a model; see gpt2_core.generation.Decoder."""

    def __init__(self, model, encoder_hidden_states=None, encoder_attention_mask=None):
        super().__init__(model.config.n_positions)
        self.model = model
        self.given = encoder_hidden_states, encoder_attention_mask
        self.encoder = self.encoder_mask = None  # of each row; the states until the cache holds their keys and values
        self.cache = self.logits = None
        self.products = None if "step" in model.__dict__ else products_of(model)  # None: a user's step, or no gain

    def allocate(self, prompts, slots):
        config = self.model.config
        shape = (len(prompts), config.n_head, slots, config.head_dim)
        zeros = functools.partial(torch.zeros, shape, dtype=self.model.dtype, device=self.model.device)
        self.cache = tuple((zeros(), zeros()) for _ in range(config.n_layer))
        rows = self.tensor(np.asarray(prompts))
        self.encoder, self.encoder_mask = (None if x is None else x[rows] for x in self.given)

    def restore(self, past):
        for entry, old in zip(self.cache, past, strict=True):
            for slots, values in zip(entry, old[:2], strict=True):
                slots[:, :, : values.shape[2]] = values
        self.cache = tuple((*entry, *old[2:]) for entry, old in zip(self.cache, past, strict=True))

    def compute(self, ids, positions, kept, first, every):
        places = np.arange(first, first + ids.shape[1])
        given = [self.tensor(x) for x in (ids, positions, kept, places)]
        with contextlib.nullcontext() if self.products is None else self.products.of(*ids.shape):
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
