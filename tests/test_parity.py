"""Both trees against other people's numbers, against numpy, and against each other."""

import dataclasses

import numpy as np
import pytest

from gpt2_core import GPT2Config, parity
from gpt2_core.config import ACTIVATIONS
from gpt2_core.parity import TOLERANCE, compare, require_close
from tests import reference
from tests.comparing import measured_by_the_largest
from tests.frameworks import DATA, EVERYTHING, RUNNERS, Torch
from tests.random_cases import in_dtype

DTYPES = ["float64", "float32"]
FIXTURES = ["model", "lm_head", "double_heads", "sequence_classification"]
CASES = ["right_padded", "left_padded", "token_types"]


def fixture(head, case):
    """Returns (inputs, outputs, gradients) of one case of transformers' fixture."""
    with np.load(DATA / "transformers" / head / "expected.npz") as data:
        parts = {key.removeprefix(f"{case}/"): data[key] for key in data if key.startswith(f"{case}/")}
    split = {"in": {}, "out": {}, "grad": {}}
    for key, value in parts.items():
        kind, name = key.split("/", 1)
        split[kind][name] = value
    return split["in"], split["out"], split["grad"]


def stacked(run, field):
    """Returns one output field with its layers stacked in front, as the fixtures hold it."""
    names = sorted((name for name in run if name.split(".")[0] == field), key=lambda n: [*map(int, n.split(".")[1:])])
    if names == [field]:
        return run[field]
    if field == "past_key_values":
        return np.array([[run[f"{field}.{i}.{kv}"] for kv in (0, 1)] for i in range(len(names) // 2)])
    return np.array([run[name] for name in names])


def real(head, field, values, mask):
    """Returns the values at real tokens alone: what a model outputs at padding is its own affair."""
    if (
        mask is None
        or "loss" in field
        or field == "mc_logits"
        or (head, field) == ("sequence_classification", "logits")
    ):
        return values
    keep = mask == 1
    if field in ("logits", "last_hidden_state"):
        return values[keep]
    keep = keep.reshape(-1, keep.shape[-1])  # of several choices, merged with the batch
    if field == "hidden_states":
        return values[:, keep]
    if field == "attentions":
        return values * keep[None, :, None, :, None]
    return values * keep[None, None, :, None, :, None]


def merged(head, field, values):
    """Returns layers of double heads with batch and choices merged, as the fixtures hold them."""
    if head == "double_heads" and field in ("hidden_states", "attentions"):
        return values.reshape(len(values), -1, *values.shape[3:])
    return values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("head", FIXTURES)
def test_outputs_equal_transformers(runner, head, case, dtype):
    inputs, expected, _ = fixture(head, case)
    model = runner.load(head, DATA / "transformers" / head, dtype)
    run = runner.run(model, **inputs, **EVERYTHING)
    mask = inputs.get("attention_mask")
    assert {name.split(".")[0] for name in run} == set(expected)
    ours = {field: real(head, field, merged(head, field, stacked(run, field)), mask) for field in expected}
    theirs = {field: real(head, field, values, mask) for field, values in expected.items()}
    require_close(ours, theirs, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head", ["lm_head", "double_heads", "sequence_classification"])
def test_gradients_equal_transformers(runner, head, dtype):
    inputs, _, gradients = fixture(head, "right_padded")
    model = runner.load(head, DATA / "transformers" / head, dtype)
    ours = measured_by_the_largest(runner.gradients(model, **inputs), gradients, "float64")
    require_close(ours, measured_by_the_largest(gradients, gradients, "float64"), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_head_mask_and_cross_attention_equal_transformers_4(runner, dtype):
    with np.load(DATA / "transformers" / "head_mask.npz") as data:
        given = {
            kind: {k.split("/", 1)[1]: data[k] for k in data if k.startswith(kind)} for kind in ("in", "out", "weight")
        }
        gradients = {k.removeprefix("grad/"): data[k] for k in data if k.startswith("grad/")}
    config = GPT2Config(
        vocab_size=61, n_positions=16, n_embd=12, n_layer=2, n_head=3, add_cross_attention=True, use_cache=False
    )
    model = runner.create("lm_head", config, dtype=dtype)
    runner.assign(model, given["weight"])
    run, learnt = runner.learn(model, **in_dtype(given["in"], dtype), **EVERYTHING)
    require_close({field: stacked(run, field) for field in given["out"]}, given["out"], TOLERANCE[dtype])
    learnt = {name.removeprefix("of "): x for name, x in learnt.items() if name != "of encoder_hidden_states"}
    require_close(learnt, gradients, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_equal_openai(runner, dtype):
    folder = DATA / "openai_tf1"
    expected = np.load(folder / "expected.npz")  # float32: held to float32's tolerance in both types
    model = runner.load("lm_head", folder, dtype)
    run = runner.run(model, input_ids=expected["input_ids"])
    ours = {"logits": run["logits"], "present": np.moveaxis(stacked(run, "past_key_values"), 2, 0)}
    require_close(ours, {name: expected[name] for name in ours}, TOLERANCE["float32"])


KERAS_RUNNERS = [runner for runner in RUNNERS if not isinstance(runner, Torch)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keras_runner", KERAS_RUNNERS, ids=lambda runner: runner.name)
def test_torch_equals_keras_on_the_trained_model(keras_runner, dtype, shakespeare):
    config = GPT2Config.from_pretrained(shakespeare)
    r = np.random.default_rng(0)
    ids = r.integers(0, config.vocab_size, (2, 40))
    mask = np.ones_like(ids)
    mask[0, :7] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": np.where(mask == 1, ids, -100)}
    torch_runner = Torch("cuda" if keras_runner.device != "cpu" else "cpu")
    ours, theirs = (
        r.learn(r.load("lm_head", shakespeare, dtype), **inputs, **EVERYTHING) for r in (keras_runner, torch_runner)
    )
    for mine, yours in zip(ours, theirs, strict=True):
        require_close(mine, yours, TOLERANCE[dtype])


@pytest.mark.parametrize(
    "change",
    [{"activation_function": name} for name in ACTIVATIONS]
    + [
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"reorder_and_upcast_attn": True},
        {"tie_word_embeddings": False},
        {"n_inner": 20},
        {"layer_norm_epsilon": 0.1},
    ],
    ids=str,
)
def test_every_field_means_what_numpy_says(framework, change):
    base = GPT2Config(vocab_size=40, n_positions=12, n_embd=12, n_layer=3, n_head=3, initializer_range=0.4)
    config = dataclasses.replace(base, **change)
    ids = np.random.default_rng(1).integers(0, 40, 11)
    model = framework.create("lm_head", config, seed=2, dtype="float64")
    theirs = reference.language_model(config, framework.weights(model), ids)
    ours = framework.run(model, input_ids=ids[None], labels=ids[None])
    expected = {"logits": theirs, "loss": reference.next_token_loss(theirs, ids)}
    require_close({"logits": ours["logits"][0], "loss": ours["loss"]}, expected, TOLERANCE["float64"])
    if change not in ({"reorder_and_upcast_attn": True}, {"activation_function": "gelu_new"}):  # these change nothing
        plain = framework.create("lm_head", base, seed=2, dtype="float64")
        without = framework.run(plain, input_ids=ids[None])["logits"][0]
        same_formula = change.get("activation_function") in ("gelu_pytorch_tanh", "gelu_fast")
        assert same_formula == (np.abs(without - theirs).max() < 1e-6)


class TestTheHelpersFail:
    """Every helper that compares is shown to see a difference."""

    GOOD = {"logits": np.array([[1.0, -4.0]]), "loss": np.array(2.0)}

    def failing(self, ours, tolerance=1e-9):
        with pytest.raises(AssertionError, match="beyond") as raised:
            require_close(ours, self.GOOD, tolerance)
        return str(raised.value)

    def test_equal_passes(self):
        require_close({name: x.copy() for name, x in self.GOOD.items()}, self.GOOD, 0.0)

    def test_one_number_off(self):
        assert "logits" in self.failing(self.GOOD | {"logits": np.array([[1.0, -4.0 + 1e-7]])})
        require_close(self.GOOD | {"logits": np.array([[1.0, -4.0 + 1e-7]])}, self.GOOD, 1e-7)

    def test_missing_and_extra_names(self):
        assert "loss" in self.failing({"logits": self.GOOD["logits"]})
        assert "attentions" in self.failing(self.GOOD | {"attentions": np.zeros(2)})

    def test_shape_that_would_broadcast(self):
        assert "shapes" in self.failing(self.GOOD | {"loss": np.array([2.0])}, tolerance=1.0)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite_on_either_side_or_both(self, bad):
        broken = self.GOOD | {"loss": np.array(bad)}
        assert "finite" in self.failing(broken, tolerance=1e9)
        assert not compare(self.GOOD, broken)[1].within(1e9)
        assert not compare(broken, broken)[1].within(1e9)

    def test_nothing_to_compare(self):
        with pytest.raises(parity.GPT2Error, match="nothing to compare"):
            require_close({}, {}, 1.0)

    def test_zero_reference(self):
        assert compare({"x": [0.0]}, {"x": [0.0]})[0].within(0.0)
        assert not compare({"x": [1e-30]}, {"x": [0.0]})[0].within(1.0)

    def test_worst_by_field_keeps_the_worst(self):
        found = compare({"h.0": [1.0], "h.1": [1.0], "x": [1.0]}, {"h.0": [1.0], "h.1": [3.0], "x": [1.0]})
        worst = parity.worst_by_field(found)
        assert [(d.name, d.absolute) for d in worst] == [("h", 2.0), ("x", 0.0)]

    def test_fixture_comparison_sees_a_wrong_weight(self, framework):
        inputs, expected, gradients = fixture("lm_head", "right_padded")
        model = framework.load("lm_head", DATA / "transformers" / "lm_head", "float64")
        weights = framework.weights(model)
        weights["transformer.h.1.mlp.c_fc.bias"] = weights["transformer.h.1.mlp.c_fc.bias"] + 1e-6
        framework.assign(model, weights)
        with pytest.raises(AssertionError, match="logits"):
            require_close({"logits": framework.run(model, **inputs)["logits"]}, {"logits": expected["logits"]}, 1e-9)
        with pytest.raises(AssertionError, match=r"h\.0\.attn"):
            require_close(framework.gradients(model, **inputs), gradients, 1e-9)
