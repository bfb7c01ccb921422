"""generate's own products of PyTorch on a CPU: right, followed by changes, not in the way of copies and files."""

import concurrent.futures
import copy
import dataclasses
import functools
import io
import itertools

import pytest
import torch

import gpt2_torch
from gpt2_core import GPT2Config
from gpt2_torch import multiply
from gpt2_torch.inference import layouts, products
from gpt2_torch.inference.layouts import HALVES, fastest
from gpt2_torch.layers import Conv1D
from tests.processors import pretended

CONFIG = GPT2Config(vocab_size=90, n_positions=48, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4)
ENDLESS = {"eos_token_id": [], "pad_token_id": 0, "return_dict_in_generate": True, "output_scores": True}
PROMPTS = {1: [[5, 6, 7]], 3: [[5, 6, 7], [8, 9], [10, 11, 12, 13]]}


@pytest.fixture(autouse=True, params=["AMD", "older AMD", "Intel with AMX"])
def kind(request, monkeypatch):
    """Has the ways of each kind of processor used on any; those of oneDNN where it has them."""
    pretended(request.param, monkeypatch)
    return request.param


def model_of(dtype="float32", config=CONFIG, **settings):
    model = gpt2_torch.GPT2LMHeadModel(config, seed=3).to(getattr(torch, dtype)).eval()
    model.__dict__.update(settings)
    return model


def written(model, rows=1, new=8, **settings):
    out = model.generate(PROMPTS[rows], max_new_tokens=new, **ENDLESS, **settings)
    return out.sequences.tolist(), torch.stack(out.scores).float()


def made(model):
    return products._KEPT[model].made if model in products._KEPT else {}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("bfloat16", 4e-2), ("float16", 5e-3)])
@pytest.mark.parametrize("tied", [True, False])
def test_scores_are_those_of_pytorch(kind, rows, dtype, tolerance, tied):
    model = model_of(dtype, dataclasses.replace(CONFIG, tie_word_embeddings=tied))
    ids, scores = written(model, rows)
    ways = fastest(model.device, model.dtype)
    assert bool(made(model)) == (ways is not None and any(ways[rows > 1]))
    model.pack_weights = False
    expected_ids, expected = written(model, rows)
    torch.testing.assert_close(scores[0], expected[0], rtol=tolerance, atol=tolerance * expected.abs().max().item())
    if dtype == "float32":
        assert ids == expected_ids
        torch.testing.assert_close(scores, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())
    exact = model_of("float64") if tied else None
    if exact is not None and dtype == "float32":
        assert written(exact, rows)[0] == ids


def test_which_way_is_taken(kind):
    """The one that was the fastest there; one layout at a time is kept."""
    ways = {}
    for dtype in ("float32", "bfloat16"):
        model = model_of(dtype)
        for rows in (1, 3, 1):
            written(model, rows)
            found = {layer: product.layout for layer, product in made(model).items()}
            head = found.pop(model.transformer.wte, None)
            assert len(found) in (0, 4 * CONFIG.n_layer)
            ways[dtype, rows] = (set(found.values()), head)
    packed, plain, shares = (({name}, name) for name in ("packed", "plain", "shares"))
    none = set(), None
    expected = {  # in float32 and in bfloat16, of one row and of several
        "AMD": [shares, shares, ({"rows"}, "rows"), packed],
        "older AMD": [plain, plain, ({HALVES}, HALVES), ({HALVES}, HALVES)],
        "Intel with AMX": [none, (set(), "plain"), packed, packed],
    }[kind]
    for i, dtype in enumerate((torch.float32, torch.bfloat16)):
        if fastest(torch.device("cpu"), dtype) is None:  # the processor at hand has none such
            expected[2 * i : 2 * i + 2] = none, none
    assert list(ways.values()) == expected


def counted(monkeypatch):
    """Returns a list to which each product will add its layout."""
    called = []
    for layout, (lay, function) in layouts._LAYING.items():
        run = functools.partial(
            lambda x, *given, f, name: (called.append(name), f(x, *given))[1], f=function, name=layout
        )
        monkeypatch.setitem(layouts._LAYING, layout, (lay, run))
    return called


def test_products_are_those_that_were_chosen(monkeypatch):
    """They are called, not only named."""
    called = counted(monkeypatch)
    for dtype, rows in itertools.product(("float32", "bfloat16", "float16"), (1, 3)):
        called.clear()
        model = model_of(dtype)
        written(model, rows, new=1)
        assert sorted(called) == sorted(product.layout for product in made(model).values())


