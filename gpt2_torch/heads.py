"""What is put on the trunk: a language model."""

import torch
import torch.nn.functional as F

from gpt2_core.errors import GPT2Error
from gpt2_core.initial import LATER
from gpt2_core.inputs import check_logits_to_keep
from gpt2_core.outputs import CausalLMOutput

from .checkpoint import GPT2PreTrainedModel
from .generation import GenerationMixin
from .inputs import as_labels
from .layers import Linear, wide
from .model import GPT2Model


def language_model_loss(logits, labels):
    """Mean cross entropy of each next token, in float32 at least; labels of -100 do not count."""
    V = logits.shape[-1]
    predicted = logits[:, :-1].to(wide(logits.dtype)).reshape(-1, V)
    return F.cross_entropy(predicted, labels[:, 1:].reshape(-1).long(), ignore_index=-100)


def check_tied(lm_head, wte):
    if wte is None or not torch.equal(lm_head, wte):
        raise GPT2Error("lm_head.weight differs from wte.weight: use a config with tie_word_embeddings=False")


class GPT2LMHeadModel(GenerationMixin, GPT2PreTrainedModel):
    """The language model: token ids (B,T) to logits (B,T,V), a CausalLMOutput."""

    head = "lm_head"

    def __init__(self, config, *, seed=0):
        super().__init__(config)
        self.transformer = GPT2Model(config, seed=LATER)
        self.lm_head = None if config.tie_word_embeddings else Linear(config.n_embd, config.vocab_size)
        self.initialise(seed)

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Takes also transformers' state_dict, which lists a tied lm_head.weight beside wte's."""
        if self.lm_head is None and "lm_head.weight" in state_dict:
            check_tied(state_dict["lm_head.weight"], state_dict.get("transformer.wte.weight"))
            state_dict = {name: weight for name, weight in state_dict.items() if name != "lm_head.weight"}
        return super().load_state_dict(state_dict, strict, assign)

    def logits(self, x):
        if self.lm_head is not None:
            return self.lm_head(x)
        return F.linear(x, self.transformer.wte.weight)  # (B, T, V)

    def forward(
        self,
        input_ids=None,
        past_key_values=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        *,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        logits_to_keep=0,
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        check_logits_to_keep(logits_to_keep, labels)
        labels = as_labels(self.config, labels, input_ids, inputs_embeds, self.device)
        out = self.transformer(
            input_ids,
            past_key_values,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.logits(out.last_hidden_state[:, -logits_to_keep:])  # [-0:] is all of them
        out = CausalLMOutput(
            loss=None if labels is None else language_model_loss(logits, labels),
            logits=logits,
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )
        return out if return_dict else out.to_tuple()
