"""A language model as `generate` uses it: a cache made beforehand, one step for the prompts and for every token."""

import functools

import keras
import numpy as np
from keras import ops

from gpt2_core import generation

from ..attention import put, visible_slots
from ..logits import best, pick, process
from ..matmul import can_compile, on_cpu
from .graphs import graph, graphs_of, in_float64, shared, step_of, values_of

# how many tokens, of each row at least and of all rows, are read at a time on a CPU; measured
PARTS = 256, 512
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
        self.graphs = graphs_of(model)  # once: that walks all weights
        self.on_cpu = keras.config.backend() == "tensorflow" and on_cpu()
        self.in_parts = self.on_cpu and not stepped
        self.direct = direct(model)

    def allocate(self, prompts, slots):
        config = self.model.config
        shape = (len(prompts), config.n_head, slots, config.head_dim)
        zeros = functools.partial(ops.zeros, shape, self.model.compute_dtype)
        self.cache = tuple((zeros(), zeros()) for _ in range(config.n_layer))  # each its own: steps write into them
        self.steps = {}
        rows = self.tensor(np.asarray(prompts))
        self.encoder, self.encoder_mask = (None if x is None else ops.take(x, rows, axis=0) for x in self.given)

    def grow(self, slots):
        def grown(x):
            return ops.pad(x, ((0, 0), (0, 0), (0, slots - x.shape[2]), (0, 0)))

        cache, self.cache = list(self.cache), None
        for i, (k, v, *cross) in enumerate(cache):  # so that each layer's old slots go before the next has new ones
            cache[i] = (grown(k), grown(v), *cross)
        self.cache = tuple(cache)

    def restore(self, past):
        self.cache = tuple(
            (
                *(
                    ops.slice_update(slots, (0, 0, 0, 0), ops.cast(values, slots.dtype))
                    for slots, values in zip(entry, old[:2], strict=True)
                ),
                *old[2:],
            )
            for entry, old in zip(self.cache, past, strict=True)
        )

    def compute(self, ids, positions, kept, first, every):
        places = np.arange(first, first + ids.shape[1])
        alone = self.direct is not None and ids.shape == (1, 1)
        kind = every, self.encoder is None, alone
        if kind not in self.steps:
            self.steps[kind] = step_of(self.model, self.graphs, every, self.direct if alone else None)
        # with a token alone, or with guesses, free slots are seen too: the others would be copied
        in_parts = self.in_parts and self.encoder is None and not every and ids.shape[1] > 1
        for some, end in generation.parts(*ids.shape, first, *PARTS) if in_parts else [(slice(None), None)]:
            given = [self.tensor(x) for x in (ids[:, some], positions[:, some], kept[:, :end], places[some])]
            self.logits, self.cache = self.steps[kind](*given, self.cache, self.encoder, self.encoder_mask)
        self.encoder = None

    def select(self, rows):
        rows = self.tensor(rows)
        self.cache = tuple(tuple(ops.take(x, rows, axis=0) for x in entry) for entry in self.cache)
        self.logits = ops.take(self.logits, rows, axis=0)
        self.encoder_mask = None if self.encoder_mask is None else ops.take(self.encoder_mask, rows, axis=0)

    def past(self):
        return tuple((k[:, :, : self.used], v[:, :, : self.used], *cross) for k, v, *cross in self.cache)

    def scores(self, normalise=False, place=-1):
        # TensorFlow takes longer to cut out the only one of an axis
        logits = ops.squeeze(self.logits, axis=1) if self.logits.shape[1] == 1 else self.logits[:, place]
        with in_float64():
            return ops.log_softmax(ops.cast(logits, "float64"), axis=-1) if normalise else logits

    def process(self, scores, steps):
        kinds = tuple((step.name, step.least, step.value if isinstance(step.value, int) else None) for step in steps)
        with in_float64():
            values = [self.tensor(np.asarray(step.value)) for step in steps]
            scores = ops.cast(scores, "float64")
            run = graph(self.graphs, ("process", kinds), lambda x, given: process(x, steps, given), scores, values)
            return run(scores, values)

    def pick(self, scores, uniforms):
        if uniforms is None:  # on a CPU numpy is at hand, and a millisecond sooner
            return np.argmax(self.numpy(scores), axis=-1) if self.on_cpu else self.numpy(pick(scores, None))
        with in_float64():
            uniforms = self.tensor(uniforms)
            return self.numpy(graph(self.graphs, ("pick",), pick, scores, uniforms)(scores, uniforms))

    def best(self, scores, running, count, uniforms):
        with in_float64():
            uniforms = None if uniforms is None else self.tensor(uniforms)
            return tuple(map(self.numpy, best(ops.cast(scores, "float64"), self.tensor(running), count, uniforms)))

    def tensor(self, array):
        array = np.asarray(array)
        return ops.convert_to_tensor(array.astype(np.int32) if array.dtype == np.int64 else array)

    def shown(self, array):
        return array  # transformers' streamers make a list of it, which TensorFlow's tensors cannot

    def numpy(self, tensor):
        return ops.convert_to_numpy(tensor)


