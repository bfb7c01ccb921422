"""300 random models and calls a head: PyTorch against Keras, every output and every gradient.

A failing test repeats by its own name: the number in it is the seed.
"""

import pytest

from gpt2_core.parity import TOLERANCE, compare
from gpt2_core.weights import HEADS
from tests.comparing import measured_by_the_largest
from tests.frameworks import RUNNERS, Torch
from tests.random_cases import in_dtype, random_config, random_inputs

# Compiling takes seconds a model, so the compiled ways see fewer of them
SEEDS = {"eager": range(300), "graph": range(2), "xla": range(1)}
CASES = [
    pytest.param(head, runner, seed, id=f"{head}-{runner.name}-{seed}")
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
    """Holds every output and every gradient of Keras against PyTorch's, in float64 and in float32.

    float32 may also be four times as far as PyTorch itself is from its float64: where terms cancel, no one is nearer.
    """
    torch_runner = Torch("cuda" if keras_runner.device != "cpu" else "cpu")
    exact = None
    for dtype, tolerance in (("float64", TOLERANCE["float64"]), ("float32", TOLERANCE["float32"])):
        arguments = in_dtype(inputs, dtype)
        torch_model, keras_model = (
            r.create(head, config, seed=seed, dtype=dtype) for r in (torch_runner, keras_runner)
        )
        if change is not None:
            change(torch_model)
        theirs, expected = torch_runner.learn(torch_model, **arguments)
        ours, gradients = keras_runner.learn(keras_model, **arguments)
        theirs |= measured_by_the_largest(expected, expected, dtype)
        ours |= measured_by_the_largest(gradients, expected, dtype)
        rounding = {d.name: d.relative for d in compare(theirs, exact)} if exact is not None else {}
        far = [d for d in compare(ours, theirs) if not d.within(max(tolerance, 4 * rounding.get(d.name, 0)))]
        assert not far, f"beyond {tolerance:g}: {far}"
        exact = {name: x for name, x in theirs.items() if not name.startswith("gradient")}
        exact |= measured_by_the_largest(expected, expected, "float32")


def test_a_difference_in_one_weight_is_seen():
    keras_runner = next(r for r in RUNNERS if not isinstance(r, Torch))

    def change(model):
        model.transformer.h[0].mlp.c_fc.bias.data[0] += 1e-6

    with pytest.raises(AssertionError, match="beyond 1e-09"):
        compare_trees(keras_runner, "lm_head", random_config(3), random_inputs_of("lm_head", 3), 3, change)
