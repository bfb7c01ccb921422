"""Every path that generate can take in PyTorch on a CPU, forced on: the ids of the plain one, whatever is asked."""

import dataclasses
import random

import pytest
import torch

import gpt2_torch
from gpt2_torch.inference import decoder, products
from gpt2_torch.inference.layouts import fastest
from tests.processors import LACKING, pretended
from tests.test_generate import CONFIG, PAD, drawn_settings, random_prompts, random_settings

CALLS = 40
SCALED = {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False, "activation_function": "relu"}


@pytest.fixture(params=list(LACKING), ids=str)
def kind(request, monkeypatch):
    """Has weights laid out as for a kind of processor; None: not at all."""
    pretended(request.param, monkeypatch)
    return request.param


def model_of(dtype="float32", config=CONFIG, **changes):
    """Returns a model whose biases and norms differ too, as those of no fresh one do."""
    model = gpt2_torch.GPT2LMHeadModel(dataclasses.replace(config, **changes), seed=4)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight += torch.randn(weight.shape, generator=generator) / 5
    return model.to(getattr(torch, dtype)).eval()


def by_modules(monkeypatch):
    monkeypatch.setattr(decoder, "direct", lambda model: None)


def in_parts(monkeypatch, tokens):
    monkeypatch.setattr(decoder, "PARTS", dict.fromkeys(decoder.PARTS, (tokens, 0)))


def calls(seed):
    """Returns random calls: greedy, sampled, beams; rows alone and together."""
    draw = random.Random(seed)
    for number in range(CALLS):
        prompts, ids, mask = random_prompts(draw, draw.randrange(1, 4))
        settings = random_settings(draw) | (drawn_settings(draw) if number % 2 else {})
        settings["num_return_sequences"] = min(settings.get("num_return_sequences", 1), settings["num_beams"])
        yield (ids, mask), settings | {"seed": [draw.randrange(1000) for _ in prompts] if number % 2 else None}
    repeated = [[5, 6, 7, 8, 5, 6, 7, 8, 5, 6]]  # of which the next tokens are guessed, several a step
    yield (repeated,), {"max_new_tokens": 20, "prompt_lookup_num_tokens": 4, "eos_token_id": [], "pad_token_id": PAD}


def written(model, seed=0):
    return [model.generate(*given, **settings).tolist() for given, settings in calls(seed)]


@pytest.mark.parametrize("changes", [{}, SCALED], ids=["gpt2", "scaled"])
@pytest.mark.parametrize("way", ["direct", "parts of 1", "parts of 3", "modules"])
def test_every_path_writes_what_float64_writes(kind, way, changes, monkeypatch, record_property):
    """Float64 through the modules, by PyTorch's own products, is what transformers' ids were compared with."""
    model, exact = model_of(**changes), model_of("float64", **changes)
    with monkeypatch.context() as plain:
        by_modules(plain)
        expected = written(exact)
    if way == "modules":
        by_modules(monkeypatch)
    else:
        assert decoder.direct(model) is not None
    if way.startswith("parts"):
        in_parts(monkeypatch, int(way[-1]))
    assert written(model) == expected
    assert (model in products._KEPT) == (fastest(model.device, model.dtype) is not None)
    record_property("counted", ("random calls by each path of PyTorch's, ids as in float64", CALLS))


