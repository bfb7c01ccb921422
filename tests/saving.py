"""Saving in a process of its own, for the test that kills it; imports the core alone, so that it starts fast."""

import sys

import numpy as np

from gpt2_core import GPT2Config, checkpoint
from gpt2_core.checkpoint import Tensor
from gpt2_core.weights import weight_specs


def save_constant(folder, value, max_shard_size="5GB"):
    """Saves a model of `value` + 1 layers whose every weight is `value`, large enough that a save takes a while."""
    config = GPT2Config(vocab_size=2000, n_positions=64, n_embd=64, n_layer=value + 1, n_head=2)
    specs = weight_specs(config, "lm_head")
    tensors = {name: Tensor.of(np.full(spec.shape, value, np.float32)) for name, spec in specs.items()}
    checkpoint.save(folder, config, tensors, "lm_head", max_shard_size=max_shard_size)


if __name__ == "__main__":
    print("ready", flush=True)
    value = 0
    while True:
        value = 1 - value
        save_constant(sys.argv[1], value, sys.argv[2])
