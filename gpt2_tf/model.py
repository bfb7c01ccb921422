"""TFGPT2Model: embeddings, blocks, final norm."""

import keras
from keras import ops

from gpt2_core.outputs import BaseModelOutput

from .attention import visible_encoder_keys, visible_keys
from .base import TFGPT2PreTrainedModel
from .block import PLACES, Block
from .dropout import dropout, place
from .inputs import as_tensors, count_positions
from .layers import Embedding, LayerNorm


def recomputed(block):
    """Returns a block that keeps nothing for its gradients but what it is given, and computes the rest again."""

    def run(x, visible, past, head_mask, encoder, encoder_visible, seed):
        # gradients flow through arguments alone, and none may be None
        given = {"x": x, "past": past, "head_mask": head_mask, "encoder": encoder}
        given = {name: value for name, value in given.items() if value is not None}
        fixed = {"visible": visible, "encoder_visible": encoder_visible, "seed": seed}
        return keras.remat(lambda *values: block(**dict(zip(given, values, strict=True)), **fixed))(*given.values())

    return run


@keras.saving.register_keras_serializable("gpt2_tf")
class TFGPT2Model(TFGPT2PreTrainedModel):
    """The trunk: token ids (B,T) to last_hidden_state (B,T,C), a BaseModelOutput."""

    head = "model"
    learns = {"last_hidden_state": "last_hidden_state"}

    def __init__(self, config, *, seed=0, **kwargs):
        super().__init__(config, **kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.wte = Embedding(config.vocab_size, config.n_embd, name="wte", dtype=dtype)
            self.wpe = Embedding(config.n_positions, config.n_embd, name="wpe", dtype=dtype)
            self.drop = config.embd_pdrop
            self.h = [Block(config, i, name=f"h.{i}", dtype=dtype) for i in range(config.n_layer)]
            self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon, name="ln_f", dtype=dtype)
        self.gradient_checkpointing = False
        self.initialise(seed)
        self.built = True

    def embed(self, input_ids, inputs_embeds, token_type_ids, position_ids, seed=None):
        x = self.wte(input_ids) if inputs_embeds is None else ops.cast(inputs_embeds, self.compute_dtype)
        x = x + self.wpe(position_ids)
        if token_type_ids is not None:
            x = x + self.wte(token_type_ids)  # segments share the word table
        return dropout(x, self.drop, seed)  # (B, T, C)

    def call(
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
        training=None,
    ):
        config = self.config
        recompute = self.gradient_checkpointing and training
        # a cache would keep what is to be computed again: in training it must be asked for
        use_cache = config.use_cache and not recompute if use_cache is None else use_cache
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return_dict = config.return_dict if return_dict is None else return_dict

        given = as_tensors(
            config, past_key_values, input_ids=input_ids, inputs_embeds=inputs_embeds,
            attention_mask=attention_mask, token_type_ids=token_type_ids, position_ids=position_ids,
            head_mask=head_mask, encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
        )  # fmt: skip
        input_ids, inputs_embeds, attention_mask = given["input_ids"], given["inputs_embeds"], given["attention_mask"]
        past, head_mask, encoder = given["past_key_values"], given["head_mask"], given["encoder_hidden_states"]
        T = ops.shape(input_ids if inputs_embeds is None else inputs_embeds)[1]
        P = 0 if past is None else ops.shape(past[0][0])[2]
        position_ids = given["position_ids"]
        if position_ids is None:
            position_ids = count_positions(attention_mask, P, T)

        seed = self.seeds.next() if training else None
        x = self.embed(input_ids, inputs_embeds, given["token_type_ids"], position_ids, seed)
        visible = visible_keys(attention_mask, T, P)
        head_mask = (
            None if head_mask is None else ops.broadcast_to(head_mask, (config.n_layer, config.n_head))
        )  # (L, H)
        encoder_visible = None
        if encoder is not None or (past is not None and len(past[0]) == 4):
            E = ops.shape(past[0][2])[2] if encoder is None else ops.shape(encoder)[1]
            encoder = None if encoder is None else ops.cast(encoder, self.compute_dtype)
            encoder_visible = visible_encoder_keys(given["encoder_attention_mask"], E)

        presents, hidden_states, attentions, cross_attentions = [], [], [], []
        for i, block in enumerate(self.h):
            if output_hidden_states:
                hidden_states.append(x)
            own = (None if past is None else past[i], None if head_mask is None else head_mask[i])
            run = recomputed(block) if recompute else block
            x, present, weights = run(x, visible, *own, encoder, encoder_visible, seed=place(seed, 1 + PLACES * i))
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