@pytest.mark.parametrize("dtype, most", [("float64", 1e-13), ("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("rows", [1, 3])
def test_scores_past_the_modules_are_the_modules(dtype, most, rows, monkeypatch):
    """The same operations on the same numbers, laid out in two axes for three."""
    model, prompts = model_of(dtype), [[5, 6, 7], [8, 9], [10, 11, 12, 13]][:rows]
    asked = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 6, "eos_token_id": []}
    ours = model.generate(prompts, pad_token_id=PAD, **asked)
    by_modules(monkeypatch)
    expected = model.generate(prompts, pad_token_id=PAD, **asked)
    assert ours.sequences.tolist() == expected.sequences.tolist()
    for step, modules in zip(ours.scores, expected.scores, strict=True):
        torch.testing.assert_close(step, modules, rtol=most, atol=most * modules.abs().max().item())


@pytest.mark.parametrize("dtype, most", [("float64", 1e-13), ("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("prompts", [[[5, 6, 7, 8, 9, 3, 4]], [[5, 6, 7, 8, 9], [10, 11]]], ids=["one", "padded"])
def test_scores_of_prompts_read_in_parts(dtype, most, prompts, monkeypatch):
    """Of every part's last token, and of a second call that goes on from the first one's cache."""
    model = model_of(dtype)

    def scored():
        asked = {"max_new_tokens": 3, "eos_token_id": [], "pad_token_id": PAD, "return_dict_in_generate": True}
        first = model.generate(prompts, output_scores=True, **asked)
        given = torch.cat([first.sequences, first.sequences[:, -1:].expand(-1, 6)], dim=1)
        width, mask = max(map(len, prompts)), torch.ones_like(given)
        for row, prompt in zip(mask, prompts, strict=True):
            row[: width - len(prompt)] = 0
        past = first.past_key_values
        then = model.generate(given, attention_mask=mask, past_key_values=past, output_scores=True, **asked)
        return [*first.scores, *then.scores]

    whole = scored()
    in_parts(monkeypatch, 2)
    for ours, expected in zip(scored(), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=most, atol=most * expected.abs().max().item())


def test_in_8_bits_both_write_the_same(monkeypatch, tmp_path):
    model_of().save_pretrained(tmp_path)
    model = gpt2_torch.GPT2LMHeadModel.from_pretrained(tmp_path, quantize="int8")
    assert decoder.direct(model) is not None
    ours = written(model)
    by_modules(monkeypatch)
    assert written(model) == ours


def hooked(model, seen):
    model.transformer.h[1].register_forward_hook(lambda *given: seen.append(1))


def hooked_before(model, seen):
    model.transformer.h[0].mlp.c_fc.register_forward_pre_hook(lambda *given: seen.append(1))


def another_layer(model, seen):
    class Adapted(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            seen.append(1)
            return self.layer(x)

    model.transformer.h[0].attn.c_attn = Adapted(model.transformer.h[0].attn.c_attn)


def another_class(model, seen):
    block = model.transformer.h[0]

    class Mine(type(block)):
        def forward(self, *given):
            seen.append(1)
            return super().forward(*given)

    block.__class__ = Mine


def another_forward(model, seen):
    mlp = model.transformer.h[1].mlp
    forward = mlp.forward
    mlp.forward = lambda x: seen.append(1) or forward(x)


def another_step(model, seen):
    step = model.step
    model.step = lambda *given, **named: seen.append(1) or step(*given, **named)


def parametrized(model, seen):
    class Seen(torch.nn.Module):
        def forward(self, weight):
            seen.append(1)
            return weight

    torch.nn.utils.parametrize.register_parametrization(model.transformer.h[0].attn.c_proj, "weight", Seen())
    model.eval()


@pytest.mark.parametrize(
    "change", [hooked, hooked_before, another_layer, another_class, another_forward, another_step, parametrized]
)
def test_what_was_put_into_the_modules_way_is_not_passed_by(change, monkeypatch):
    """And sees each step once, prompts whole."""
    in_parts(monkeypatch, 1)
    model, seen = model_of(), []
    model.pack_weights = False  # which would ask for the weight too
    expected = model.generate([[5, 6]], max_new_tokens=4, eos_token_id=[], pad_token_id=PAD).tolist()
    change(model, seen)
    model.eval()
    seen.clear()
    assert model.generate([[5, 6]], max_new_tokens=4, eos_token_id=[], pad_token_id=PAD).tolist() == expected
    assert len(seen) == (5 if change is parametrized else 4)  # its weight is asked for once more, by products_of


def test_a_hook_of_all_modules_is_not_passed_by():
    model, seen = model_of(), []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *given: seen.append(1))
    try:
        model.generate([[5, 6]], max_new_tokens=2, eos_token_id=[], pad_token_id=PAD)
    finally:
        handle.remove()
    assert len(seen) > 20


@pytest.mark.parametrize(
    "changes",
    [{"add_cross_attention": True}, {"reorder_and_upcast_attn": True}],
    ids=lambda changes: next(iter(changes)),
)
def test_models_that_it_is_not_for(changes):
    assert decoder.direct(model_of(**changes)) is None


def test_layers_that_drop_do():
    """As who asks for several answers of an uncertain model makes it."""
    model = model_of(resid_pdrop=0.5)
    for block in model.transformer.h:
        block.mlp.dropout.train()
    scores = [
        model.generate([[5, 6]], max_new_tokens=1, return_dict_in_generate=True, output_scores=True).scores[0]
        for _ in range(2)
    ]
    assert not torch.equal(*scores)


def test_scores_can_be_changed_in_place():
    """The step runs in PyTorch's inference mode, whose tensors could not."""

    def only_nine(ids, scores):
        scores[:, :9] = scores[:, 10:] = -torch.inf
        return scores

    for dtype in ("float32", "float64"):
        out = model_of(dtype).generate([[5, 6]], max_new_tokens=3, eos_token_id=[], logits_processor=[only_nine])
        assert out.tolist() == [[5, 6, 9, 9, 9]]


def test_a_cache_of_it_can_be_learnt_from():
    model = model_of()
    out = model.generate([[5, 6, 7]], max_new_tokens=2, eos_token_id=[], return_dict_in_generate=True)
    loss = model(torch.tensor([[8]]), past_key_values=out.past_key_values).logits.sum()
    loss.backward()
    assert model.transformer.wte.weight.grad is not None
