"""What is put on the trunk to tell things apart: sequences, tokens, where an answer lies."""

import keras
from keras import ops

from gpt2_core.initial import LATER
from gpt2_core.outputs import QuestionAnsweringOutput, SequenceClassifierOutput, TokenClassifierOutput
from gpt2_core.targets import (
    check_answer,
    check_both_ends,
    check_sequence_labels,
    check_token_labels,
    ends_by_padding,
    problem_type,
)

from .base import TFGPT2PreTrainedModel
from .dropout import dropout
from .inputs import as_target, as_tensor, token_shape
from .layers import Linear
from .losses import answers_loss, classification_loss, cross_entropy
from .model import TFGPT2Model
from .summary import at, kept_tokens, last_kept


@keras.saving.register_keras_serializable("gpt2_tf")
class TFGPT2ForSequenceClassification(TFGPT2PreTrainedModel):
    """Token ids (B,T) to logits (B,num_labels) at the end of each row, a SequenceClassifierOutput."""

    head = "sequence_classification"
    learns = {"labels": "logits"}

    def __init__(self, config, *, seed=0, **kwargs):
        super().__init__(config, **kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.transformer = TFGPT2Model(config, seed=LATER, name="transformer", dtype=dtype)
            self.score = Linear(config.n_embd, config.num_labels, name="score", dtype=dtype)
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
        labels=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        *,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        training=None,
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        tokens = token_shape(input_ids, inputs_embeds)
        input_ids = as_tensor("input_ids", input_ids)
        attention_mask = as_tensor("attention_mask", attention_mask)
        masked = attention_mask is not None and len(attention_mask.shape) == 2
        padded = tokens is not None and ends_by_padding(self.config, tokens[0], mask=masked, ids=input_ids is not None)
        labels = as_target(check_sequence_labels, self.config, "labels", labels, tokens)
        out = self.transformer(
            input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, use_cache, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        x = out.last_hidden_state
        keep = (
            ops.not_equal(input_ids, self.config.pad_token_id)
            if padded
            else kept_tokens(attention_mask, ops.shape(x)[1])
        )
        logits = self.score(x[:, -1] if keep is None else at(x, last_kept(keep)))  # (B, num_labels)
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, problem_type(self.config, tuple(labels.shape)))
        out = SequenceClassifierOutput(loss=loss, logits=logits, **out.common())
        return out if return_dict else out.to_tuple()

    def own_loss(self, out, labels):
        """Returns the loss of an output that `fit` made without its targets."""
        tokens = (out.logits.shape[0], None)
        labels = as_target(check_sequence_labels, self.config, "labels", labels, tokens)
        return classification_loss(out.logits, labels, problem_type(self.config, tuple(labels.shape)))


@keras.saving.register_keras_serializable("gpt2_tf")
class TFGPT2ForTokenClassification(TFGPT2PreTrainedModel):
    """Token ids (B,T) to logits (B,T,num_labels), a TokenClassifierOutput."""

    head = "token_classification"
    learns = {"labels": "logits"}

    def __init__(self, config, *, seed=0, **kwargs):
        super().__init__(config, **kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.transformer = TFGPT2Model(config, seed=LATER, name="transformer", dtype=dtype)
            self.classifier = Linear(config.n_embd, config.num_labels, bias=True, name="classifier", dtype=dtype)
        self.dropout = config.classifier_dropout
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
        labels=None,
        use_cache=False,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        *,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        training=None,
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        tokens = token_shape(input_ids, inputs_embeds)
        labels = as_target(check_token_labels, self.config, "labels", labels, tokens)
        out = self.transformer(
            input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, use_cache, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        seed = self.seeds.next() if training else None
        logits = self.classifier(dropout(out.last_hidden_state, self.dropout, seed))  # (B, T, num_labels)
        out = TokenClassifierOutput(
            loss=None if labels is None else cross_entropy(logits, labels),
            logits=logits,
            **out.common(),
        )
        return out if return_dict else out.to_tuple()

    def own_loss(self, out, labels):
        """Returns the loss of an output that `fit` made without its targets."""
        labels = as_target(check_token_labels, self.config, "labels", labels, tuple(out.logits.shape)[:2])
        return cross_entropy(out.logits, labels)


@keras.saving.register_keras_serializable("gpt2_tf")
class TFGPT2ForQuestionAnswering(TFGPT2PreTrainedModel):
    """Token ids (B,T) to where an answer starts (B,T) and ends (B,T), a QuestionAnsweringOutput."""

    head = "question_answering"
    learns = {"start_positions": "start_logits", "end_positions": "end_logits"}

    def __init__(self, config, *, seed=0, **kwargs):
        super().__init__(config, **kwargs)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):
            self.transformer = TFGPT2Model(config, seed=LATER, name="transformer", dtype=dtype)
            self.qa_outputs = Linear(config.n_embd, 2, bias=True, name="qa_outputs", dtype=dtype)
        self.initialise(seed)
        self.built = True

    def call(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        head_mask=None,
        inputs_embeds=None,
        start_positions=None,
        end_positions=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        *,
        past_key_values=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        use_cache=False,
        training=None,
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        tokens = token_shape(input_ids, inputs_embeds)
        starts = as_target(check_answer, self.config, "start_positions", start_positions, tokens)
        ends = as_target(check_answer, self.config, "end_positions", end_positions, tokens)
        check_both_ends(starts, ends)
        out = self.transformer(
            input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, use_cache, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        start_logits, end_logits = ops.unstack(self.qa_outputs(out.last_hidden_state), 2, axis=-1)  # each (B, T)
        loss = None
        if starts is not None:
            loss = answers_loss(start_logits, starts, end_logits, ends)
        out = QuestionAnsweringOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            **out.common(),
        )
        return out if return_dict else out.to_tuple()

    def own_loss(self, out, start_positions=None, end_positions=None):
        """Returns the loss of an output that `fit` made without its targets."""
        tokens = tuple(out.start_logits.shape)
        starts = as_target(check_answer, self.config, "start_positions", start_positions, tokens)
        ends = as_target(check_answer, self.config, "end_positions", end_positions, tokens)
        check_both_ends(starts, ends)
        return answers_loss(out.start_logits, starts, out.end_logits, ends)
