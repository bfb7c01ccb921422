"""Arrays to and from the tree: what every model can load and save."""

import inspect
import math

import keras
import ml_dtypes
import numpy as np
from keras import ops

from gpt2_core import checkpoint
from gpt2_core.config import GPT2Config
from gpt2_core.errors import GPT2Error
from gpt2_core.initial import LATER, initial_weights
from gpt2_core.inputs import as_array

ARRAYS = {"input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds", "labels"}


class TFGPT2PreTrainedModel(keras.Model):
    """What all models share: a config, initial weights from a seed, loading and saving."""

    head = None  # the model's name in gpt2_core.weights

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(config, GPT2Config):
            raise GPT2Error(
                f"config is a {type(config).__name__}: give a GPT2Config, or use {type(self).__name__}"
                ".from_pretrained(folder)"
            )
        self.config = config

    def __call__(self, *args, **kwargs):
        """Takes what Keras itself refuses: one dict of all inputs, as `fit` passes it, and lists of numbers."""
        if args and isinstance(args[0], dict):
            args, kwargs = args[1:], {**args[0], **kwargs}
        names = tuple(inspect.signature(self.call).parameters)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for name in ARRAYS & given.keys():
            if isinstance(given[name], list | tuple | int | float | str):
                given[name] = as_array(name, given[name])
        return super().__call__(**given)

    def num_parameters(self):
        """Returns how many numbers the model learns; a tied head counts once."""
        return sum(math.prod(weight.shape) for _, weight in named_weights(self))

    def initialise(self, seed):
        """Draws every weight from `seed`; LATER leaves them to the caller."""
        if seed is LATER:
            return
        weights = dict(named_weights(self))
        for name, values in initial_weights(self.config, self.head, seed):
            weights[name].assign(values)

    @classmethod
    def from_pretrained(cls, folder, *, dtype=None, seed=0, **overrides):
        """Returns the model of a checkpoint folder or file, whichever framework wrote it.

        dtype: None keeps every value (float64 stays, everything else is computed in float32), "auto" takes the
        file's type, or name one. seed: for a head that the checkpoint does not have. overrides: config fields.
        """
        with checkpoint.open(folder, **overrides) as source:
            matched = checkpoint.match(source, cls.head, dtype)
            model = cls(source.config, seed=LATER, dtype=matched.dtype)
            weights = dict(named_weights(model))
            for name, bits in matched.weights(source.config, cls.head, seed):
                weights[name].assign(from_bits(bits, matched.dtype))
        return model

    def save_pretrained(self, folder, format="safetensors", max_shard_size="5GB"):
        """Writes config.json and the weights into `folder`, all or nothing: "safetensors" or "tf-h5"."""
        tensors = {name: to_tensor(weight) for name, weight in named_weights(self)}
        checkpoint.save(folder, self.config, tensors, self.head, format=format, max_shard_size=max_shard_size)

    def get_config(self):
        """Returns what Keras needs to make the model again."""
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        return {"config": self.config.to_dict(), "name": self.name, "dtype": policy}

    @classmethod
    def from_config(cls, config):
        """Returns the model that get_config describes, its weights to be loaded."""
        return cls(GPT2Config.from_dict(config["config"]), seed=LATER, name=config["name"], dtype=config["dtype"])


def named_weights(model, prefix=""):
    """Returns (name, weight) of every weight, in the order of the weight table: the names of the attributes."""
    found = []
    for attribute, value in vars(model).items():
        if attribute in ("weight", "bias"):
            found.append((prefix + attribute, value))
        elif attribute == "h":
            for i, block in enumerate(value):
                found += named_weights(block, f"{prefix}h.{i}.")
        elif isinstance(value, keras.layers.Layer) and not attribute.startswith("_"):
            found += named_weights(value, f"{prefix}{attribute}.")
    return found


def from_bits(bits, dtype):
    """Returns an array over the bits of a core tensor, without a copy."""
    return bits.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else bits


def to_tensor(weight):
    """Returns a weight as a core tensor, copied to numpy only when it is read."""

    def read():
        values = np.ascontiguousarray(ops.convert_to_numpy(weight))
        return values.view(np.uint16) if values.dtype == ml_dtypes.bfloat16 else values

    return checkpoint.Tensor(checkpoint.dtype_name(weight.dtype), tuple(weight.shape), read)
