"""Functions as TensorFlow's graphs, each traced once; other backends run them as they are."""

import contextlib

import keras

from ..attention import owned_caches
from ..matmul import one_row


def in_float64():
    """Returns a context in which float64 is what it says: JAX narrows it unless it is told."""
    if keras.config.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


def graphs_of(model):
    """Returns the dict of a model's graphs, kept with the model as it is: a user may replace a layer."""
    weights = tuple(id(weight) for weight in model.weights)
    if model.__dict__.get("_graph_weights") != weights:
        model.__dict__.update(_graph_weights=weights, _graphs={})
    return model.__dict__["_graphs"]


def graph(graphs, key, function, *examples):
    """Returns a function as a graph for arguments like the examples: their sizes are free, but for their last axis.

    graphs: of graphs_of, where it is kept.
    """
    if keras.config.backend() != "tensorflow":
        return function
    import tensorflow as tf

    signature = keras.tree.map_structure(spec, examples)
    key = (*key, str(signature))
    if key not in graphs:
        graphs[key] = tf.function(function, input_signature=signature, autograph=False)
    return graphs[key]


def spec(x):
    """Returns what a graph knows of a tensor: of scores (B, V) V, of a cache (B, H, S, D) H and D, of states C."""
    import tensorflow as tf

    known = {2: (1,), 3: (2,), 4: (1, 3)}.get(len(x.shape), ()) if "float" in x.dtype.name else ()
    return tf.TensorSpec([size if i in known else None for i, size in enumerate(x.shape)], x.dtype)


def step_of(model, graphs, every, direct=None):
    """Returns model.step as a graph for every batch, prompt and cache length, which writes into the cache it is given.

    As it is where a user replaced it. direct: what is to be the graph in its place, of tokens and a cache.
    """
    if "step" in model.__dict__ or keras.config.backend() != "tensorflow":
        return lambda *given: model.step(*given, every=every)

    def run(tokens, cache, more):
        with owned_caches():
            return model.step(*tokens, cache, **more, every=every) if direct is None else direct(*tokens, cache)

    made = []  # looked for once: that takes as long as some of a step's products

    def traced(*given):
        more = {"encoder": given[5], "encoder_mask": given[6]}
        more = {name: x for name, x in more.items() if x is not None}
        if not made:
            key = ("step", every) if direct is None else ("direct",)
            made.append(graph(graphs, key, run, given[:4], given[4], more).get_concrete_function())
        with in_order():
            return made[0](given[:4], given[4], more)

    return traced


def in_order():
    """Returns a context in which TensorFlow starts a graph's operations one after the other, from the thread that asks.

    A step is a chain of them, which gains nothing by more threads that start them and loses some 2 ms a token
    (docs/performance.md). On how many threads one operation computes is not changed.
    """
    try:
        from tensorflow.python.eager import context

        return context.function_executor_type("SINGLE_THREADED_EXECUTOR")
    except (ImportError, AttributeError):  # TensorFlow promises no such function
        return contextlib.nullcontext()


def shared(*layers):
    """Returns a decorator: XLA compiles a function of one row, whose first argument is from then on `values_of` others.

    It does what it did with these layers, but as if they had those weights: one serves all blocks.
    """
    import tensorflow as tf

    own = [weight for layer in layers for weight in layer.weights]

    def compiled(function):
        def run(values, *given):
            with keras.StatelessScope(state_mapping=zip(own, values, strict=True)), one_row():
                return function(*given)

        return tf.function(run, jit_compile=True, autograph=False)

    return compiled


def values_of(*layers):
    return [weight.value for layer in layers for weight in layer.weights]
