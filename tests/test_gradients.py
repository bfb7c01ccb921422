"""The gradients that gpt2_torch makes itself: PyTorch's own numbers in less memory, and nothing it could do is lost."""

import concurrent.futures
import dataclasses
import functools
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import gpt2_torch
from gpt2_core import GPT2Config
from gpt2_torch import gradients, losses, ties

CONFIG = GPT2Config(vocab_size=90, n_positions=24, n_embd=32, n_layer=2, n_head=4, num_labels=3, pad_token_id=0)
LABELS = torch.tensor([0, 3, -100, 6, 6, 2, -100, 1, 5])
LOGITS = 3 * torch.randn(9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[5, 6, 7, 5, 5, 9], [8, 5, 11, 12, 13, 89]])  # some of them several times
NO_DROPOUT = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "summary_first_dropout": 0.0}


@pytest.fixture(autouse=True, params=[3, 2**20], ids=["row by row", "at once"])
def rows_at_a_time(request, monkeypatch):
    monkeypatch.setattr(gradients, "_NUMBERS", request.param)


def by_pytorch(logits, labels):
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, labels, ignore_index=-100)


def gradient(loss, logits, labels):
    logits = logits.clone().requires_grad_()
    found = loss(logits, labels)
    (3 * found).backward()
    return found.detach(), logits.grad


@pytest.mark.parametrize("dtype, most", [("float64", 1e-15), ("float32", 4e-7), ("bfloat16", 8e-3), ("float16", 1e-3)])
def test_cross_entropy_is_pytorchs(dtype, most):
    logits = LOGITS.to(getattr(torch, dtype))
    ours, expected = (gradient(loss, logits, LABELS) for loss in (losses.cross_entropy, by_pytorch))
    assert ours[0].dtype == expected[0].dtype and ours[1].dtype == expected[1].dtype == logits.dtype
    torch.testing.assert_close(ours[0], expected[0], rtol=min(most, 4e-7), atol=0)  # a loss is wide
    torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=most)


def test_derivatives_of_every_kind_are_right():
    logits = LOGITS.clone().requires_grad_()
    loss = functools.partial(losses.cross_entropy, labels=LABELS)
    assert torch.autograd.gradcheck(loss, logits, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, logits)


FUNC = torch.func
MANY = torch.stack([LOGITS, LOGITS.flip(0), LOGITS.roll(1, 1), -LOGITS])
SEVERAL = torch.stack([LABELS.roll(i) for i in range(4)])
TRANSFORMS = {
    "grad": lambda loss: FUNC.grad(loss)(LOGITS, LABELS),
    "vmap": lambda loss: FUNC.vmap(loss)(MANY, SEVERAL),
    "vmap of logits": lambda loss: FUNC.vmap(loss, (0, None))(MANY, LABELS),
    "vmap of labels": lambda loss: FUNC.vmap(loss, (None, 0))(LOGITS, SEVERAL),
    "vmap of grad": lambda loss: FUNC.vmap(FUNC.grad(loss))(MANY, SEVERAL),
    "jacfwd": lambda loss: FUNC.jacfwd(loss)(LOGITS, LABELS),
    "hessian": lambda loss: FUNC.hessian(loss)(LOGITS, LABELS),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms(transform):
    torch.testing.assert_close(transform(losses.cross_entropy), transform(by_pytorch), rtol=1e-13, atol=1e-15)


def test_labels_that_are_none_or_all_wrong():
    for logits, labels in ((LOGITS, torch.full((9,), -100)), (LOGITS[:0], LABELS[:0])):
        ours, expected = (gradient(loss, logits, labels) for loss in (losses.cross_entropy, by_pytorch))
        assert ours[0].isnan() and expected[0].isnan()
        torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=0)
    for wrong in (7, -5):
        for loss in (losses.cross_entropy, by_pytorch):
            with pytest.raises(IndexError, match=f"Target {wrong} is out of bounds"):
                loss(LOGITS, LABELS.masked_fill(LABELS == 6, wrong))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_as_large_as_the_logits_is_kept(dtype):
    kept = []
    logits = LOGITS.to(getattr(torch, dtype)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x), x)[1], lambda x: x):
        losses.cross_entropy(logits, LABELS)
    assert [x.data_ptr() == logits.data_ptr() for x in kept if x.ndim == 2] == [True]


