"""What is put on the trunk: a language model, alone or with a choice among several texts."""

import keras
from keras import ops

from gpt2_core.initial import LATER
from gpt2_core.inputs import check_logits_to_keep
from gpt2_core.outputs import CausalLMOutput, GPT2DoubleHeadsModelOutput
from gpt2_core.targets import check_choice_labels, check_choice_tokens, check_labels

from .base import TFGPT2PreTrainedModel
from .generation import GenerationMixin
from .inputs import as_target, as_tensors, token_shape
from .layers import Linear, as_int32
from .losses import cross_entropy, language_model_loss
from .model import TFGPT2Model
from .summary import SequenceSummary, kept_tokens

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
    return None if x is None else ops.reshape(x, (-1, *ops.shape(x)[2:]))


def split_choices(x, B, N):
    """Returns (B*N, …) as (B, N, …), each of several."""
    if x is None or isinstance(x, tuple):
        return x and tuple(split_choices(part, B, N) for part in x)
    return ops.reshape(x, (B, N, *ops.shape(x)[1:]))


class LanguageModel(GenerationMixin, TFGPT2PreTrainedModel):
    """The trunk with logits over the vocabulary."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.transformer = TFGPT2Model(config, seed=LATER, name="transformer", dtype=dtype)
            self.lm_head = None
            if not config.tie_word_embeddings:
                self.lm_head = Linear(config.n_embd, config.vocab_size, name="lm_head", dtype=dtype)

    def logits(self, x):
        if self.lm_head is not None:
            return self.lm_head(x)
        return self.transformer.wte.scores(x)  # (B, T, V)


@keras.saving.register_keras_serializable("gpt2_tf")
class TFGPT2LMHeadModel(LanguageModel):
    """The language model: token ids (B,T) to logits (B,T,V), a CausalLMOutput."""

    head = "lm_head"
    learns = {"labels": "logits"}

    def __init__(self, config, *, seed=0, **kwargs):
        super().__init__(config, **kwargs)
        self.initialise(seed)
        self.built = True

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
        labels=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        logits_to_keep=0,
        training=None,
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        check_logits_to_keep(logits_to_keep, labels)
        tokens = token_shape(input_ids, inputs_embeds)
        labels = as_target(check_labels, self.config, "labels", labels, tokens)
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

    def own_loss(self, out, labels):
        """Returns the loss of an output that `fit` made without its targets."""
        labels = as_target(check_labels, self.config, "labels", labels, tuple(out.logits.shape)[:2])
        return language_model_loss(out.logits, labels)


@keras.saving.register_keras_serializable("gpt2_tf")
class TFGPT2DoubleHeadsModel(LanguageModel):
    """A language model that also scores each of N texts: ids (B,N,T) to a GPT2DoubleHeadsModelOutput."""

    head = "double_heads"
    learns = {"labels": "logits", "mc_labels": "mc_logits"}

    def __init__(self, config, *, seed=0, **kwargs):
        super().__init__(config, **kwargs)
        with keras.name_scope(self.name):
            self.multiple_choice_head = SequenceSummary(config, name="multiple_choice_head", dtype=self.dtype_policy)
        self.initialise(seed)
        self.built = True

    def call(
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
        training=None,
    ):
        config = self.config
        return_dict = config.return_dict if return_dict is None else return_dict
        given = as_tensors(
            config, past_key_values, choices=True, input_ids=input_ids, inputs_embeds=inputs_embeds,
            attention_mask=attention_mask, token_type_ids=token_type_ids, position_ids=position_ids,
            head_mask=head_mask, encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
        )  # fmt: skip
        tokens = token_shape(input_ids, inputs_embeds, axes=3)
        index = as_target(check_choice_tokens, config, "mc_token_ids", mc_token_ids, tokens)
        labels = as_target(check_labels, config, "labels", labels, tokens)
        mc_labels = as_target(check_choice_labels, config, "mc_labels", mc_labels, tokens)
        B, N, T = ops.shape(given["input_ids"] if inputs_embeds is None else given["inputs_embeds"])[:3]

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
        keep = ops.ones(ops.shape(x)[:2], "bool") if keep is None else keep
        seed = self.seeds.next() if training else None
        mc_logits = self.multiple_choice_head(
            x, keep, None if index is None else ops.reshape(as_int32(index), (-1,)), seed
        )
        mc_logits = ops.reshape(mc_logits, (B, N) if config.summary_width == 1 else (B, N, config.summary_width))
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

    def own_loss(self, out, labels=None, mc_labels=None):
        """Returns the sum of the losses of an output that `fit` made without its targets."""
        tokens = tuple(out.logits.shape)[:3]
        labels = as_target(check_labels, self.config, "labels", labels, tokens)
        mc_labels = as_target(check_choice_labels, self.config, "mc_labels", mc_labels, tokens)
        loss = 0.0 if labels is None else language_model_loss(out.logits, labels)
        return loss if mc_labels is None else loss + cross_entropy(out.mc_logits, mc_labels)
