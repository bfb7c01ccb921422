"""What is put on the trunk: a language model."""

import keras
import numpy as np
from keras import ops

from gpt2_core.errors import GPT2Error
from gpt2_core.initial import LATER
from gpt2_core.inputs import check_labels, check_logits_to_keep
from gpt2_core.outputs import CausalLMOutput

from .checkpoint import TFGPT2PreTrainedModel
from .generation import GenerationMixin
from .inputs import as_labels
from .layers import Linear, wide
from .model import TFGPT2Model


def language_model_loss(logits, labels):
    """Mean cross entropy of each next token, in float32 at least; labels of -100 do not count."""
    dtype = wide(keras.backend.standardize_dtype(logits.dtype))
    predicted = ops.cast(logits[:, :-1], dtype)
    labels = ops.cast(labels[:, 1:], "int32")
    counts = ops.cast(labels != -100, dtype)
    inside = ops.logical_and(labels >= 0, labels < predicted.shape[-1])
    losses = ops.sparse_categorical_crossentropy(ops.where(inside, labels, 0), predicted, from_logits=True)
    # a graph cannot refuse a label outside the vocabulary: NaN tells of it
    losses = ops.where(inside, losses, ops.where(labels == -100, 0.0, np.nan))
    return ops.sum(losses) / ops.sum(counts)


def labels_of(x, y):
    """Returns what `fit` was given to learn: the targets, else the labels among the inputs."""
    if y is None and isinstance(x, dict):
        y = x.get("labels")
    if y is None:
        raise GPT2Error('fit and evaluate need labels: pass them as targets, or as "labels" among the inputs')
    return y


@keras.saving.register_keras_serializable("gpt2_tf")
class TFGPT2LMHeadModel(GenerationMixin, TFGPT2PreTrainedModel):
    """The language model: token ids (B,T) to logits (B,T,V), a CausalLMOutput."""

    head = "lm_head"

    def __init__(self, config, *, seed=0, **kwargs):
        super().__init__(config, **kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.transformer = TFGPT2Model(config, seed=LATER, name="transformer", dtype=dtype)
            self.lm_head = None
            if not config.tie_word_embeddings:
                self.lm_head = Linear(config.n_embd, config.vocab_size, name="lm_head", dtype=dtype)
        self.initialise(seed)
        self.built = True

    def logits(self, x):
        if self.lm_head is not None:
            return self.lm_head(x)
        return ops.matmul(x, ops.transpose(self.transformer.wte.weight))  # (B, T, V)

    def call(
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
        training=None,
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        check_logits_to_keep(logits_to_keep, labels)
        labels = as_labels(self.config, labels, input_ids, inputs_embeds)
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

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Returns `fit`'s loss: the model's own, of the next tokens; or the one given to `compile`, on the logits as
        they are, so that its targets must be shifted already."""
        y = labels_of(x, y)
        if not isinstance(y_pred, CausalLMOutput):
            raise GPT2Error("fit and evaluate need outputs by name: make the model with return_dict=True")
        if self._compile_loss is not None:
            return super().compute_loss(x, y, y_pred.logits, sample_weight, training)
        if sample_weight is not None:
            raise GPT2Error("the model's own loss takes no weights: set labels to -100, or give compile a loss")
        check_labels(tuple(y.shape), tuple(y_pred.logits.shape))
        return language_model_loss(y_pred.logits, y)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Returns the compiled metrics, computed on the logits."""
        return super().compute_metrics(x, labels_of(x, y), y_pred.logits, sample_weight)
