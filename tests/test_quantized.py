"""Weights in 8 bits: what numpy says, exact where whole numbers are, close to the model, for inference alone."""

import copy
import io
import platform
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

import gpt2_torch
from gpt2_core import GPT2Error, GPT2Tokenizer
from gpt2_core.assets import SHAKESPEARE
from gpt2_torch.inference import quantized
from gpt2_torch.inference.quantized import Int8
from gpt2_torch.layers import Conv1D

HELDOUT = Path(__file__).parent / "data" / "shakespeare" / "heldout.txt"
ENDLESS = {"eos_token_id": [], "pad_token_id": 0}
X86 = "x86_64", "amd64"
PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]


def force(way, monkeypatch):
    """Has products computed in a way; skips one that this PyTorch lacks, or that this processor computes wrongly."""
    for name in ("onednn", "fbgemm", "halves"):
        if name in way:
            if not getattr(quantized, f"has_{name}")():
                pytest.skip(f"PyTorch has no right {name} of 8 bits here")
        elif name != "halves" or way == "plain":  # halves are not for where others are right: they may be there
            monkeypatch.setattr(quantized, f"has_{name}", lambda: False)


@pytest.fixture(params=["onednn+fbgemm", "onednn", "fbgemm", "halves", "plain"])
def way(request, monkeypatch):
    """Private operations of PyTorch, those of one row by FBGEMM, those of rows in two halves, and without them."""
    force(request.param, monkeypatch)
    return request.param


def way_of(layer):
    return layer.product.__name__.strip("_")


def load(**options):
    return gpt2_torch.GPT2LMHeadModel.from_pretrained(SHAKESPEARE, **options)


def by_numpy(x, weight, bias):
    """Returns x W^T + b with both rounded as the module says, in float64 but for the scales."""
    scale = np.abs(weight).max(axis=1) / np.float32(127)
    whole = np.rint(weight / scale[:, None])
    least, step = x.min(axis=1, keepdims=True), np.ptp(x, axis=1, keepdims=True) / np.float32(255)
    rounded = np.rint((x - least) / step)
    return (rounded @ whole.T * step + whole.sum(axis=1) * least) * scale + bias


def test_a_product_is_what_numpy_says(way):
    r = np.random.default_rng(0)
    weight, bias = r.normal(size=(24, 40)).astype(np.float32), r.normal(size=24).astype(np.float32)
    x = (r.normal(size=(7, 40)) * r.uniform(0.1, 30, size=(7, 1)) + 3).astype(np.float32)
    layer = Int8(torch.tensor(weight.T.copy()).T, torch.tensor(bias))  # as a Conv1D has it
    assert way_of(layer) == {"onednn+fbgemm": "onednn", "fbgemm": "plain"}.get(way, way)
    expected = by_numpy(x, weight, bias)
    found = layer(torch.tensor(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6 * np.abs(expected).max())
    assert np.abs(found - (x @ weight.T + bias)).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("x", [torch.zeros(2, 40), torch.full((2, 40), -3.0), torch.full((2, 40), torch.nan)])
def test_rows_of_one_number(way, x):
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    found = Int8(weight, None)(x)
    expected = x @ weight.T
    torch.testing.assert_close(found, expected, atol=0.01 * weight.abs().sum(1).max().item(), rtol=0, equal_nan=True)


def test_a_row_is_the_same_alone_and_in_a_batch(way):
    model = load(quantize="int8")
    x = torch.randn(2, 9, model.config.n_embd, generator=torch.Generator().manual_seed(0))
    layer = model.transformer.h[0].attn.c_attn
    assert (layer.single is not None) == ("fbgemm" in way)
    for factor in (1e-6, 1e-3, 1, 1e6):  # of rows that span little FBGEMM alone would make fewer steps
        y = layer(factor * x)
        for i in range(9):
            assert torch.equal(y[1, i], layer(factor * x[1, i]))
    texts = model.generate(PROMPTS, max_new_tokens=20, **ENDLESS)
    for prompt, text in zip(PROMPTS, texts, strict=True):
        alone = model.generate([prompt], max_new_tokens=20, **ENDLESS)[0, len(prompt) :]
        assert torch.equal(text[-20:], alone)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf, 1e38])
def test_a_row_that_is_not_finite(way, number):
    x = torch.full((2, 40), number)
    x[:, ::2] = -2e38 if number == 1e38 else 1.0
    layer = Int8(torch.randn(24, 40, generator=torch.Generator().manual_seed(0)), None)
    assert not layer(x[0]).isfinite().any() or number == 1e38
    torch.testing.assert_close(layer(x)[0], layer(x[0]), rtol=0, atol=0, equal_nan=True)


def test_halves_are_right_on_every_x86_processor(monkeypatch):
    """Else what tests them would be skipped; they are only for where whole rows are wrong."""
    if "fbgemm" not in torch.backends.quantized.supported_engines or platform.machine().lower() not in X86:
        pytest.skip("PyTorch has no FBGEMM here, or one that is made for other processors")
    assert quantized.has_halves()
    monkeypatch.setattr(quantized, "has_onednn", lambda: False)
    for fbgemm in (False, True):
        monkeypatch.setattr(quantized, "has_fbgemm", lambda found=fbgemm: found)
        assert way_of(Int8(torch.ones(4, 4), None)) == ("plain" if fbgemm else "halves")


