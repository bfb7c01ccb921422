"""The same numbers on a GPU, float32 with TF32 off; what is missing is said where a test is skipped.

Keras on a GPU of TensorFlow's is among the runners of every other test, those of the random cases too.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpt2_core.weights import HEADS
from tests.comparing import beyond, measured_by_the_largest
from tests.frameworks import Torch
from tests.random_cases import in_dtype, random_config, random_inputs

ROOT = Path(__file__).parent.parent
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("seed", range(30))
def test_torch_on_cuda_equals_torch_on_the_cpu(head, seed):
    config = random_config(seed, head)
    inputs = in_dtype(random_inputs(config, head, seed), "float32")
    runs = {}
    for name, device, dtype in (
        ("exact", "cpu", "float64"),
        ("cpu", "cpu", "float32"),
        ("cuda", "cuda", "float32"),
    ):
        runner = Torch(device)
        outputs, gradients = runner.learn(runner.create(head, config, seed, dtype), **in_dtype(inputs, dtype))
        runs[name] = outputs | measured_by_the_largest(gradients, gradients, "float32")
    far = beyond(runs["cuda"], runs["cpu"], runs["exact"], "float32")
    assert not far, far


@pytest.mark.gpu
@on_cuda
def test_bfloat16_on_cuda_is_near_float32(shakespeare):
    ids = torch.arange(64)[None]
    wide, narrow = (Torch("cuda").load("lm_head", shakespeare, dtype) for dtype in ("float32", "bfloat16"))
    with torch.no_grad():
        theirs, ours = wide(ids.cuda()).logits, narrow(ids.cuda()).logits
    assert (ours - theirs).abs().max() / theirs.abs().max() < 4e-2


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True, "seed": [1, 2], "top_p": 0.9}])
def test_generate_on_cuda_writes_what_it_writes_on_the_cpu(shakespeare, settings):
    cpu, cuda = (Torch(device).load("lm_head", shakespeare, "float64") for device in ("cpu", "cuda"))
    ours, theirs = (model.generate([[5, 6, 7], [8, 9]], max_new_tokens=40, **settings) for model in (cuda, cpu))
    assert ours.tolist() == theirs.tolist()


def jax_sees(kind: str) -> bool:
    """Returns whether JAX is installed and sees a device of the kind; asked in another process, as it takes memory."""
    if importlib.util.find_spec("jax") is None:
        return False
    code = f"import jax; print(any(d.platform == {kind!r} for d in jax.devices()))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "True"


@pytest.mark.gpu
@pytest.mark.skipif(not jax_sees("gpu"), reason="JAX is not installed, or sees no GPU here")
def test_keras_on_jax_on_a_gpu_equals_torch_on_cuda():
    assert "JAX on cuda" in run_on_jax()


@pytest.mark.skipif(not jax_sees("cpu"), reason="JAX is not installed, or has a GPU: then the test above runs")
def test_keras_on_jax_equals_torch():
    assert "JAX on" in run_on_jax()


def run_on_jax() -> str:
    command = [sys.executable, ROOT / "tests" / "on_jax.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
