"""What is put on the trunk to tell things apart: sequences, tokens, where an answer lies."""

from torch import nn

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

from .base import GPT2PreTrainedModel
from .inputs import as_target, as_tensor, token_shape
from .layers import Linear
from .losses import answers_loss, classification_loss, cross_entropy
from .model import GPT2Model
from .summary import at, kept_tokens, last_kept


class GPT2ForSequenceClassification(GPT2PreTrainedModel):
    """Token ids (B,T) to logits (B,num_labels) at the end of each row, a SequenceClassifierOutput."""

    head = "sequence_classification"

    def __init__(self, config, *, seed=0):
        super().__init__(config)
        self.transformer = GPT2Model(config, seed=LATER)
        self.score = Linear(config.n_embd, config.num_labels)
        self.initialise(seed)

    def forward(
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
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        tokens = token_shape(input_ids, inputs_embeds)
        input_ids = as_tensor("input_ids", input_ids, self.device)
        attention_mask = as_tensor("attention_mask", attention_mask, self.device)
        masked = attention_mask is not None and attention_mask.ndim == 2
        padded = tokens is not None and ends_by_padding(self.config, tokens[0], mask=masked, ids=input_ids is not None)
        labels = as_target(check_sequence_labels, self.config, "labels", labels, tokens, self.device)
        out = self.transformer(
            input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, use_cache, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        x = out.last_hidden_state
        keep = input_ids != self.config.pad_token_id if padded else kept_tokens(attention_mask, x.shape[1])
        logits = self.score(x[:, -1] if keep is None else at(x, last_kept(keep)))  # (B, num_labels)
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, problem_type(self.config, tuple(labels.shape)))
        out = SequenceClassifierOutput(loss=loss, logits=logits, **out.common())
        return out if return_dict else out.to_tuple()


class GPT2ForTokenClassification(GPT2PreTrainedModel):
    """Token ids (B,T) to logits (B,T,num_labels), a TokenClassifierOutput."""

    head = "token_classification"

    def __init__(self, config, *, seed=0):
        super().__init__(config)
        self.transformer = GPT2Model(config, seed=LATER)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = Linear(config.n_embd, config.num_labels, bias=True)
        self.initialise(seed)

    def forward(
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
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        tokens = token_shape(input_ids, inputs_embeds)
        labels = as_target(check_token_labels, self.config, "labels", labels, tokens, self.device)
        out = self.transformer(
            input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, use_cache, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        logits = self.classifier(self.dropout(out.last_hidden_state))  # (B, T, num_labels)
        out = TokenClassifierOutput(
            loss=None if labels is None else cross_entropy(logits, labels),
            logits=logits,
            **out.common(),
        )
        return out if return_dict else out.to_tuple()


class GPT2ForQuestionAnswering(GPT2PreTrainedModel):
    """Token ids (B,T) to where an answer starts (B,T) and ends (B,T), a QuestionAnsweringOutput."""

    head = "question_answering"

    def __init__(self, config, *, seed=0):
        super().__init__(config)
        self.transformer = GPT2Model(config, seed=LATER)
        self.qa_outputs = Linear(config.n_embd, 2, bias=True)
        self.initialise(seed)

    def forward(
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
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        tokens = token_shape(input_ids, inputs_embeds)
        starts = as_target(check_answer, self.config, "start_positions", start_positions, tokens, self.device)
        ends = as_target(check_answer, self.config, "end_positions", end_positions, tokens, self.device)
        check_both_ends(starts, ends)
        out = self.transformer(
            input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, use_cache, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        start_logits, end_logits = self.qa_outputs(out.last_hidden_state).unbind(-1)  # each (B, T)
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
