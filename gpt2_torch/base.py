"""What all models share."""

import dataclasses

import torch
from torch import nn

from gpt2_core.initial import LATER, grown_rows, initial_weights
from gpt2_core.inputs import check_config, check_table

from .checkpoint import CheckpointMixin, named_weights
from .inference.quantized import check_whole


def trunk_of(model):
    """Returns the GPT2Model within a model, which may be the model itself."""
    return getattr(model, "transformer", model)


class GPT2PreTrainedModel(CheckpointMixin, nn.Module):
    """A config, initial weights from a seed, loading and saving, the word table, gradient checkpointing."""

    def __init__(self, config):
        super().__init__()
        check_config(type(self).__name__, config)
        self.config = config

    @property
    def dtype(self):
        """Type of the weights."""
        return trunk_of(self).wte.weight.dtype

    @property
    def device(self):
        """Device of the weights."""
        return trunk_of(self).wte.weight.device

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

    def get_input_embeddings(self):
        """Returns the layer that holds the word table, weight (vocab_size, C)."""
        return trunk_of(self).wte

    def set_input_embeddings(self, layer):
        """Takes a layer's weight (vocab_size, C) as the word table, shared and not copied; a tied head follows."""
        check_whole(self)
        check_table(self.config, layer)
        trunk_of(self).wte.weight = layer.weight

    def resize_token_embeddings(self, new_num_tokens, *, seed=0):
        """Returns the layer of the word table after giving it `new_num_tokens` rows; an untied lm_head gets as many.

        Rows that stay keep every bit, new ones are those of a fresh model of this size and `seed`. The config is
        replaced by one with the new vocab_size. An optimizer must be made again.
        """
        check_whole(self)
        for name, rows in grown_rows(self.config, new_num_tokens, self.head, seed):
            path, leaf = name.rsplit(".", 1)
            layer, weight = self.get_submodule(path), self.get_parameter(name)
            kept = weight.detach()[:new_num_tokens]
            values = torch.cat([kept, torch.from_numpy(rows).to(kept)])
            setattr(layer, leaf, nn.Parameter(values, requires_grad=weight.requires_grad))
        trunk_of(self).config = self.config = dataclasses.replace(self.config, vocab_size=new_num_tokens)
        return self.get_input_embeddings()

    def gradient_checkpointing_enable(self):
        """In training, keeps only what enters each block and computes the rest again for the gradients."""
        trunk_of(self).gradient_checkpointing = True

    def gradient_checkpointing_disable(self):
        """Keeps every activation again."""
        trunk_of(self).gradient_checkpointing = False
