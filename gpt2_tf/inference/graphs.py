"""Functions as TensorFlow's graphs, each traced once; other backends run them as they are."""

import contextlib

import keras

from ..attention import owned_caches
from ..matmul import rows_by_xla


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


def step_of(model, graphs, every):
    """Returns model.step as a graph for every batch, prompt and cache length, which writes into the cache it is given.

    As it is where a user replaced it.
    """
    if "step" in model.__dict__ or keras.config.backend() != "tensorflow":
        return lambda *given: model.step(*given, every=every)

    def run(tokens, cache, more):
        with owned_caches(), rows_by_xla():
            return model.step(*tokens, cache, **more, every=every)

    made = []  # looked for once: that takes as long as some of a step's products

    def traced(*given):
        more = {"encoder": given[5], "encoder_mask": given[6]}
        more = {name: x for name, x in more.items() if x is not None}
        if not made:
            made.append(graph(graphs, ("step", every), run, given[:4], given[4], more).get_concrete_function())
        return made[0](given[:4], given[4], more)

    return traced
