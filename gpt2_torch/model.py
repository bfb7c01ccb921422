"""GPT2Model: embeddings, blocks, final norm."""

import functools

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gpt2_core.outputs import BaseModelOutput

from .attention import added, visible_encoder_keys, visible_keys
from .base import GPT2PreTrainedModel
from .block import Block
from .inputs import as_tensors, count_positions
from .layers import Embedding, LayerNorm


class GPT2Model(GPT2PreTrainedModel):
    """The trunk: token ids (B,T) to last_hidden_state (B,T,C), a BaseModelOutput."""

    head = "model"

    def __init__(self, config, *, seed=0):
        super().__init__(config)
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config, i) for i in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self.initialise(seed)

    def embed(self, input_ids, inputs_embeds, token_type_ids, position_ids):
        x = self.wte(input_ids) if inputs_embeds is None else inputs_embeds.to(self.dtype)
        x = x + self.wpe(position_ids)
        if token_type_ids is not None:
            x = x + self.wte(token_type_ids)  # segments share the word table
        return self.drop(x)  # (B, T, C)

    def forward(
        self,
        input_ids=None,
        past_key_values=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        head_mask=None,
        inputs_embeds=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        config = self.config
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        # a cache would keep what is to be computed again: in training it must be asked for
        use_cache = config.use_cache and not recompute if use_cache is None else use_cache
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return_dict = config.return_dict if return_dict is None else return_dict

        given = as_tensors(
            config, self.device, past_key_values, input_ids=input_ids, inputs_embeds=inputs_embeds,
            attention_mask=attention_mask, token_type_ids=token_type_ids, position_ids=position_ids,
            head_mask=head_mask, encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
        )  # fmt: skip
        input_ids, inputs_embeds, attention_mask = given["input_ids"], given["inputs_embeds"], given["attention_mask"]
        past, head_mask, encoder = given["past_key_values"], given["head_mask"], given["encoder_hidden_states"]
        T = (input_ids if inputs_embeds is None else inputs_embeds).shape[1]
        P = 0 if past is None else past[0][0].shape[2]
        position_ids = given["position_ids"]
        if position_ids is None:
            position_ids = count_positions(attention_mask, P, T, self.device)

        x = self.embed(input_ids, inputs_embeds, given["token_type_ids"], position_ids)
        visible = visible_keys(attention_mask, T, P, self.device)
        head_mask = None if head_mask is None else head_mask.expand(config.n_layer, -1)  # (L, H)
        encoder_visible = None
        if encoder is not None or (past is not None and len(past[0]) == 4):
            E = past[0][2].shape[2] if encoder is None else encoder.shape[1]
            encoder = None if encoder is None else encoder.to(self.dtype)
            encoder_visible = visible_encoder_keys(given["encoder_attention_mask"], E, self.device)

        lean = None  # gradients of a query that sees no key would be wrong
        if attention_mask is None and head_mask is None and not output_attentions:
            lean = (added(visible[0], x.dtype),)
        presents, hidden_states, attentions, cross_attentions = [], [], [], []
        for i, block in enumerate(self.h):
            if output_hidden_states:
                hidden_states.append(x)
            own = (None if past is None else past[i], None if head_mask is None else head_mask[i])
            run = functools.partial(checkpoint, block, use_reentrant=False) if recompute else block
            x, present, weights = run(x, visible, *own, encoder, encoder_visible, lean=lean)
            if use_cache:
                presents.append(present)
            if output_attentions:
                attentions.append(weights[0])
                cross_attentions += weights[1:]
        x = self.ln_f(x)

        out = BaseModelOutput(
            last_hidden_state=x,
            past_key_values=tuple(presents) if use_cache else None,
            hidden_states=(*hidden_states, x) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
            cross_attentions=tuple(cross_attentions) or None,
        )
        return out if return_dict else out.to_tuple()