def model_of(cls="GPT2LMHeadModel", dtype="float64", **changes):
    model = getattr(gpt2_torch, cls)(dataclasses.replace(CONFIG, **NO_DROPOUT, **changes), seed=3)
    return model.to(getattr(torch, dtype)).train()


def learnt(model, loss, tied=True):
    """Returns all gradients, and how often a tied table was looked up."""
    calls, lookup = [], ties.Tie.lookup
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ties.Tie, "lookup", lambda self, ids: (calls.append(1), lookup(self, ids))[1])
        if not tied:
            patch.setattr(ties, "is_learning_tied", lambda model: False)
        model.zero_grad()
        loss(model).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}, len(calls)


def head_alone(model):
    return model(inputs_embeds=model.transformer.wte(IDS).detach(), labels=IDS).loss


def twice(model):
    first, second = model(IDS, labels=IDS).loss, model(IDS.flip(1), labels=IDS).loss
    return first + 2 * second


def in_pieces(model):
    loss = model(IDS, labels=IDS).loss
    loss.backward(retain_graph=True)
    return loss


def penalty(model):
    """A loss of which the gradients' own gradients are asked for; PyTorch's attention on a CPU has none."""
    weights = list(model.parameters())
    found = torch.autograd.grad(model(IDS, labels=IDS, output_attentions=True).loss, weights, create_graph=True)
    return sum((x * x).sum() for x in found)


def recomputed(model):
    model.gradient_checkpointing_enable()
    return model(IDS, labels=IDS).loss


def detached(model):
    model.transformer.drop.register_forward_hook(lambda layer, given, out: out.detach())
    return model(IDS, labels=IDS).loss


def hooked(model):
    model.transformer.wte.register_forward_hook(lambda layer, given, out: out * 2)
    return model(IDS, labels=IDS).loss


# loss -> how often its model looks words up in a tied table
CALLS = {
    "loss": (lambda model: model(IDS, labels=IDS).loss, 1),
    "logits": (lambda model: model(IDS).logits.square().mean(), 1),
    "states alone": (lambda model: model(IDS, output_hidden_states=True).hidden_states[1].square().sum(), 1),
    "head alone": (head_alone, 0),
    "segments": (lambda model: model(IDS, token_type_ids=IDS.flip(0), labels=IDS).loss, 2),
    "twice": (twice, 2),
    "in pieces": (in_pieces, 1),
    "second derivatives": (penalty, 1),
    "recomputed": (recomputed, 1),
    "detached": (detached, 1),
    "hooked": (hooked, 1),
}


@pytest.mark.parametrize("dtype, most", [("float64", 1e-14), ("float32", 5e-6)])
@pytest.mark.parametrize("loss, lookups", CALLS.values(), ids=CALLS)
def test_gradients_of_a_tied_table_are_pytorchs(loss, lookups, dtype, most):
    ours, count = learnt(model_of(dtype=dtype), loss)
    expected, none = learnt(model_of(dtype=dtype), loss, tied=False)
    assert (count, none) == (lookups, 0) and ours.keys() == expected.keys()
    for name, values in ours.items():
        torch.testing.assert_close(values, expected[name], rtol=most, atol=most * expected[name].abs().max().item())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_16_bits_a_words_gradients_are_summed_with_more_places(dtype):
    """Rounded once, not at each of a word's 170 sums."""
    dtype = getattr(torch, dtype)
    drawn = functools.partial(torch.randn, generator=torch.Generator().manual_seed(2))
    weight, ids = drawn(5, 8).to(dtype).requires_grad_(), torch.arange(510) % 3 + 1  # neither the first nor the last
    of_rows, of_table = drawn(510, 8).to(dtype), drawn(5, 8).to(dtype)
    tie = ties.Tie(weight)
    torch.autograd.backward([tie.lookup(ids), tie.table], [of_rows, of_table.clone()])
    exact = of_table.double().index_add_(0, ids, of_rows.double())
    most = {"rtol": torch.finfo(dtype).eps / 2, "atol": 1e-5}
    torch.testing.assert_close(weight.grad.double(), exact, **most)
    one_by_one = of_table.index_put_((ids,), of_rows, accumulate=True)
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(one_by_one.double(), exact, **most)