def direct(model):
    """Returns `model.step` for one token of one row, most of which XLA computes, to be traced; None without one.

    XLA gives one row's products to all cores, and makes one operation of the many small ones around each: of 124M, 479
    are left of 3351. It compiles one block's, and is given each block's weights. Where anything was put into their way,
    another layer or a function, they are not passed by.
    """
    config, trunk = model.config, model.transformer
    if keras.config.backend() != "tensorflow" or config.add_cross_attention or not can_compile():
        return None
    if "step" in model.__dict__ or not all(map(is_as_made, parts_of(model))) or not are_alike(trunk.h):
        return None
    if {model.compute_dtype, *(weight.dtype for weight in model.weights)} not in ({"float32"}, {"float64"}):
        return None  # 16 bits gain too little for the time that compiling takes (docs/performance.md)
    one, head = trunk.h[0], (trunk.ln_f, model.lm_head or trunk.wte)

    def before(block):
        return block.ln_1, block.attn.c_attn

    def after(block):
        return block.attn.c_proj, block.ln_2, block.mlp

    @shared(*before(one))
    def enter(x):
        return tuple(map(one.attn.split_heads, ops.split(one.attn.c_attn(one.ln_1(x)), 3, axis=-1)))

    @shared()
    def attend(q, k, v, *visible):
        return one.attn.attend(q, k, v, visible, None, None)[0]

    @shared(*after(one))
    def leave(x, a):
        x = x + one.attn.c_proj(a)
        return x + one.mlp(one.ln_2(x))

    @shared(*head)
    def score(x):
        return model.logits(trunk.ln_f(x))

    def step(input_ids, position_ids, kept, places, past):
        x = trunk.embed(ops.reshape(input_ids, (1, 1)), None, None, ops.reshape(position_ids, (1, 1)))
        visible, presents = visible_slots(kept, ops.reshape(places, (1,))), []
        for block, slots in zip(trunk.h, past, strict=True):
            q, *new = enter(values_of(*before(block)), x)  # each (B, H, T, D)
            k, v = (put(old, places, part) for old, part in zip(slots, new, strict=True))  # (B, H, S, D)
            x = leave(values_of(*after(block)), x, attend([], q, k, v, *visible))
            presents.append((k, v))
        return score(values_of(*head), x), tuple(presents)

    return step


def is_as_made(part):
    """Returns whether a layer is one of this package and runs as it was written."""
    return type(part).__module__.startswith(_TREE) and "call" not in part.__dict__


def parts_of(model):
    """Yields a model and the layers that a step of it calls, each before its own: another may have others."""
    trunk = model.transformer
    yield from (model, trunk)
    yield from (trunk.wte, trunk.wpe, trunk.ln_f, *([] if model.lm_head is None else [model.lm_head]))
    for block in trunk.h:
        yield block
        yield from (block.ln_1, block.attn, block.ln_2, block.mlp)
        yield from (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)


def are_alike(blocks):
    """Returns whether blocks differ in their weights alone."""
    kinds = {(b.ln_1.epsilon, b.attn.scale, b.attn.upcast, b.ln_2.epsilon, b.mlp.activation) for b in blocks}
    return len(kinds) == 1
