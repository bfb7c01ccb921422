"""Attention in 16 bits on a processor that has no instructions for them: multiplied in float32, kept in 16 bits."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import gpt2_torch
from gpt2_core import GPT2Config
from gpt2_core.outputs import CausalLMOutput
from gpt2_torch import attention, multiply
from tests.processors import pretended

CONFIG = GPT2Config(vocab_size=90, n_positions=24, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2)
IDS = torch.tensor([[5, 6, 7, 5, 5, 9], [8, 5, 11, 12, 13, 89]])
MASK = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
STATES = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
NARROW = [torch.bfloat16, torch.float16]


class Products(TorchDispatchMode):
    """Notes the types of what is multiplied."""

    NAMES = ("mm", "addmm", "bmm", "baddbmm", "addmv", "mv", "scaled_dot_product")

    def __init__(self):
        super().__init__()
        self.types, self.names = set(), set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if name in self.NAMES or self.NAMES[-1] in name:
            self.names.add(name)
            self.types.update(x.dtype for x in args if isinstance(x, torch.Tensor) and x.is_floating_point())
        return function(*args, **kwargs or {})


def plain(model):
    return model(IDS, labels=IDS)


def learning(model):
    out = model.train()(IDS, labels=IDS)
    out.loss.backward()
    return out


def padded(model):
    return model(IDS, attention_mask=MASK, labels=IDS)


def with_weights(model):
    return model(IDS, labels=IDS, output_attentions=True)


def without_a_head(model):
    return model(IDS, labels=IDS, head_mask=[1, 1, 0, 1])


def after_a_past(model):
    return model(IDS[:, 3:], past_key_values=model(IDS[:, :3]).past_key_values, labels=IDS[:, 3:])


def to_an_encoder(model):
    return model(IDS, encoder_hidden_states=STATES.to(model.dtype), labels=IDS)


def writing(model):
    given = {"max_new_tokens": 4, "eos_token_id": [], "pad_token_id": 0}
    out = model.generate(IDS, attention_mask=MASK, return_dict_in_generate=True, output_scores=True, **given)
    return CausalLMOutput(logits=out.scores[0].to(model.dtype), past_key_values=out.past_key_values)


CALLS = [plain, learning, padded, with_weights, without_a_head, after_a_past, to_an_encoder, writing]


def model_of(call, dtype):
    config = dataclasses.replace(CONFIG, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    config = dataclasses.replace(config, add_cross_attention=call is to_an_encoder)
    return gpt2_torch.GPT2LMHeadModel(config, seed=3).to(dtype).eval()


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("at_once", [1, 2**20], ids=["row by row", "at once"])
def test_multiplied_in_float32_where_the_processor_lacks_16_bits(at_once, call, dtype, monkeypatch):
    pretended("older AMD", monkeypatch)
    monkeypatch.setattr(attention, "_WIDENED", at_once)
    model = model_of(call, dtype)
    with Products() as products:
        out = call(model)
    assert products.types == {torch.float32}
    one_by_one = call in (padded, with_weights, without_a_head, to_an_encoder)
    assert "bmm" in products.names if one_by_one else any("scaled" in name for name in products.names)
    assert {x.dtype for x in (out.logits, *out.past_key_values[0], *(out.attentions or ()))} == {dtype}

    exact = call(model_of(call, dtype).double())  # the same numbers
    most = 4 * torch.finfo(dtype).eps * exact.logits.abs().max().item()
    torch.testing.assert_close(out.logits.double(), exact.logits, rtol=0, atol=most)


@pytest.mark.parametrize("call", [plain, padded])
def test_as_they_are_elsewhere(call, monkeypatch):
    pretended(None, monkeypatch)
    with Products() as products:
        call(model_of(call, torch.bfloat16))
    assert products.types == {torch.bfloat16}


@pytest.mark.parametrize("at_once", [1, 2**20], ids=["row by row", "at once"])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("kind", ["AMD", None])
def test_one_query_in_float32_on_amd(kind, rows, at_once, monkeypatch):
    """There PyTorch's own of one query takes longer in bfloat16 than of keys and values that are made float32."""
    pretended(kind, monkeypatch)
    monkeypatch.setattr(attention, "_WIDENED", at_once)
    q, k, v = torch.randn(3, rows, 4, 6, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = torch.tensor([0, 0, 0, 0, -torch.inf, 0]).expand(rows, 1, 1, 6)
    for queries, dtype in [(1, torch.float32 if kind == "AMD" else torch.bfloat16), (2, torch.bfloat16)]:
        with Products() as products:
            found = attention.lean_attention(q[:, :, :queries], k, v, mask, False, 0.25)
        assert products.types == {dtype}
        exact = F.scaled_dot_product_attention(q[:, :, :queries].double(), k.double(), v.double(), mask, scale=0.25)
        torch.testing.assert_close(found.double(), exact, rtol=2**-7, atol=2**-7)


def test_a_compiler_chooses_by_itself(monkeypatch):
    """It sees PyTorch's own operation, and is not asked to look into what this processor is."""
    monkeypatch.setattr(multiply, "lacks", lambda dtype: pytest.fail("asked"))
    q, k, v = torch.randn(3, 2, 4, 6, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    run = torch.compile(attention.lean_attention, backend="eager", fullgraph=True)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.25)
    torch.testing.assert_close(run(q, k, v, None, True, 0.25), expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", NARROW)
def test_weights_are_dropped_and_scaled_as_ever(dtype, monkeypatch):
    """With the same random numbers, dropout in 16 bits is dropout of the same numbers in float32."""
    pretended("older AMD", monkeypatch)

    def trained(wider):
        config = dataclasses.replace(CONFIG, attn_pdrop=0.5, embd_pdrop=0.0, resid_pdrop=0.0)
        model = gpt2_torch.GPT2LMHeadModel(config, seed=3).to(dtype).to(wider).train()
        torch.manual_seed(1)
        return model(IDS, labels=IDS).logits.float()

    expected = trained(torch.float32)
    most = 4 * torch.finfo(dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(trained(dtype), expected, rtol=0, atol=most)
