"""300 random models and calls a head: PyTorch against Keras, every output and every gradient.

A failing test repeats by its own name: the number in it is the seed.
"""

import numpy as np
import pytest

from gpt2_core.parity import TOLERANCE, require_close
from gpt2_core.weights import HEADS
from tests.frameworks import RUNNERS, Torch
from tests.random_cases import in_dtype, random_config, random_inputs

# Compiling takes seconds a model, so the compiled ways see fewer of them
SEEDS = {"eager": range(300), "graph": range(4), "xla": range(2)}
CASES = [
    pytest.param(head, runner, seed, id=f"{head}-{runner.name}-{seed}")
    for head in HEADS
    for runner in RUNNERS
    if not isinstance(runner, Torch)
    for seed in SEEDS[runner.mode]
]


@pytest.mark.parametrize("head, keras_runner, seed", CASES)
def test_torch_equals_keras(head, keras_runner, seed):
    config = random_config(seed, head)
    inputs = random_inputs(config, head, seed)
    for dtype in ("float64", "float32"):
        compare_trees(keras_runner, lambda f: f.create(head, config, seed=seed, dtype=dtype), in_dtype(inputs, dtype))


def compare_trees(keras_runner, create, inputs):
    """Holds every output and every gradient of Keras against PyTorch's."""
    torch_runner = Torch("cuda" if keras_runner.device != "cpu" else "cpu")
    model = create(torch_runner)
    dtype = str(model.dtype).removeprefix("torch.")
    theirs, expected = torch_runner.learn(model, **inputs)
    ours, gradients = keras_runner.learn(create(keras_runner), **inputs)
    require_close(ours, theirs, TOLERANCE[dtype])
    if dtype == "float64":
        require_close(*measured_by_the_largest(gradients, expected, TOLERANCE[dtype] ** 1.5), TOLERANCE[dtype])
    else:  # a gradient is a sum whose terms cancel: float32 is held to the largest of all, float64 to each tensor's own
        require_close(*measured_by_the_largest(gradients, expected, np.inf), TOLERANCE[dtype])


def measured_by_the_largest(ours, theirs, below):
    """Returns gradients, those of them joined that are less than the part `below` of the largest of all.

    A loss does not depend on some weights at all, as on a bias that a softmax cancels: what is left is rounding.
    """
    largest = max(np.abs(x).max(initial=0) for x in theirs.values())
    small = [name for name, x in theirs.items() if np.abs(x).max(initial=0) <= largest * below]

    def joined(gradients):
        rest = {name: x for name, x in gradients.items() if name not in small}
        return rest | {"small": np.concatenate([*(gradients[name].ravel() for name in small), [largest]])}

    assert ours.keys() == theirs.keys()
    return joined(ours), joined(theirs)


def test_a_difference_in_one_weight_is_seen():
    config = random_config(3)
    runner = next(r for r in RUNNERS if not isinstance(r, Torch))
    inputs = in_dtype(random_inputs(config, "lm_head", 3), "float64")

    def create(framework):
        model = framework.create("lm_head", config, seed=3, dtype="float64")
        if isinstance(framework, Torch):
            model.transformer.h[0].mlp.c_fc.bias.data[0] += 1e-6
        return model

    with pytest.raises(AssertionError, match="beyond 1e-09"):
        compare_trees(runner, create, inputs)