@pytest.mark.parametrize("size", [(16, 1), (16, 41), (50, 768), (257, 1032)])
def test_halves_give_the_same_to_the_last_bit(size, monkeypatch):
    """Of 1032 numbers too, whose sums are the largest that float32 holds of any."""
    force("halves", monkeypatch)
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(size, generator=generator), torch.randn(size[0], generator=generator)
    weight[0], weight[1], weight[2:4, ::2] = 1, -1, 2
    x = torch.randn(70, size[1], generator=generator)
    x[1:5] *= torch.tensor([[0], [1e-30], [1e-3], [1e30]])
    x[5], x[6], x[7, ::2] = 3, 9, 9  # rows of one number, and of the greatest one in most places
    x[6, 0] = -9
    layer = Int8(weight, bias)
    assert way_of(layer) == "halves"
    monkeypatch.setattr(quantized, "has_halves", lambda: False)
    plain = Int8(weight, bias)
    for rows in (x, x[:1], x[5:7], x[6], x.view(7, 10, -1)):
        assert torch.equal(layer(rows), plain(rows))


@pytest.mark.parametrize("too_large", [False, True])
def test_sums_too_large_for_halves(too_large, monkeypatch):
    """Which would be rounded twice: such a layer is as if there were no halves."""
    force("halves", monkeypatch)
    weight = torch.ones(5000, 1033)
    weight[:, ::2] *= -1
    if too_large:
        weight[4999] = 1  # 1033 * 127 * 128 is more than 2^24, with any number of -1 it is not
    layer = Int8(weight, None)
    assert way_of(layer) == ("plain" if too_large else "halves")
    monkeypatch.setattr(quantized, "has_halves", lambda: False)
    x = torch.rand(3, 1033, generator=torch.Generator().manual_seed(0)).sqrt()
    assert torch.equal(layer(x), Int8(weight, None)(x))


def test_all_ways_give_the_same(way, monkeypatch):
    ids = torch.arange(60).view(2, 30)
    found = load(quantize="int8")(ids).logits
    force("plain", monkeypatch)
    torch.testing.assert_close(load(quantize="int8")(ids).logits, found, rtol=0, atol=0 if way == "halves" else 1e-4)


def perplexity(model, windows):
    return float(torch.stack([model(ids, labels=ids).loss.double() for ids in windows]).mean().exp())


def test_the_loss_in_perplexity(record_property):
    """On plays that the shipped model has not seen; every matrix is in 8 bits, the head too."""
    ids = GPT2Tokenizer.from_pretrained(SHAKESPEARE).encode(HELDOUT.read_text(encoding="utf-8")[:9000])
    windows = torch.tensor(ids[: len(ids) // 128 * 128]).view(-1, 1, 128)
    with torch.no_grad():
        exact = perplexity(load(), windows)
        narrow = {
            name: perplexity(load(**options), windows)
            for name, options in {"int8": {"quantize": "int8"}, "bfloat16": {"dtype": "bfloat16"}}.items()
        }
    for name, found in narrow.items():
        record_property("measured", (f"perplexity on Shakespeare in {name}", f"{found:.3f}, in float32 {exact:.3f}"))
        assert found < 1.005 * exact
    assert narrow["int8"] != exact


def test_every_head_can_be_loaded(tmp_path):
    for name in ("GPT2Model", "GPT2DoubleHeadsModel", "GPT2ForSequenceClassification"):
        model = getattr(gpt2_torch, name).from_pretrained(SHAKESPEARE, quantize="int8", pad_token_id=0)
        out = model(torch.arange(6).view((1, 1, 6) if "Double" in name else (1, 6)))
        assert all(torch.isfinite(x).all() for x in out.to_tuple() if isinstance(x, torch.Tensor))
        assert not any(isinstance(layer, Conv1D) for layer in model.modules())


def test_each_weight_goes_when_it_is_replaced(monkeypatch):
    """So that a model is never in memory in both forms."""
    alive = []

    def counting(weight, bias):
        alive.append(sum(kept() is not None for kept in layers))
        return Int8(weight, bias)

    model = load()
    layers = [weakref.ref(module) for module in model.modules() if isinstance(module, Conv1D)]
    monkeypatch.setattr(quantized, "Int8", counting)
    quantized.quantized(model, "int8")
    assert alive == [*range(len(layers), 0, -1), 1]  # the last one goes after the head's table was rounded


def test_copies_and_moves_that_change_nothing():
    model = load(quantize="int8")
    ids = model.generate(PROMPTS, max_new_tokens=5, **ENDLESS)
    for other in (copy.deepcopy(model), model.float().to("cpu").eval()):
        assert torch.equal(other.generate(PROMPTS, max_new_tokens=5, **ENDLESS), ids)


REFUSED = {
    "learn": lambda model: model.train(),
    "in the type that it was loaded with": lambda model: model.to(torch.bfloat16),
    "cannot be saved": lambda model: torch.save(model, io.BytesIO()),
    "no longer has its weights": lambda model: model.resize_token_embeddings(5000),
    "the one that it was made of": lambda model: model.set_input_embeddings(torch.nn.Embedding(2048, 256)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_it_is_not_for(words):
    with pytest.raises(GPT2Error, match=words):
        REFUSED[words](load(quantize="int8"))


def test_errors(tmp_path):
    with pytest.raises(GPT2Error, match="no longer has its weights"):
        load(quantize="int8").save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(GPT2Error, match="quantize='int4': it must be None or 'int8'"):
        load(quantize="int4")
