"""Arrays to and from the tree: what every model can load and save."""

import torch
from torch import nn

from gpt2_core import checkpoint
from gpt2_core.config import GPT2Config
from gpt2_core.errors import GPT2Error
from gpt2_core.initial import LATER, initial_weights


class GPT2PreTrainedModel(nn.Module):
    """What all models share: a config, initial weights from a seed, loading and saving."""

    head = None  # the model's name in gpt2_core.weights

    def __init__(self, config):
        super().__init__()
        if not isinstance(config, GPT2Config):
            raise GPT2Error(
                f"config is a {type(config).__name__}: give a GPT2Config, or use {type(self).__name__}"
                ".from_pretrained(folder)"
            )
        self.config = config

    @property
    def dtype(self):
        """Type of the weights."""
        return next(self.parameters()).dtype

    @property
    def device(self):
        """Device of the weights."""
        return next(self.parameters()).device

    def num_parameters(self):
        """Returns how many numbers the model learns; a tied head counts once."""
        return sum(weight.numel() for _, weight in named_weights(self))

    def initialise(self, seed):
        """Draws every weight from `seed`; LATER leaves them to the caller, and so does the meta device."""
        if seed is LATER or self.device.type == "meta":
            return
        with torch.no_grad():
            for name, values in initial_weights(self.config, self.head, seed):
                self.get_parameter(name).copy_(torch.from_numpy(values))

    @classmethod
    def from_pretrained(cls, folder, *, dtype=None, seed=0, **overrides):
        """Returns the model of a checkpoint folder or file, in eval mode, whichever framework wrote it.

        dtype: None keeps every value (float64 stays, everything else is computed in float32), "auto" takes the
        file's type, or name one. seed: for a head that the checkpoint does not have. overrides: config fields.
        """
        with checkpoint.open(folder, **overrides) as source:
            matched = checkpoint.match(source, cls.head, dtype)
            with torch.device("meta"):
                model = cls(source.config, seed=LATER)
            for name, bits in matched.weights(source.config, cls.head, seed):
                owner, leaf = name.rsplit(".", 1)
                setattr(model.get_submodule(owner), leaf, nn.Parameter(from_bits(bits, matched.dtype)))
        return model.eval()

    def save_pretrained(self, folder, format="safetensors", max_shard_size="5GB"):
        """Writes config.json and the weights into `folder`, all or nothing: "safetensors" or "tf-h5"."""
        tensors = {name: to_tensor(weight) for name, weight in named_weights(self)}
        checkpoint.save(folder, self.config, tensors, self.head, format=format, max_shard_size=max_shard_size)


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
