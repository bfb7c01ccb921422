"""generate: the plan of gpt2_core, executed with a key and value cache."""

import torch

from gpt2_core import generation
from gpt2_core.errors import GPT2Error

from .logits import pick


class GenerationMixin:
    """Gives a language model `generate`."""

    @torch.no_grad()
    def generate(self, input_ids=None, attention_mask=None, generation_config=None, *, seed=None, **overrides):
        """Returns the prompts with their continuations, ids (B, T + new).

        input_ids: (B, T), or a list of prompts of any lengths; None starts from bos_token_id. Each row's tokens come
        out at the right end of the prompt, and a row that has met an end token is filled up with pad_token_id.
        seed: for do_sample, one number or one per row; None takes a fresh one. overrides: fields of GenerationConfig.
        """
        if self.training:
            raise GPT2Error("the model is in training mode, where dropout changes every token: call eval() first")
        plan = generation.plan(self.config, generation_config, overrides, input_ids, attention_mask, seed)
        ids = torch.as_tensor(plan.input_ids, device=self.device)
        mask = torch.as_tensor(plan.attention_mask, device=self.device)
        uniforms = None if plan.uniforms is None else torch.as_tensor(plan.uniforms, device=self.device)
        eos = torch.tensor(plan.eos_token_ids, dtype=ids.dtype, device=self.device)

        new, past = ids, None
        finished = torch.zeros(len(ids), dtype=torch.bool, device=self.device)
        for t in range(plan.max_new_tokens):
            token, past = self.step(new, past, mask, plan.steps, None if uniforms is None else uniforms[t])
            token = torch.where(finished, plan.pad_token_id, token)
            ids = torch.cat([ids, token[:, None]], dim=1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            new, past = (token[:, None], past) if plan.use_cache else (ids, None)
            finished = finished | torch.isin(token, eos)
            if finished.all():
                break
        return ids

    def step(self, input_ids, past_key_values, attention_mask, steps, uniforms):
        """Returns the next token (B,), and the cache that holds everything before it."""
        out = self.transformer(
            input_ids,
            past_key_values,
            attention_mask,
            use_cache=True,
            return_dict=True,
            output_hidden_states=False,
            output_attentions=False,
        )
        logits = self.logits(out.last_hidden_state[:, -1:])[:, -1]  # (B, V)
        return pick(logits, steps, uniforms), out.past_key_values
