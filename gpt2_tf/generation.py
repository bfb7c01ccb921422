"""generate: the plan of gpt2_core, executed with a key and value cache."""

import keras
import numpy as np
from keras import ops

from gpt2_core import generation
from gpt2_core.generation import LogitsStep

from .logits import pick


class GenerationMixin:
    """Gives a language model `generate`."""

    def generate(self, input_ids=None, attention_mask=None, generation_config=None, *, seed=None, **overrides):
        """Returns the prompts with their continuations, ids (B, T + new).

        input_ids: (B, T), or a list of prompts of any lengths; None starts from bos_token_id. Each row's tokens come
        out at the right end of the prompt, and a row that has met an end token is filled up with pad_token_id.
        seed: for do_sample, one number or one per row; None takes a fresh one. overrides: fields of GenerationConfig.
        """
        plan = generation.plan(self.config, generation_config, overrides, input_ids, attention_mask, seed)
        ids = ops.convert_to_tensor(plan.input_ids, "int32")
        mask = ops.convert_to_tensor(plan.attention_mask, "int32")
        uniforms = None if plan.uniforms is None else ops.convert_to_tensor(plan.uniforms)
        eos = ops.convert_to_tensor(plan.eos_token_ids, "int32")

        step = graph_step(self, plan.steps, sampled=uniforms is not None)
        nothing = no_past(self, len(plan.input_ids))
        new, past = ids, nothing
        finished = ops.zeros(len(plan.input_ids), "bool")
        for t in range(plan.max_new_tokens):
            token, past = step(new, past, mask, None if uniforms is None else uniforms[t])
            token = ops.where(finished, plan.pad_token_id, token)
            ids = ops.concatenate([ids, token[:, None]], axis=1)
            mask = ops.concatenate([mask, ops.ones_like(mask[:, :1])], axis=1)
            new, past = (token[:, None], past) if plan.use_cache else (ids, nothing)
            finished = finished | ops.any(token[:, None] == eos[None], axis=-1)
            if np.all(finished):
                break
        return ids

    def step(self, input_ids, past_key_values, attention_mask, steps, uniforms):
        """Returns the next token (B,), and the cache that holds everything before it."""
        out = self.transformer(
            input_ids,
            past_key_values,
            attention_mask,
            use_cache=True,
            return_dict=True,
            output_hidden_states=False,
            output_attentions=False,
        )
        logits = self.logits(out.last_hidden_state[:, -1:])[:, -1]  # (B, V)
        return ops.cast(pick(logits, steps, uniforms), "int32"), out.past_key_values


def no_past(model, batch):
    """Returns a cache of no tokens, so that the first step has the shape of every later one."""
    config = model.config
    empty = ops.zeros((batch, config.n_head, 0, config.head_dim), model.compute_dtype)
    return ((empty, empty),) * config.n_layer


def graph_step(model, steps, sampled):
    """Returns model.step as a graph, traced once for every batch, prompt and cache length and every value of the steps.

    Other backends than TensorFlow run it as it is.
    """
    if keras.config.backend() != "tensorflow":
        return lambda new, past, mask, uniforms: model.step(new, past, mask, steps, uniforms)
    names = tuple(step.name for step in steps)
    weights = tuple(id(weight) for weight in model.weights)  # a user may have replaced a layer
    if model.__dict__.get("_graph_weights") != weights:
        model.__dict__.update(_graph_weights=weights, _graph_steps={})
    graphs = model.__dict__["_graph_steps"]
    if (names, sampled) not in graphs:
        graphs[names, sampled] = trace(model, names, sampled)
    values = np.array([step.value for step in steps])
    graph = graphs[names, sampled]
    return lambda new, past, mask, uniforms: graph(new, past, mask, uniforms if sampled else (), values)


def trace(model, names, sampled):
    """Returns the graph of one step with the logits steps of these names."""
    import tensorflow as tf

    config = model.config
    ids = tf.TensorSpec((None, None), tf.int32)
    cache = tf.TensorSpec((None, config.n_head, None, config.head_dim), model.compute_dtype)
    past = ((cache, cache),) * config.n_layer
    uniforms = tf.TensorSpec((None,), tf.float64) if sampled else ()
    values = tf.TensorSpec((len(names),), tf.float64)

    @tf.function(input_signature=(ids, past, ids, uniforms, values), autograph=False)
    def graph(new, past, mask, uniforms, values):
        steps = [LogitsStep(name, values[i]) for i, name in enumerate(names)]
        return model.step(new, past, mask, steps, uniforms if sampled else None)

    return graph