def test_many_tokens_go_pytorchs_own_way(kind, monkeypatch):
    """Through the layers of a processor whose oneDNN is slower then, as weights lie; not through the head."""
    called, model = counted(monkeypatch), model_of()
    prompts = [[i % 90 for i in range(row, row + 30)] for row in range(3)]
    model.generate(prompts, max_new_tokens=1, **ENDLESS)
    most = fastest(model.device, model.dtype).most
    assert len(called) == len(made(model)) - 4 * CONFIG.n_layer * (most < 90)


@pytest.mark.parametrize("past_modules", [True, False])
@pytest.mark.parametrize("rows, transposed", [(1, False), (2, True), (5, True), (6, False)])
def test_some_tokens_are_multiplied_as_their_transpose(kind, rows, transposed, past_modules, monkeypatch):
    """On an older AMD, 41 to 160 of them: to float32's rounding what PyTorch's own products are."""
    called, run = [], layouts.by_transpose
    monkeypatch.setattr(layouts, "by_transpose", lambda *given: (called.append(1), run(*given))[1])
    model, exact = model_of(), model_of("float64")
    if not past_modules:
        model.transformer.h[0].ln_1.register_forward_hook(lambda *given: None)
    prompts = [[i % 90 for i in range(row, row + 30)] for row in range(rows)]
    scores, expected = (torch.stack(m.generate(prompts, max_new_tokens=1, **ENDLESS).scores) for m in (model, exact))
    assert len(called) == (4 * CONFIG.n_layer if transposed and made(model) and kind == "older AMD" else 0)
    torch.testing.assert_close(scores.double(), expected, rtol=2e-6, atol=2e-6 * expected.abs().max().item())


@pytest.mark.parametrize("shape", [(41, 24), (3, 20, 24)])
def test_products_as_their_transpose_are_exact_in_float64(shape):
    x, weight, bias = (torch.randn(size, dtype=torch.float64) for size in (shape, (70, 24), (70,)))
    found, expected = layouts.by_transpose(x, weight, bias), torch.nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


# a weight's size, how it lies, and how many tokens at most are multiplied in shares of it
SHARES = {
    "a layer": ((70, 24), "in, out", 1),
    "of an odd width": ((70, 25), "in, out", 0),
    "a table": ((70, 24), "out, in", 4),
    "of a prime number of words": ((71, 24), "out, in", 0),
}


@pytest.mark.parametrize("size, layout, most", SHARES.values(), ids=SHARES)
@pytest.mark.parametrize("tokens", [1, 2, 4, 5])
@pytest.mark.parametrize("biased", [True, False])
def test_products_in_shares(size, layout, most, tokens, biased, monkeypatch):
    """Exact in float64, where it is not oneDNN's turn."""
    by_others, plain = [], torch.nn.functional.linear
    monkeypatch.setattr(layouts, "by_onednn", lambda *given: (by_others.append(1), plain(*given))[1])
    weight, bias = torch.randn(size, dtype=torch.float64), torch.randn(size[0], dtype=torch.float64)
    weight = weight.T.contiguous().T if layout == "in, out" else weight
    for shape in [(tokens, size[1]), (tokens, 1, size[1])]:
        given = torch.randn(shape, dtype=torch.float64), weight, bias if biased else None
        found, expected = layouts.by_shares(*given), plain(*given)
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    assert len(by_others) == (0 if tokens <= most else 2)


@pytest.mark.skipif(not layouts.has_fbgemm(), reason="PyTorch has no FBGEMM here")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_multiplied_exactly(dtype):
    """Weights in float16 times float32, summed in float32: rounded once, to the type."""
    generator = torch.Generator().manual_seed(0)
    layer, x = torch.nn.Linear(96, 70).to(dtype), torch.randn(5, 96, generator=generator).to(dtype)
    exact = torch.nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())
    found = layouts.Product(layer, False, HALVES)(x).double()
    torch.testing.assert_close(found, exact, rtol=torch.finfo(dtype).eps / 2 + 1e-6, atol=2e-6)


