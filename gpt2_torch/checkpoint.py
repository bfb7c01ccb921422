"""Arrays to and from the tree: what every model can load and save."""

import functools

import torch
from torch import nn

from gpt2_core import checkpoint
from gpt2_core.generation import GenerationConfig
from gpt2_core.initial import LATER
from gpt2_core.inputs import check_constructor

from .inference.quantized import check_whole, quantized


def named_weights(model):
    """Returns (name, weight) of every weight, in the order of the weight table."""
    return list(model.named_parameters())


def from_bits(bits, dtype):
    """Returns a tensor over the bits of a core tensor, without a copy."""
    tensor = torch.from_numpy(bits)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def filled(make, given, dtype):
    """Returns the model that `make` makes, with the weights given, name -> how to read their bits."""
    with torch.device("meta"):  # no values before those of the file
        model = make()
    if {*dict(model.named_parameters()), *dict(model.named_buffers())} - given.keys():
        model = make()  # a user's class, which makes what is its own by itself
    for name, read in given.items():
        owner, leaf = name.rsplit(".", 1)
        setattr(model.get_submodule(owner), leaf, nn.Parameter(from_bits(read(), dtype)))
    return model


def to_tensor(weight):
    """Returns a weight as a core tensor, copied to the CPU only when it is read."""

    def read():
        values = weight.detach().cpu().contiguous()
        return (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()

    return checkpoint.Tensor(checkpoint.dtype_name(weight.dtype), tuple(weight.shape), read)


class CheckpointMixin:
    """Gives a model of the weight table `from_pretrained` and `save_pretrained`."""

    head = None  # the model's name in gpt2_core.weights

    @classmethod
    def from_pretrained(cls, folder, *, dtype=None, seed=0, quantize=None, **overrides):
        """Returns the model of a checkpoint folder or file, in eval mode, whichever framework wrote it.

        dtype: None keeps every value (float64 stays, everything else is computed in float32), "auto" takes the
        file's type, or name one. seed: for a head that the checkpoint does not have. quantize: "int8" rounds the
        matrices to 8 bits, for inference on a CPU. overrides: config fields.
        """
        with checkpoint.open(folder, **overrides) as source:
            matched = checkpoint.match(source, cls.head, dtype)
            check_constructor(cls, "seed")
            make = functools.partial(cls, source.config, seed=LATER)
            model = filled(make, matched.weights(source.config, cls.head, seed), matched.dtype)
            if hasattr(model, "generation_config"):
                model.generation_config = GenerationConfig.beside(source.path)
        return quantized(model, quantize).eval()

    def save_pretrained(self, folder, format="safetensors", max_shard_size="5GB"):
        """Writes config.json and the weights into `folder`, all or nothing.

        format: "safetensors", "torch" (pytorch_model.bin), "tf-h5" (tf_model.h5) or "keras" (model.weights.h5).
        """
        check_whole(self)
        tensors = {name: to_tensor(weight) for name, weight in named_weights(self)}
        checkpoint.require_table(self.config, self.head, tensors)
        checkpoint.save(folder, self.config, tensors, self.head, format=format, max_shard_size=max_shard_size)
        if hasattr(self, "generation_config"):
            self.generation_config.save_beside(folder)
