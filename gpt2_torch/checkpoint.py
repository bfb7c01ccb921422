"""Arrays to and from the tree: what every model can load and save."""

import torch
from torch import nn

from gpt2_core import checkpoint
from gpt2_core.initial import LATER
from gpt2_core.inputs import check_constructor


def named_weights(model):
    """Returns (name, weight) of every weight, in the order of the weight table."""
    return list(model.named_parameters())


def from_bits(bits, dtype):
    """Returns a tensor over the bits of a core tensor, without a copy."""
    tensor = torch.from_numpy(bits)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


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
    def from_pretrained(cls, folder, *, dtype=None, seed=0, **overrides):
        """Returns the model of a checkpoint folder or file, in eval mode, whichever framework wrote it.

        dtype: None keeps every value (float64 stays, everything else is computed in float32), "auto" takes the
        file's type, or name one. seed: for a head that the checkpoint does not have. overrides: config fields.
        """
        with checkpoint.open(folder, **overrides) as source:
            matched = checkpoint.match(source, cls.head, dtype)
            check_constructor(cls, "seed")
            with torch.device("meta"):
                model = cls(source.config, seed=LATER)
            made = {**dict(model.named_parameters()), **dict(model.named_buffers())}
            if made.keys() - set(matched.names):
                model = cls(source.config, seed=LATER)  # a user's class, which makes what is its own by itself
            for name, bits in matched.weights(source.config, cls.head, seed):
                owner, leaf = name.rsplit(".", 1)
                setattr(model.get_submodule(owner), leaf, nn.Parameter(from_bits(bits, matched.dtype)))
        return model.eval()

    def save_pretrained(self, folder, format="safetensors", max_shard_size="5GB"):
        """Writes config.json and the weights into `folder`, all or nothing.

        format: "safetensors", "torch" (pytorch_model.bin), "tf-h5" (tf_model.h5) or "keras" (model.weights.h5).
        """
        tensors = {name: to_tensor(weight) for name, weight in named_weights(self)}
        checkpoint.require_table(self.config, self.head, tensors)
        checkpoint.save(folder, self.config, tensors, self.head, format=format, max_shard_size=max_shard_size)
