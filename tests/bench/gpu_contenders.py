"""What gpu.py times of PyTorch: gpt2_torch and transformers 5, with the same weights.

A learner is a function that takes ids (B, T), does one step of training on them, and returns the loss.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

import gpt2_torch
from gpt2_core.initial import LATER
from tests.bench.gpu_steps import Compiled, Graph, Kept

RATE, DECAY, EPSILON = 1e-4, 0.01, 1e-8  # AdamW's, the same everywhere


@dataclasses.dataclass
class Setting:
    """Where and how the contenders compute."""

    device: str = "cuda"
    dtype: str = "bfloat16"
    backend: str | None = "inductor"  # of torch.compile; None leaves out what needs it


class Writer(NamedTuple):
    """A function of (ids (B, T), new) that returns the next `new` tokens of greedy texts, (B, new), or None."""

    write: Callable[[Any, int], Any]
    reads: bool = False  # whether it reads prompts in a way of its own


@functools.lru_cache(maxsize=1)
def weights_of(config):
    """Returns the weights of seed 0; kept, since drawing 1.6 billion takes a while."""
    return gpt2_torch.GPT2Model(config, seed=0).state_dict()


def filled(model, config, setting, dtype):
    """Returns a model of ours or of transformers' with those weights, on the device."""
    model.transformer.load_state_dict(weights_of(config))
    return model.to(setting.device, getattr(torch, dtype)).eval()


def our_model(config, setting, dtype):
    with torch.device(setting.device):
        model = gpt2_torch.GPT2LMHeadModel(config, seed=LATER)
    return filled(model, config, setting, dtype)


def our_writers(config, setting):
    model = our_model(config, setting, setting.dtype)
    graph = Kept(model, Graph)

    def write(step, ids, new):
        return written(continued(model, step, ids, new), new)

    def replay(ids, new):
        write(graph, ids, 2)
        for _ in range(new):
            graph.run.replay()

    found = {
        "gpt2_torch": Writer(functools.partial(write, None), reads=True),
        "gpt2_torch, CUDA graph": Writer(functools.partial(write, graph)),
        "gpt2_torch, that graph without generate": Writer(replay),
    }
    if setting.backend:
        step = Kept(model, functools.partial(Compiled, setting.backend))
        found["gpt2_torch, torch.compile"] = Writer(functools.partial(write, step))
    return found


def continued(model, step, ids, new):
    """Returns what generate does of either of our models, with a step in the place of its own, or None."""
    if step is not None:
        model.step = step
    try:
        return model.generate(ids, max_new_tokens=new, eos_token_id=[], pad_token_id=0)
    finally:
        model.__dict__.pop("step", None)


def written(ids, new):
    """Returns the last `new` tokens of ids as an array, which waits for a GPU."""
    return ids[:, -new:].cpu().numpy()


def their_model(config, setting, dtype):
    import transformers

    transformers.logging.set_verbosity_error()
    fields = {**config.to_dict(), "eos_token_id": None}  # no text ends early
    with torch.device(setting.device):
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**fields))
    return filled(model, config, setting, dtype)


def their_writers(config, setting):
    model = their_model(config, setting, setting.dtype)

    def write(settings, ids, new):
        ids = torch.as_tensor(ids, device=model.device)
        more = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0, **settings}
        return written(model.generate(ids, attention_mask=torch.ones_like(ids), **more), new)

    found = {"transformers 5": Writer(functools.partial(write, {}), reads=True)}
    if setting.backend:
        from transformers import CompileConfig

        # as its documentation has it: generate itself compiles the step, not the prompt, where the cache is static
        mode = "reduce-overhead" if setting.backend == "inductor" else None
        how = CompileConfig(fullgraph=True, mode=mode, backend=setting.backend)
        how._compile_all_devices = True  # for the tests, on a CPU
        settings = {"cache_implementation": "static", "compile_config": how}
        found["transformers 5, static cache, compiled"] = Writer(functools.partial(write, settings))
    return found


def learner(model, setting):
    """Returns the learner of a model of ours or of transformers': float32 weights, autocast, AdamW in one kernel."""
    optimizer = torch.optim.AdamW(model.parameters(), RATE, eps=EPSILON, weight_decay=DECAY, fused=True)
    narrow, dtype = setting.dtype != "float32", getattr(torch, setting.dtype)

    def learn(ids):
        ids = torch.as_tensor(ids, device=setting.device)
        with torch.autocast(setting.device, dtype, enabled=narrow):
            loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return learn


def torch_learners(name, make, config, setting):
    """Returns functions that make learners, since two of them may not fit into memory."""

    def plain():
        return learner(make(config, setting, "float32").train(), setting)

    def compiled():
        model = make(config, setting, "float32").train()
        return learner(torch.compile(model, backend=setting.backend), setting)

    return {name: plain, f"{name}, torch.compile": compiled} if setting.backend else {name: plain}


our_learners = functools.partial(torch_learners, "gpt2_torch", our_model)
their_learners = functools.partial(torch_learners, "transformers 5", their_model)
