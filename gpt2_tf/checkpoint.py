"""Arrays to and from the tree: what every model can load and save."""

import functools

import keras
import ml_dtypes
import numpy as np
from keras import ops

from gpt2_core import checkpoint
from gpt2_core.generation import GenerationConfig
from gpt2_core.initial import LATER
from gpt2_core.inputs import check_constructor

from .parameters import tensor_of


def named_weights(model, prefix=""):
    """Returns (name, weight) of every weight, in the order of the weight table: the names of the attributes."""
    found = []
    for attribute, value in vars(model).items():
        if attribute in ("weight", "bias"):
            if value is not None:
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


def filled(make, given, dtype):
    """Returns the model that `make` makes, with the weights given, name -> how to read their bits."""
    if not make.func.__module__.startswith(f"{__package__}."):
        model = make()  # a user's class, whose constructor may need values
        weights = dict(named_weights(model))
        for name, read in given.items():
            weights[name].assign(from_bits(read(), dtype))
        return model
    with keras.StatelessScope():  # values are made on leaving it: those of the file, and none before
        model = make()
        for name, weight in named_weights(model):
            weight.start.read = lambda name=name: tensor_of(from_bits(given[name](), dtype))
    return model


def to_tensor(weight):
    """Returns a weight as a core tensor, copied to numpy only when it is read."""

    def read():
        values = np.ascontiguousarray(ops.convert_to_numpy(weight))
        return values.view(np.uint16) if values.dtype == ml_dtypes.bfloat16 else values

    return checkpoint.Tensor(checkpoint.dtype_name(weight.dtype), tuple(weight.shape), read)


class CheckpointMixin:
    """Gives a model of the weight table `from_pretrained` and `save_pretrained`."""

    head = None  # the model's name in gpt2_core.weights

    @classmethod
    def from_pretrained(cls, folder, *, dtype=None, seed=0, **overrides):
        """Returns the model of a checkpoint folder or file, whichever framework wrote it.

        dtype: None keeps every value (float64 stays, everything else is computed in float32), "auto" takes the
        file's type, or name one, or a policy of Keras as "mixed_bfloat16". seed: for a head that the checkpoint does
        not have, and for dropout. overrides: config fields.
        """
        with checkpoint.open(folder, **overrides) as source:
            check_constructor(cls, "seed", "dtype")
            policy = dtype if str(dtype).startswith("mixed_") else None
            matched = checkpoint.match(source, cls.head, "float32" if policy else dtype)
            make = functools.partial(cls, source.config, seed=LATER, dtype=policy or matched.dtype)
            model = filled(make, matched.weights(source.config, cls.head, seed), matched.dtype)
            if hasattr(model, "generation_config"):
                model.generation_config = GenerationConfig.beside(source.path)
        model.start_dropout(seed)
        return model

    def save_pretrained(self, folder, format="safetensors", max_shard_size="5GB"):
        """Writes config.json and the weights into `folder`, all or nothing.

        format: "safetensors", "torch" (pytorch_model.bin), "tf-h5" (tf_model.h5) or "keras" (model.weights.h5).
        """
        weights = named_weights(self)
        known = {id(weight) for weight in dict(weights).values()}
        others = [weight.path for weight in self.weights if id(weight) not in known]  # a user's own
        checkpoint.require_table(self.config, self.head, [*dict(weights), *others])
        tensors = {name: to_tensor(weight) for name, weight in weights}
        checkpoint.save(folder, self.config, tensors, self.head, format=format, max_shard_size=max_shard_size)
        if hasattr(self, "generation_config"):
            self.generation_config.save_beside(folder)
