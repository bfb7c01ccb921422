"""What is put on the trunk: a language model, alone or with a choice among several texts."""

import torch

from gpt2_core.errors import GPT2Error
from gpt2_core.initial import LATER
from gpt2_core.inputs import check_logits_to_keep
from gpt2_core.outputs import CausalLMOutput, GPT2DoubleHeadsModelOutput
from gpt2_core.targets import check_choice_labels, check_choice_tokens, check_labels

from .base import GPT2PreTrainedModel
from .generation import GenerationMixin
from .inputs import as_target, as_tensors, token_shape
from .layers import Linear
from .losses import cross_entropy, language_model_loss
from .model import GPT2Model
from .summary import SequenceSummary, kept_tokens
from .ties import tied

# What has an axis of choices; the cache has none, its rows are B*N
PER_CHOICE = {
    "input_ids",
    "inputs_embeds",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "encoder_hidden_states",
    "encoder_attention_mask",
}


def merge_choices(x):
    """Returns (B, N, …) as (B*N, …)."""
    return None if x is None else x.reshape(-1, *x.shape[2:])


def split_choices(x, B, N):
    """Returns (B*N, …) as (B, N, …), each of several."""
    if x is None or isinstance(x, tuple):
        return x and tuple(split_choices(part, B, N) for part in x)
    return x.reshape(B, N, *x.shape[1:])


def check_tied(lm_head, wte):
    if not torch.equal(lm_head, wte):
        raise GPT2Error("lm_head.weight differs from wte.weight: use a config with tie_word_embeddings=False")


class LanguageModel(GenerationMixin, GPT2PreTrainedModel):
    """The trunk with logits over the vocabulary."""

    def __init__(self, config):
        super().__init__(config)
        self.transformer = GPT2Model(config, seed=LATER)
        self.lm_head = None if config.tie_word_embeddings else Linear(config.n_embd, config.vocab_size)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Takes also transformers' state_dict, which lists a tied lm_head.weight beside wte's."""
        if self.lm_head is None and prefix + "lm_head.weight" in state_dict:
            weight = state_dict.pop(prefix + "lm_head.weight")
            check_tied(weight, state_dict.setdefault(prefix + "transformer.wte.weight", weight))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def logits(self, x):
        if self.lm_head is not None:
            return self.lm_head(x)
        return self.transformer.wte.scores(x)  # (B, T, V)


class GPT2LMHeadModel(LanguageModel):
    """The language model: token ids (B,T) to logits (B,T,V), a CausalLMOutput."""

    head = "lm_head"

    def __init__(self, config, *, seed=0):
        super().__init__(config)
        self.initialise(seed)

    @tied
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
        labels=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        logits_to_keep=0,
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        check_logits_to_keep(logits_to_keep, labels)
        tokens = token_shape(input_ids, inputs_embeds)
        labels = as_target(check_labels, self.config, "labels", labels, tokens, self.device)
        out = self.transformer(
            input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, use_cache, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        logits = self.logits(out.last_hidden_state[:, -logits_to_keep:])  # [-0:] is all of them
        out = CausalLMOutput(
            loss=None if labels is None else language_model_loss(logits, labels),
            logits=logits,
            **out.common(),
        )
        return out if return_dict else out.to_tuple()


class GPT2DoubleHeadsModel(LanguageModel):
    """A language model that also scores each of N texts: ids (B,N,T) to a GPT2DoubleHeadsModelOutput."""

    head = "double_heads"

    def __init__(self, config, *, seed=0):
        super().__init__(config)
        self.multiple_choice_head = SequenceSummary(config)
        self.initialise(seed)

    @tied
    def forward(
        self,
        input_ids=None,
        past_key_values=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        head_mask=None,
        inputs_embeds=None,
        mc_token_ids=None,
        labels=None,
        mc_labels=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        *,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
    ):
        config = self.config
        return_dict = config.return_dict if return_dict is None else return_dict
        given = as_tensors(
            config, self.device, past_key_values, choices=True, input_ids=input_ids, inputs_embeds=inputs_embeds,
            attention_mask=attention_mask, token_type_ids=token_type_ids, position_ids=position_ids,
            head_mask=head_mask, encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
        )  # fmt: skip
        tokens = token_shape(input_ids, inputs_embeds, axes=3)
        index = as_target(check_choice_tokens, config, "mc_token_ids", mc_token_ids, tokens, self.device)
        labels = as_target(check_labels, config, "labels", labels, tokens, self.device)
        mc_labels = as_target(check_choice_labels, config, "mc_labels", mc_labels, tokens, self.device)
        B, N, T = tokens

        rows = {name: merge_choices(x) if name in PER_CHOICE else x for name, x in given.items()}
        out = self.transformer(
            **rows,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        x = out.last_hidden_state
        keep = kept_tokens(rows["attention_mask"], T)
        keep = torch.ones(x.shape[:2], dtype=torch.bool, device=self.device) if keep is None else keep
        mc_logits = self.multiple_choice_head(x, keep, None if index is None else index.reshape(-1).long())
        mc_logits = mc_logits.reshape((B, N) if config.summary_width == 1 else (B, N, config.summary_width))
        logits = split_choices(self.logits(x), B, N)  # (B, N, T, V)
        out = GPT2DoubleHeadsModelOutput(
            loss=None if labels is None else language_model_loss(logits, labels),
            mc_loss=None if mc_labels is None else cross_entropy(mc_logits, mc_labels),
            logits=logits,
            mc_logits=mc_logits,
            past_key_values=out.past_key_values,
            hidden_states=split_choices(out.hidden_states, B, N),
            attentions=split_choices(out.attentions, B, N),
            cross_attentions=split_choices(out.cross_attentions, B, N),
        )
        return out if return_dict else out.to_tuple()
