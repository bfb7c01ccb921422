"""What all models share."""

import contextlib
import dataclasses
import functools
import inspect
import math

import keras
import numpy as np
from keras import ops

from gpt2_core.config import GPT2Config
from gpt2_core.generation import GenerationConfig
from gpt2_core.initial import LATER, grown_rows, initial_weights
from gpt2_core.inputs import as_array, check_config, check_table
from gpt2_core.plain import check_seed

from .checkpoint import CheckpointMixin, named_weights
from .fit import FitMixin
from .parameters import parameter


def trunk_of(model):
    """Returns the TFGPT2Model within a model, which may be the model itself."""
    return getattr(model, "transformer", model)


class TFGPT2PreTrainedModel(FitMixin, CheckpointMixin, keras.Model):
    """A config, initial weights from a seed, loading and saving, the word table, gradient checkpointing."""

    def __init__(self, config, **kwargs):
        super().__init__(autocast=self.head == "model", **kwargs)  # a head's labels are not to be narrowed
        check_config(type(self).__name__, config)
        self.config = config
        self.seeds = keras.random.SeedGenerator(0)  # of dropout, one a training step

    def __call__(self, *args, **kwargs):
        """Takes what Keras itself refuses: one dict of all inputs, as `fit` passes it, lists of numbers, None."""
        signature = inspect.signature(self.call)
        if next(iter(signature.parameters), None) != "input_ids":  # a user's class with a call of its own
            return super().__call__(*args, **kwargs)
        if args and isinstance(args[0], dict):
            kwargs = {**args[0], **kwargs}
            args = (kwargs.pop("input_ids", None), *args[1:])
        given = signature.bind(*args, **kwargs).arguments
        for name, value in given.items():
            if name != "past_key_values" and isinstance(value, list | tuple | str | np.ndarray):
                given[name] = as_array(name, value)
        return super().__call__(**given)

    def num_parameters(self):
        """Returns how many numbers the model learns; a tied head counts once."""
        return sum(math.prod(weight.shape) for _, weight in named_weights(self))

    def initialise(self, seed):
        """Draws every weight from `seed`, and has dropout start from it; LATER leaves them to the caller."""
        self.seed = 0
        if seed is LATER:
            return
        weights = dict(named_weights(self))
        for name, values in initial_weights(self.config, self.head, seed):
            weights[name].assign(values)
        self.start_dropout(seed)

    def start_dropout(self, seed):
        """Has the next training step drop by `seed`, whatever came before."""
        self.seed = check_seed(seed)
        start = self.seed % 2**32  # Keras' seeds have 32 bits
        trunk_of(self).seeds.state.assign([start, 0])
        if trunk_of(self) is not self:  # as far from the trunk's numbers as it can be
            self.seeds.state.assign([(start + 2**31) % 2**32, 0])

    def get_input_embeddings(self):
        """Returns the layer that holds the word table, weight (vocab_size, C)."""
        return trunk_of(self).wte

    def set_input_embeddings(self, layer):
        """Takes a layer's weight (vocab_size, C) as the word table, shared and not copied; a tied head follows."""
        check_table(self.config, layer)
        del trunk_of(self).wte.weight  # Keras forgets the old variable only so
        trunk_of(self).wte.weight = layer.weight
        self.forget_graphs()

    def resize_token_embeddings(self, new_num_tokens, *, seed=0):
        """Returns the layer of the word table after giving it `new_num_tokens` rows; an untied lm_head gets as many.

        Rows that stay keep every bit, new ones are those of a fresh model of this size and `seed`. The config is
        replaced by one with the new vocab_size. An optimizer must be made again.
        """
        for name, rows in grown_rows(self.config, new_num_tokens, self.head, seed):
            path, leaf = name.rsplit(".", 1)
            layer = functools.reduce(getattr, path.split("."), self)
            weight = getattr(layer, leaf)
            kept = ops.convert_to_tensor(weight)[:new_num_tokens]
            values = ops.concatenate([kept, ops.cast(rows, kept.dtype)])
            delattr(layer, leaf)  # Keras forgets the old variable only so
            with contextlib.ExitStack() as scopes:  # the new variable is named as the old one was
                for scope in weight.path.split("/")[:-2]:
                    scopes.enter_context(keras.name_scope(scope))
                setattr(layer, leaf, parameter(layer, leaf, *values.shape, autocast=False))
            getattr(layer, leaf).assign(values)
            getattr(layer, leaf).trainable = weight.trainable
        trunk_of(self).config = self.config = dataclasses.replace(self.config, vocab_size=new_num_tokens)
        self.forget_graphs()
        return self.get_input_embeddings()

    def gradient_checkpointing_enable(self):
        """In training, keeps only what enters each block and computes the rest again for the gradients."""
        trunk_of(self).gradient_checkpointing = True
        self.forget_graphs()

    def gradient_checkpointing_disable(self):
        """Keeps every activation again."""
        trunk_of(self).gradient_checkpointing = False
        self.forget_graphs()

    def forget_graphs(self):
        """Has Keras and `generate` trace again what was traced of the model as it was before."""
        self.train_function = self.test_function = self.predict_function = None
        self.__dict__.pop("_graph_weights", None)

    def get_config(self):
        """Returns what Keras needs to make the model again."""
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        made = {"config": self.config.to_dict(), "seed": self.seed, "name": self.name, "dtype": policy}
        if hasattr(self, "generation_config"):
            made["generation_config"] = self.generation_config.to_dict()
        return made

    @classmethod
    def from_config(cls, config):
        """Returns the model that get_config describes, with the initial weights of its seed."""
        made = {name: value for name, value in config.items() if name != "generation_config"}
        model = cls(**{**made, "config": GPT2Config.from_dict(config["config"])})
        if "generation_config" in config:
            model.generation_config = GenerationConfig.from_dict(config["generation_config"])
        return model
