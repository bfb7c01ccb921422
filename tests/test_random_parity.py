"""300 random models and calls a head: PyTorch against Keras, every output and every gradient.

A failing test repeats by its own name: the number in it is the seed.
"""

import pytest

from gpt2_core.config import PROBLEM_TYPES
from gpt2_core.parity import TOLERANCE
from gpt2_core.weights import HEADS
from tests.comparing import beyond, measured_by_the_largest
from tests.frameworks import RUNNERS, Torch, gpu_mark
from tests.random_cases import in_dtype, past_length, random_config, random_inputs

# Compiling takes seconds a model, so the compiled ways see fewer of them
SEEDS = {"eager": range(300), "graph": range(2), "xla": range(1)}
CASES = [
    pytest.param(head, runner, seed, id=f"{head}-{runner.name}-{seed}", marks=gpu_mark(runner))
    for head in HEADS
    for runner in RUNNERS
    if not isinstance(runner, Torch)
    for seed in SEEDS[runner.mode]
]


@pytest.mark.parametrize("head, keras_runner, seed", CASES)
def test_torch_equals_keras(head, keras_runner, seed):
    compare_trees(keras_runner, head, random_config(seed, head), random_inputs_of(head, seed), seed)


def random_inputs_of(head, seed):
    """Returns a call whose numbers float32 can hold, so that both types compute the same thing."""
    inputs = in_dtype(random_inputs(random_config(seed, head), head, seed), "float32")
    return in_dtype(inputs, "float64")


def compare_trees(keras_runner, head, config, inputs, seed, change=None):
    """Holds every output and every gradient of Keras against PyTorch's, in float64 and in float32."""
    torch_runner = Torch("cuda" if keras_runner.device != "cpu" else "cpu")

    def learnt(runner, dtype, change=None):
        model = runner.create(head, config, seed=seed, dtype=dtype)
        if change is not None:
            change(model)
        return runner.learn(model, **in_dtype(inputs, dtype))

    exact = None
    for dtype in ("float64", "float32"):
        theirs, gradients = learnt(torch_runner, dtype, change)
        theirs |= measured_by_the_largest(gradients, gradients, dtype)
        ours, ours_gradients = learnt(keras_runner, dtype)
        ours |= measured_by_the_largest(ours_gradients, gradients, dtype)
        far = beyond(ours, theirs, exact, dtype)
        assert not far, f"beyond {TOLERANCE[dtype]:g}: {far}"
        exact = {name: x for name, x in theirs.items() if not name.startswith("gradient")}
        exact |= measured_by_the_largest(gradients, gradients, "float32")


def test_a_difference_in_one_weight_is_seen():
    keras_runner = next(r for r in RUNNERS if not isinstance(r, Torch))

    def change(model):
        model.transformer.h[0].mlp.c_fc.bias.data[0] += 1e-6

    with pytest.raises(AssertionError, match="beyond 1e-09"):
        compare_trees(keras_runner, "lm_head", random_config(3), random_inputs_of("lm_head", 3), 3, change)


def test_the_cases_reach_every_branch():
    """Numbers that a config or a call can take on, and that a generator may miss without a word."""
    configs = [random_config(seed, "double_heads") for seed in SEEDS["eager"]]
    assert {config.summary_width for config in configs} > {1, 2, 3, 4}
    assert {config.id2label is None for config in configs} == {True, False}
    problems = {random_config(seed, "sequence_classification").problem_type for seed in SEEDS["eager"]}
    assert problems == {None, *PROBLEM_TYPES}
    calls = [random_inputs_of("lm_head", seed) for seed in SEEDS["eager"]]
    assert {type(call.get("past_key_values")) for call in calls} == {tuple, type(None)}
    past = [past_length(call) for call in calls]
    assert max(past) > 30 and {0, 1} < set(past) and any("before" in call for call in calls)
