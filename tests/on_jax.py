"""Run by test_gpu and by hand: the Keras tree on Keras' JAX backend against PyTorch, over the random cases.

    python tests/on_jax.py [seeds a head]

Both take a GPU where they see one. float32, because Keras narrows some functions of float64 on JAX.
"""

import dataclasses
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of the GPU's memory too
sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import keras
import torch

jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

import gpt2_tf  # noqa: E402
from gpt2_core.parity import compare  # noqa: E402
from gpt2_core.weights import HEADS  # noqa: E402
from gpt2_tf.checkpoint import named_weights  # noqa: E402
from tests.comparing import beyond, measured_by_the_largest  # noqa: E402
from tests.frameworks import ARCHITECTURES, Torch, compute, flat, flat_inputs, is_floating, objective, to_numpy  # noqa: E402
from tests.random_cases import in_dtype, random_config, random_inputs  # noqa: E402


def learn(model, **inputs):
    """Returns the outputs, and the gradient of the objective by every weight and every fractional input."""
    names, weights = zip(*named_weights(model), strict=True)
    values = [weight.value for weight in weights]
    floating = {name: x for name, x in flat_inputs(inputs).items() if is_floating(x)}

    def scalar(values, floating):
        with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
            out = compute(model, with_values(inputs, floating))
        return objective(out), out

    (_, out), found = jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True)(values, floating)
    gradients = dict(zip(names, found[0], strict=True)) | {f"of {name}": x for name, x in found[1].items()}
    wanted = [*names, *(f"of {name}" for name in floating)]  # JAX sorts its dicts
    return flat(out), {name: to_numpy(gradients[name]) for name in wanted}


def with_values(x, values, name=""):
    """Returns nested inputs with the values that are given under the names of flat_inputs."""
    if isinstance(x, dict):
        return {key: with_values(item, values, f"{name}.{key}" if name else key) for key, item in x.items()}
    if isinstance(x, tuple):
        return tuple(with_values(item, values, f"{name}.{i}") for i, item in enumerate(x))
    return values.get(name, x)


def distance(head, seed, torch_runner):
    """Returns how far an output or a gradient is from PyTorch's at most, relative to the largest; raises if too far."""
    config = random_config(seed, head)
    inputs = in_dtype(random_inputs(config, head, seed), "float32")
    exact = measured(
        *torch_runner.learn(torch_runner.create(head, config, seed, "float64"), **in_dtype(inputs, "float64"))
    )
    theirs = measured(*torch_runner.learn(torch_runner.create(head, config, seed), **inputs))
    ours = measured(*learn(getattr(gpt2_tf, "TF" + ARCHITECTURES[head])(config, seed=seed), **inputs))
    far = beyond(ours, theirs, exact, "float32")
    assert not far, f"{head}, seed {seed}: {far}"
    return max(d.relative for d in compare(ours, theirs))


def same_tokens(seed, device):
    """Returns how many of several ways to continue two prompts give the tokens that they give in PyTorch."""
    config = dataclasses.replace(random_config(seed, "lm_head"), n_positions=40, eos_token_id=None)
    models = Torch(device).create("lm_head", config, seed), gpt2_tf.TFGPT2LMHeadModel(config, seed=seed)
    prompts = [[1, 2, 3], [4]]
    drawn = {"do_sample": True, "seed": [seed, 7]}
    ways = ({}, {"num_beams": 3}, drawn, {**drawn, "top_p": 0.8}, {**drawn, "num_beams": 2, "typical_p": 0.9})
    found = [[to_numpy(model.generate(prompts, max_new_tokens=12, **way)).tolist() for way in ways] for model in models]
    return sum(a == b for a, b in zip(*found, strict=True)), len(ways)


def measured(outputs, gradients):
    return outputs | measured_by_the_largest(gradients, gradients, "float32")


def main(seeds):
    torch_runner = Torch("cuda" if torch.cuda.is_available() else "cpu")
    print(f"JAX on {jax.devices()[0]}, PyTorch on {torch_runner.device}")
    for head in HEADS:
        worst = max(distance(head, seed, torch_runner) for seed in range(seeds))
        print(f"{head}: {seeds} cases, at most {worst:.3g}")
    same, of = map(sum, zip(*(same_tokens(seed, torch_runner.device) for seed in range(seeds)), strict=True))
    print(f"generate: {same} of {of} calls give the same tokens")
    assert same == of


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