@pytest.mark.parametrize("factor", [1e-6, 1e6, float("inf"), float("nan")])
def test_numbers_that_float16_does_not_hold(factor):
    """A layer that has them is multiplied in float32."""
    layer = torch.nn.Linear(96, 70).bfloat16()
    with torch.no_grad():
        layer.weight.mul_(factor)
    x = torch.ones(5, 96, dtype=torch.bfloat16)
    product = layouts.Product(layer, False, HALVES)
    exact = torch.nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())
    torch.testing.assert_close(product(x).double(), exact, rtol=2**-8, atol=0, equal_nan=True)
    assert not product.is_copy


def test_none_is_left_on_the_layers_after_a_call():
    model = model_of()
    written(model)
    assert all("product" not in layer.__dict__ for layer in model.modules())
    model.transformer.h[0].attn.c_attn.register_forward_hook(lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(model)
    assert all("product" not in layer.__dict__ for layer in model.modules())
    assert torch._C._get_mkldnn_enabled()


def in_place(model):
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight.mul_(1.5)


def behind_its_back(model):
    model.transformer.h[1].mlp.c_fc.weight.data.mul_(1.5)


def one_neuron_behind_its_back(model):
    model.transformer.h[0].mlp.c_proj.weight.data[7] = 0


def one_token_behind_its_back(model):
    model.transformer.wte.weight.data[5] = 0


def another_storage(model):
    model.transformer.wte.weight.data = model.transformer.wte.weight.data * 0.7


def another_parameter(model):
    layer = model.transformer.h[1].mlp.c_fc
    layer.weight = torch.nn.Parameter(layer.weight.detach() * 1.5)


def another_state(model):
    state = model.state_dict()
    state["transformer.h.1.mlp.c_fc.weight"] = state["transformer.h.1.mlp.c_fc.weight"] * 1.5
    model.load_state_dict(state)


def by_training(model):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ids = torch.tensor([[1, 2, 3, 4]])
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    model.eval()


def another_table(model):
    model.resize_token_embeddings(95)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(0.7)


CHANGES = [in_place, behind_its_back, one_neuron_behind_its_back, one_token_behind_its_back, another_storage]
CHANGES += [another_parameter, another_state, by_training, another_table]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("rows", [1, 3])
def test_they_follow_their_weights(change, dtype, rows):
    model = model_of(dtype)
    before = written(model, rows)[1]
    change(model)
    after = written(model, rows)[1]
    fresh = copy.deepcopy(model)  # has made none yet
    assert fresh not in products._KEPT
    torch.testing.assert_close(after, written(fresh, rows)[1], rtol=0, atol=0)
    assert before.shape != after.shape or not torch.allclose(before, after)


def test_without_them(monkeypatch):
    switched_off, inferred = model_of(pack_weights=False), model_of()
    with torch.inference_mode():
        inferred = model_of()  # its weights do not count their changes
    texts = [written(model)[0] for model in (switched_off, inferred, model_of())]
    monkeypatch.setattr(layouts, "processor", lambda: None)
    another = model_of()
    assert all(text == written(another)[0] for text in texts)
    assert not any(model in products._KEPT for model in (switched_off, inferred, another))


def test_an_operation_that_is_gone_is_done_without(monkeypatch):
    monkeypatch.setattr(layouts, "has_onednn", multiply.has_onednn.__wrapped__)  # which asks each time
    for broken in (lambda weight: torch.ops.mkldnn.no_such_operation(weight), lambda weight: weight + 1):
        monkeypatch.setattr(multiply, "packed", broken)
        model = model_of()
        written(model)
        assert model not in products._KEPT and not layouts.has_onednn(torch.float32)


def test_copies_and_files_of_a_model_hold_none(tmp_path):
    model = model_of()
    ids = written(model)[0]
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert written(other)[0] == ids
    model.save_pretrained(tmp_path)
    assert sum(isinstance(layer, Conv1D) for layer in model.modules()) == 8
    kept = len(products._KEPT)
    del model, other
    assert len(products._KEPT) < kept


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_threads_share_a_model(dtype):
    model = model_of(dtype)
    expected = {rows: written(model_of(dtype), rows)[0] for rows in PROMPTS}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        calls = [(rows, pool.submit(written, model, rows)) for rows in (1, 3) * 12]
        assert all(call.result()[0] == expected[rows] for rows, call in calls)
    assert torch._C._get_mkldnn_enabled()
    assert all("product" not in layer.__dict__ for layer in model.modules())


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_autocast_does_without_them(narrow):
    model = model_of()
    with torch.autocast("cpu", narrow):
        ids = written(model)[0]
    assert len(ids[0]) == 11 and not made(model)
