"""Products of plain calls and of training where PyTorch's own are slow: its numbers, and nothing is lost."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import gpt2_torch
from gpt2_core import GPT2Config
from gpt2_torch import multiply
from tests.processors import pretended

CONFIG = GPT2Config(vocab_size=90, n_positions=24, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2)
CONFIG = dataclasses.replace(CONFIG, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
IDS = torch.tensor([[5, 6, 7, 5, 5, 9], [8, 5, 11, 12, 13, 89]])
CLOSE = {"rtol": 2e-6, "atol": 2e-6}

pytestmark = pytest.mark.skipif(not multiply.has_onednn(torch.float32), reason="PyTorch has no oneDNN here")


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 4


X, WEIGHT, BIAS = drawn(2, 5, 12), drawn(7, 12, seed=1), drawn(7, seed=2)
TURNED = drawn(12, 7, seed=3).T


@pytest.fixture(autouse=True)
def called(monkeypatch):
    """Has small weights multiplied as large ones are on a processor of AMD's; returns the shapes oneDNN is given."""
    pretended("AMD", monkeypatch)
    monkeypatch.setattr(multiply, "_LEAST", 0)
    shapes, function = [], multiply.by_onednn
    monkeypatch.setattr(multiply, "by_onednn", lambda x, *rest: (shapes.append(tuple(x.shape)), function(x, *rest))[1])
    return shapes


def leaves(*tensors):
    return [tensor.detach().requires_grad_() if tensor is not None else None for tensor in tensors]


@pytest.mark.parametrize("bias", [BIAS, None], ids=["bias", "no bias"])
@pytest.mark.parametrize("weight", [WEIGHT, TURNED], ids=["(out, in)", "(in, out)"])
def test_numbers_and_gradients_are_pytorchs(weight, bias, called):
    """First and second ones; a weight's lies as the weight does."""

    def derived(function):
        x, w, b = leaves(X, weight, bias)
        y = function(x, w, b)
        given = [x, w] if b is None else [x, w, b]
        first = torch.autograd.grad(y.sin().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(grad.cos().sum() for grad in first), given)
        return [y, *first, *second]

    found = derived(multiply.multiply)
    assert len(called) > 3 and found[2].stride() == weight.stride()
    for ours, expected in zip(found, derived(F.linear), strict=True):
        torch.testing.assert_close(ours, expected, **CLOSE)


@pytest.mark.parametrize("weight", [WEIGHT, TURNED], ids=["(out, in)", "(in, out)"])
def test_a_factor_that_is_turned_goes_in_parts(weight, called, monkeypatch):
    """The gradient of a table of words; a narrow weight's at once."""
    monkeypatch.setattr(multiply, "_MANY", 7)
    monkeypatch.setattr(multiply, "_TURNED", 3)
    found, expected = leaves(weight, weight)
    for function, leaf in [(multiply.multiply, found), (F.linear, expected)]:
        function(X, leaf).sin().sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, **CLOSE)
    outer = [shape for shape in called if shape[-1] == 10]  # by the tokens, all of which are summed
    assert outer == ([(3, 10), (3, 10), (1, 10)] if weight is WEIGHT else [(3, 10)] * 4)
    assert found.grad.stride() == weight.stride()


@pytest.mark.parametrize(
    "kind, dtype, times", [("AMD", "float32", 3), ("AMD", "float64", 1), ("older AMD", "float32", 1)]
)
def test_parts_are_for_onednn(kind, dtype, times, monkeypatch):
    """MKL, which multiplies the others, reads a factor as it lies."""
    pretended(kind, monkeypatch)
    monkeypatch.setattr(multiply, "_MANY", 7)
    monkeypatch.setattr(multiply, "_TURNED", 3)
    products, run = [], multiply.multiply
    monkeypatch.setattr(multiply, "multiply", lambda *given: (products.append(1), run(*given))[1])
    a, b = (drawn(*size).to(getattr(torch, dtype)) for size in [(10, 7), (10, 12)])
    with torch.no_grad():
        torch.testing.assert_close(multiply.turned(a, b), a.T @ b, **CLOSE)
    assert len(products) == times