def test_in_16_bits_a_tied_tables_gradient_is_as_good_as_pytorchs():
    narrow = model_of(dtype="bfloat16").double()  # the same numbers
    exact = learnt(narrow, CALLS["segments"][0])[0]["transformer.wte.weight"]
    for tied in (True, False):
        found, lookups = learnt(model_of(dtype="bfloat16"), CALLS["segments"][0], tied)
        assert lookups == 2 * tied
        assert (found["transformer.wte.weight"].double() - exact).norm() < 5e-3 * exact.norm()


class Filled(TorchDispatchMode):
    """Counts the tables that PyTorch fills for lookups' gradients, by their rows."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.embedding_dense_backward.default:
            self.rows.append(args[2])
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("tied", [True, False])
def test_no_table_is_filled_for_the_words(tied):
    with Filled() as filled:
        learnt(model_of(), CALLS["segments"][0], tied)
    assert filled.rows == [24] if tied else sorted(filled.rows) == [24, 90, 90]


def test_a_model_of_two_heads():
    def loss(model):
        out = model(IDS[None], mc_token_ids=[[5, 2]], labels=IDS[None], mc_labels=[[1, 2]])
        return out.loss + out.mc_loss

    (ours, count), (expected, none) = (learnt(model_of("GPT2DoubleHeadsModel"), loss, tied) for tied in (True, False))
    assert (count, none) == (1, 0)
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-15)


def test_where_it_is_not_taken():
    def count(model, loss=CALLS["loss"][0]):
        return learnt(model, loss)[1]

    frozen = model_of()
    frozen.transformer.wte.requires_grad_(False)
    assert count(model_of()) == 1
    assert count(frozen) == count(model_of(tie_word_embeddings=False)) == 0
    elsewhere = [ties.is_learning_tied(model_of(dtype=dtype).to("meta")) for dtype in ("float32", "bfloat16")]
    assert elsewhere == [True, False]
    assert count(model_of("GPT2ForSequenceClassification"), lambda model: model(IDS, labels=[1, 2]).loss) == 0

    def functional(model):
        weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        run = functools.partial(torch.func.functional_call, model, args=(IDS,), kwargs={"labels": IDS})
        found = torch.func.grad(lambda weights: run(weights).loss)(weights)
        loss = model(IDS, labels=IDS).loss
        loss.backward()
        for name, weight in model.named_parameters():
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-12, atol=1e-15)
        return loss.detach().requires_grad_()

    assert count(model_of(), functional) == 1  # not within the transform
    with torch.no_grad():
        model = model_of()
        assert not ties.is_learning_tied(model) and model(IDS, labels=IDS).loss.grad_fn is None
    assert ties._TIE.get() is None


def test_after_an_error_nothing_is_left():
    model = model_of()
    model.transformer.h[1].register_forward_hook(lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(IDS, labels=IDS)
    assert ties._TIE.get() is None


def test_threads_learn_by_themselves():
    models = [model_of() for _ in range(4)]
    expected = learnt(models[0], CALLS["loss"][0])[0]

    def learn(model):
        model.zero_grad()
        model(IDS, labels=IDS).loss.backward()
        return {name: weight.grad for name, weight in model.named_parameters()}

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found in list(pool.map(learn, models)):  # each model in one thread at a time
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_the_same_bits_every_time():
    """The order of sums does not depend on threads."""
    ids = torch.randint(0, 3, (32, 24), generator=torch.Generator().manual_seed(1))
    model, threads = model_of(dtype="float32", n_embd=256), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = (learnt(model, lambda model: model(ids, labels=ids).loss)[0] for _ in range(4))
    finally:
        torch.set_num_threads(threads)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0)


def test_autocast():
    def loss(model):
        with torch.autocast("cpu", torch.bfloat16):
            return model(IDS, labels=IDS).loss

    (ours, count), (expected, _) = (learnt(model_of(dtype="float32"), loss, tied) for tied in (True, False))
    assert count == 1
    for name, values in ours.items():
        torch.testing.assert_close(values, expected[name], rtol=1e-5, atol=1e-6 * expected[name].abs().max().item())


def test_compiled():
    """By PyTorch's own operations, and in one graph."""
    model = model_of(dtype="float32")
    expected = learnt(model, CALLS["loss"][0])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        ours, count = learnt(model, lambda _: compiled(IDS, labels=IDS).loss)
    assert count == 0
    for name, values in ours.items():
        torch.testing.assert_close(values, expected[name], rtol=1e-5, atol=1e-5 * expected[name].abs().max().item())
