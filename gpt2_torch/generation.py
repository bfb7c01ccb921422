"""generate: the core's plan and loops, executed with a cache made beforehand."""

import functools

import torch

from gpt2_core import generation
from gpt2_core.errors import GPT2Error
from gpt2_core.inputs import check_shapes
from gpt2_core.outputs import GenerateOutput

from .attention import added, visible_encoder_keys, visible_slots
from .inference import Decoder
from .inputs import as_pairs, as_tensors


class GenerationMixin:
    """Gives a language model `generate`."""

    generation_config = generation.GenerationConfig()
    pack_weights = True  # generate keeps a copy of weights in another layout where that is faster; False: it does not

    @torch.no_grad()
    def generate(
        self,
        input_ids=None,
        attention_mask=None,
        generation_config=None,
        *,
        streamer=None,
        seed=None,
        tokenizer=None,
        logits_processor=(),
        stopping_criteria=(),
        prefix_allowed_tokens_fn=None,
        past_key_values=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        assistant_model=None,
        **overrides,
    ):
        """Returns the prompts with their continuations, ids (B * num_return_sequences, T + new), or a GenerateOutput.

        input_ids: (B, T), or a list of prompts of any lengths; None starts from bos_token_id. Each row's tokens come
        out at the right end of the prompt, and a row that is done is filled up with pad_token_id. The arguments are
        those of transformers; seed: for do_sample, one number or one per prompt; None takes a fresh one. overrides:
        fields of GenerationConfig.
        """
        plan = self.plan(input_ids, attention_mask, generation_config, overrides, seed)
        drafter = self.drafter(plan, assistant_model)
        processors = generation.functions("logits_processor", logits_processor)
        criteria = generation.functions("stopping_criteria", stopping_criteria)
        given = generation.Given(tokenizer, processors, criteria, prefix_allowed_tokens_fn, drafter)
        past = self.given_past(plan, past_key_values)
        generation.check_call(plan, given, streamer, past and past[1], attention_mask)
        decoder = self.decoder(plan, encoder_hidden_states, encoder_attention_mask, past and past[0])
        found = generation.run(plan, decoder, given, past, streamer)
        out = GenerateOutput(**generation.fields(plan, decoder, given, found))
        return out if plan.settings.return_dict_in_generate else out.sequences

    def stream(self, prompt, tokenizer, generation_config=None, *, seed=None, assistant_model=None, **overrides):
        """Yields the text that follows one prompt, a text or ids, in pieces: whole characters, and no stop string.

        tokenizer: a GPT2Tokenizer or GPT2TokenizerFast. overrides: fields of GenerationConfig.
        """
        generation.check_tokenizer("stream", tokenizer)
        ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        plan = self.plan(ids, None, generation_config, overrides, seed)
        given = generation.Given(tokenizer, drafter=self.drafter(plan, assistant_model))
        generation.check_stream(plan, given)
        return torch.no_grad()(generation.pieces)(plan, self.decoder(plan), given)

    def plan(self, input_ids, attention_mask, generation_config, overrides, seed):
        """Returns what a call is to do."""
        if self.training:
            raise GPT2Error("the model is in training mode, where dropout changes every token: call eval() first")
        settings = self.generation_config if generation_config is None else generation_config
        return generation.plan(self.config, settings, overrides, input_ids, attention_mask, seed)

    def drafter(self, plan, assistant_model):
        """Returns what makes the decoder of a smaller model, which guesses what this one finds; None without one."""
        if assistant_model is None:
            return None
        if not isinstance(assistant_model, GenerationMixin):
            raise GPT2Error(f"assistant_model must be a language model, and is a {type(assistant_model).__name__}")
        if assistant_model.config.vocab_size != self.config.vocab_size:
            raise GPT2Error("assistant_model must have the vocabulary of the model that it guesses for")
        return functools.partial(assistant_model.decoder, plan)

    def given_past(self, plan, past_key_values):
        """Returns a checked cache and how many tokens it holds; None where none was given."""
        past = as_pairs(past_key_values, self.device)
        if past is None:
            return None
        check_shapes(
            self.config,
            input_ids=(len(plan.prompts), 1),
            past_key_values=[[tuple(x.shape) for x in pair] for pair in past],
        )
        return past, past[0][0].shape[2]

    def decoder(self, plan, encoder_hidden_states=None, encoder_attention_mask=None, past=None):
        """Returns what reads tokens and scores the next ones."""
        ids = torch.zeros(len(plan.prompts), 1, dtype=torch.long)
        inputs = as_tensors(
            self.config, self.device, past, input_ids=ids, encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
        )  # fmt: skip
        return Decoder(self, inputs["encoder_hidden_states"], inputs["encoder_attention_mask"])

    def step(self, input_ids, position_ids, kept, places, past, encoder=None, encoder_mask=None, every=False):
        """Returns the logits (B, 1, V) of the last of the tokens (B, T), and the cache with them at `places`, (T,).

        kept: (B, S) slots of the cache that hold a token. encoder: None where the cache holds its keys and values.
        every: logits of all T tokens.
        """
        trunk = self.transformer
        x = trunk.embed(input_ids, None, None, position_ids)
        visible, encoder_visible = visible_slots(kept, places), None
        if encoder is not None or len(past[0]) == 4:
            E = past[0][2].shape[2] if encoder is None else encoder.shape[1]
            encoder = None if encoder is None else encoder.to(self.dtype)
            encoder_visible = visible_encoder_keys(encoder_mask, E, x.device)
        lean = (added(visible[0], self.dtype),)
        presents = []
        for block, entry in zip(trunk.h, past, strict=True):
            x, present, _ = block(x, visible, entry, None, encoder, encoder_visible, places, lean)
            presents.append(present)
        return self.logits(trunk.ln_f(x if every else x[:, -1:])), tuple(presents)
