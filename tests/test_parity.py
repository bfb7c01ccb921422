"""Both trees against other people's numbers, against numpy, and against each other."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from gpt2_core import GPT2Config, parity
from gpt2_core.config import ACTIVATIONS
from gpt2_core.parity import TOLERANCE, compare, require_close
from tests import reference
from tests.frameworks import DATA, EVERYTHING, RUNNERS, Torch

DTYPES = ["float64", "float32"]
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


def real(field, values, mask):
    """Returns the values at real tokens alone: what a model outputs at padding is its own affair."""
    if mask is None or field == "loss":
        return values
    keep = mask == 1
    if field in ("logits", "last_hidden_state"):
        return values[keep]
    if field == "hidden_states":
        return values[:, keep]
    if field == "attentions":
        return values * keep[None, :, None, :, None]
    return values * keep[None, None, :, None, :, None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("head", ["model", "lm_head"])
def test_outputs_equal_transformers(runner, head, case, dtype):
    inputs, expected, _ = fixture(head, case)
    model = runner.load(head, DATA / "transformers" / head, dtype)
    run = runner.run(model, **inputs, **EVERYTHING)
    mask = inputs.get("attention_mask")
    assert {name.split(".")[0] for name in run} == set(expected)
    ours = {field: real(field, stacked(run, field), mask) for field in expected}
    require_close(ours, {field: real(field, values, mask) for field, values in expected.items()}, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_equal_transformers(runner, dtype):
    inputs, _, gradients = fixture("lm_head", "right_padded")
    model = runner.load("lm_head", DATA / "transformers" / "lm_head", dtype)
    require_close(runner.gradients(model, **inputs), gradients, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_equal_openai(runner, dtype):
    folder = DATA / "openai_tf1"
    expected = np.load(folder / "expected.npz")  # float32: held to float32's tolerance in both types
    model = runner.create("lm_head", GPT2Config.from_pretrained(folder), dtype=dtype)
    assign(runner, model, openai_weights(folder))
    run = runner.run(model, input_ids=expected["input_ids"])
    ours = {"logits": run["logits"], "present": np.moveaxis(stacked(run, "past_key_values"), 2, 0)}
    require_close(ours, {name: expected[name] for name in ours}, TOLERANCE["float32"])


def openai_weights(folder):
    """Returns published name -> array of OpenAI's variables, read by TensorFlow."""
    reader = tf.train.load_checkpoint(str(folder / "model.ckpt"))
    leaves = {"g": "weight", "w": "weight", "b": "bias"}
    weights = {}
    for name in reader.get_variable_to_shape_map():
        parts = name.removeprefix("model/").split("/")
        parts = [f"h.{part[1:]}" if part[0] == "h" else part for part in parts]
        parts[-1] = leaves.get(parts[-1], f"{parts[-1]}.weight")
        value = reader.get_tensor(name)
        weights["transformer." + ".".join(parts)] = value[0] if value.ndim == 3 else value
    return weights


def assign(runner, model, weights):
    """Puts arrays into a model of either framework."""
    import torch

    from gpt2_tf.checkpoint import named_weights

    for name, weight in named_weights(model) if not isinstance(runner, Torch) else model.named_parameters():
        if isinstance(runner, Torch):
            weight.data = torch.as_tensor(weights[name]).to(weight)
        else:
            weight.assign(weights[name])


def random_config(seed):
    """Returns a small config that uses every field the trunk and the language model have."""
    r = np.random.default_rng(seed)
    heads = int(r.integers(1, 4))
    return GPT2Config(
        vocab_size=int(r.integers(20, 90)),
        n_positions=int(r.integers(12, 40)),
        n_head=heads,
        n_embd=heads * int(r.integers(2, 9)),
        n_layer=int(r.integers(1, 4)),
        n_inner=r.choice([None, 24]),
        activation_function=str(r.choice(ACTIVATIONS)),
        layer_norm_epsilon=float(r.choice([1e-5, 1e-3])),
        initializer_range=float(r.choice([0.02, 0.3])),
        scale_attn_weights=bool(r.integers(2)),
        scale_attn_by_inverse_layer_idx=bool(r.integers(2)),
        reorder_and_upcast_attn=bool(r.integers(2)),
        tie_word_embeddings=bool(r.integers(2)),
        bos_token_id=0,
        eos_token_id=0,
    )


