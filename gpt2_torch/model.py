"""GPT2Model: embeddings, blocks, final norm."""

from torch import nn

from gpt2_core.errors import GPT2Error
from gpt2_core.outputs import BaseModelOutput

from .attention import visible_keys
from .block import Block
from .checkpoint import GPT2PreTrainedModel
from .inputs import as_tensors, count_positions
from .layers import Embedding, LayerNorm


class GPT2Model(GPT2PreTrainedModel):
    """The trunk: token ids (B,T) to last_hidden_state (B,T,C), a BaseModelOutput."""

    head = "model"

    def __init__(self, config, *, seed=0):
        super().__init__(config)
        if config.add_cross_attention:
            raise GPT2Error("add_cross_attention=True is not built yet: use a config without it")
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config, i) for i in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)
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
        *,
        inputs_embeds=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        config = self.config
        use_cache = config.use_cache if use_cache is None else use_cache
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return_dict = config.return_dict if return_dict is None else return_dict

        given = as_tensors(
            config, self.device, past_key_values, input_ids=input_ids, inputs_embeds=inputs_embeds,
            attention_mask=attention_mask, token_type_ids=token_type_ids, position_ids=position_ids,
        )  # fmt: skip
        input_ids, inputs_embeds, attention_mask = given["input_ids"], given["inputs_embeds"], given["attention_mask"]
        past = given["past_key_values"]
        T = (input_ids if inputs_embeds is None else inputs_embeds).shape[1]
        P = 0 if past is None else past[0][0].shape[2]
        position_ids = given["position_ids"]
        if position_ids is None:
            position_ids = count_positions(attention_mask, P, T, self.device)

        x = self.embed(input_ids, inputs_embeds, given["token_type_ids"], position_ids)
        visible = visible_keys(attention_mask, T, P, self.device)
        presents, hidden_states, attentions = [], [], []
        for i, block in enumerate(self.h):
            hidden_states += [x] if output_hidden_states else []
            x, present, w = block(x, visible, None if past is None else past[i])
            presents += [present] if use_cache else []
            attentions += [w] if output_attentions else []
        x = self.ln_f(x)

        out = BaseModelOutput(
            last_hidden_state=x,
            past_key_values=tuple(presents) if use_cache else None,
            hidden_states=(*hidden_states, x) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return out if return_dict else out.to_tuple()