FUNC = torch.func
TRANSFORMS = {
    "grad": lambda f: FUNC.grad(lambda w: f(X, w, BIAS).sin().sum())(WEIGHT),
    "vmap of x": lambda f: FUNC.vmap(f, (0, None, None))(X, WEIGHT, BIAS),
    "vmap of all": lambda f: FUNC.vmap(f)(X, drawn(2, 7, 12), drawn(2, 7)),
    "vmap of grad": lambda f: FUNC.vmap(FUNC.grad(lambda x: f(x, WEIGHT, BIAS).sin().sum()))(X),
    "jacfwd": lambda f: FUNC.jacfwd(lambda x: f(x, WEIGHT, BIAS))(X),
    "jvp of all": lambda f: FUNC.jvp(f, (X, WEIGHT, BIAS), (X.cos(), WEIGHT.cos(), BIAS.cos())),
    "hessian": lambda f: FUNC.hessian(lambda w: f(X, w).sin().sum())(WEIGHT),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms(transform):
    for ours, expected in zip(transform(multiply.multiply), transform(F.linear), strict=True):
        torch.testing.assert_close(ours, expected, **CLOSE)


def trained(model):
    out = model(IDS, labels=IDS)
    out.loss.backward()
    return {"logits": out.logits.detach()} | {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("tied", [True, False])
def test_a_models_gradients_are_pytorchs(tied, called, monkeypatch):
    def model():
        return gpt2_torch.GPT2LMHeadModel(dataclasses.replace(CONFIG, tie_word_embeddings=tied), seed=1).train()

    ours = trained(model())
    assert len(called) == 3 * (4 * CONFIG.n_layer + 1)  # each product, and the two of its gradients
    pretended(None, monkeypatch)
    called.clear()
    expected = trained(model())
    assert not called
    for name, grad in expected.items():
        torch.testing.assert_close(ours[name], grad, rtol=2e-5, atol=2e-6, msg=name)


def test_of_an_older_one_only_heads_are_slow(called, monkeypatch):
    pretended("older AMD", monkeypatch)
    monkeypatch.setitem(multiply.OUTPUTS, "older AMD", CONFIG.vocab_size)
    trained(gpt2_torch.GPT2LMHeadModel(dataclasses.replace(CONFIG, n_embd=16), seed=1).train())
    assert called == [(2, 6, 16)]


def with_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        return multiply.multiply(X, WEIGHT, BIAS)


def with_a_subclass():
    class Mine(torch.Tensor):
        pass

    return multiply.multiply(X, WEIGHT.as_subclass(Mine), BIAS)


def compiled():
    return torch.compile(multiply.multiply, backend="eager", fullgraph=True)(X, WEIGHT, BIAS)


def counting_operations():
    with FlopCounterMode(display=False) as counter:
        y = multiply.multiply(X, WEIGHT, BIAS)
    assert counter.get_total_flops() == 2 * X.numel() * len(WEIGHT)
    return y


def traced():
    return torch.jit.trace(lambda x: multiply.multiply(x, WEIGHT, BIAS), X, check_trace=False)(X)


def of_no_tokens():
    return multiply.multiply(X[:0], WEIGHT, BIAS)


def in_float64():
    return multiply.multiply(X.double(), WEIGHT.double(), BIAS.double())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "run", [with_autocast, with_a_subclass, compiled, counting_operations, traced, of_no_tokens, in_float64]
)
def test_who_sees_pytorchs_own(run, called):
    x = X[:0] if run is of_no_tokens else X
    most = 2e-2 if run is with_autocast else 2e-6
    found = run().double()
    torch.testing.assert_close(found, F.linear(x, WEIGHT, BIAS).double(), rtol=most, atol=most)
    assert not called


NARROW = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("at_once", [3, 1024])
@pytest.mark.parametrize("bias", [BIAS, None], ids=["bias", "no bias"])
@pytest.mark.parametrize("weight", [WEIGHT, TURNED], ids=["(out, in)", "(in, out)"])
def test_16_bits_are_multiplied_in_float32(dtype, at_once, weight, bias, monkeypatch):
    """Where the processor has no instructions for them: numbers and gradients are rounded once; 16 bits are kept."""
    pretended("older AMD", monkeypatch)
    monkeypatch.setattr(multiply, "_WIDENED", at_once)
    given, kept = [tensor.to(dtype) for tensor in (X, weight, bias) if tensor is not None], []
    share = drawn(2, 5, 7, seed=4).to(dtype)

    def derived(function, *tensors):
        tensors = leaves(*tensors)
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (kept.append(tensor), tensor)[1], lambda x: x):
            y = function(*tensors)
        return [y, *torch.autograd.grad(y, tensors, share.to(y.dtype))]

    found = derived(multiply.multiply, *given)
    assert [tensor.dtype for tensor in kept] == [dtype, dtype] and found[2].stride() == weight.stride()
    for ours, expected in zip(found, derived(F.linear, *(tensor.double() for tensor in given)), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), expected, rtol=torch.finfo(dtype).eps / 2 + 1e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_of_16_bits(transform, dtype, monkeypatch):
    pretended("older AMD", monkeypatch)

    def narrow(x, weight, bias=None):
        y = multiply.multiply(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
        return y.to(x.dtype)

    most = 4 * torch.finfo(dtype).eps
    for ours, expected in zip(transform(narrow), transform(F.linear), strict=True):
        torch.testing.assert_close(ours, expected, rtol=most, atol=most)


@pytest.mark.parametrize("run", [with_a_subclass, counting_operations, of_no_tokens])
def test_16_bits_that_are_watched_are_multiplied_in_float32_too(run, monkeypatch):
    pretended("older AMD", monkeypatch)
    for name, tensor in (("X", X), ("WEIGHT", WEIGHT), ("BIAS", BIAS)):
        monkeypatch.setitem(globals(), name, tensor.bfloat16())
    called, linear = [], F.linear
    monkeypatch.setattr(multiply.F, "linear", lambda *given: (called.append(given[0].dtype), linear(*given))[1])
    assert run().dtype == torch.bfloat16 and called == [torch.float32]