def random_inputs(config, seed):
    """Returns inputs with padding on both sides, segments, labels, and sometimes a past or embeddings."""
    r = np.random.default_rng(seed)
    B, P = int(r.integers(1, 4)), int(r.integers(0, 5))
    T = int(r.integers(2, config.n_positions - P + 1))
    ids = r.integers(0, config.vocab_size, (B, T))
    mask = np.ones((B, P + T), np.int64)
    mask[0, : r.integers(0, 3)] = 0
    mask[-1, P + T - r.integers(0, 2) :] = 0
    inputs = {"attention_mask": mask, "labels": np.where(r.random((B, T)) < 0.2, -100, ids)}
    if r.integers(2):
        inputs["token_type_ids"] = r.integers(0, config.vocab_size, (B, T))
    if r.integers(2):
        inputs["position_ids"] = r.integers(0, config.n_positions, (B, T))
    if P:
        shape = (B, config.n_head, P, config.head_dim)
        inputs["past_key_values"] = tuple((r.normal(size=shape), r.normal(size=shape)) for _ in range(config.n_layer))
    if r.integers(3) == 0:
        return inputs | {"inputs_embeds": r.normal(size=(B, T, config.n_embd))}
    return inputs | {"input_ids": ids}


def in_dtype(inputs, dtype):
    """Returns the inputs with their floating point arrays in `dtype`."""

    def cast(x):
        if isinstance(x, tuple):
            return tuple(cast(item) for item in x)
        return x.astype(dtype) if x.dtype.kind == "f" else x

    return {name: cast(x) for name, x in inputs.items()}


KERAS_RUNNERS = [runner for runner in RUNNERS if not isinstance(runner, Torch)]


# Compiling takes seconds a model, so the compiled ways see fewer of them
SEEDS = {"eager": range(24), "graph": range(8), "xla": range(4)}
RANDOM_CASES = [
    pytest.param(runner, seed, id=f"{runner.name}-{seed}") for runner in KERAS_RUNNERS for seed in SEEDS[runner.mode]
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keras_runner, seed", RANDOM_CASES)
def test_torch_equals_keras_on_random_models(keras_runner, seed, dtype):
    config = random_config(seed)
    inputs = in_dtype(random_inputs(config, seed), dtype)
    compare_trees(keras_runner, lambda f: f.create("lm_head", config, seed=seed, dtype=dtype), inputs, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keras_runner", KERAS_RUNNERS, ids=lambda runner: runner.name)
def test_torch_equals_keras_on_the_trained_model(keras_runner, dtype, shakespeare):
    config = GPT2Config.from_pretrained(shakespeare)
    r = np.random.default_rng(0)
    ids = r.integers(0, config.vocab_size, (2, 40))
    mask = np.ones_like(ids)
    mask[0, :7] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": np.where(mask == 1, ids, -100)}
    compare_trees(keras_runner, lambda f: f.load("lm_head", shakespeare, dtype), inputs, dtype)


def compare_trees(keras_runner, create, inputs, dtype):
    """Holds every output and every gradient of Keras against PyTorch's."""
    device = "cuda" if keras_runner.device != "cpu" else "cpu"
    ours, theirs = create(keras_runner), create(Torch(device))
    require_close(
        keras_runner.run(ours, **inputs, **EVERYTHING),
        Torch(device).run(theirs, **inputs, **EVERYTHING),
        TOLERANCE[dtype],
    )
    require_close(keras_runner.gradients(ours, **inputs), Torch(device).gradients(theirs, **inputs), TOLERANCE[dtype])


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
        assign(framework, model, weights)
        with pytest.raises(AssertionError, match="logits"):
            require_close({"logits": framework.run(model, **inputs)["logits"]}, {"logits": expected["logits"]}, 1e-9)
        with pytest.raises(AssertionError, match=r"h\.0\.attn"):
            require_close(framework.gradients(model, **inputs), gradients, 1e-9)
