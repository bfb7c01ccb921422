"""The same numbers on a GPU, float32 with TF32 off; what is missing is said where a test is skipped."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpt2_core.parity import TOLERANCE, compare
from gpt2_core.weights import HEADS
from tests.comparing import measured_by_the_largest
from tests.frameworks import FRAMEWORKS, Keras, Torch
from tests.random_cases import in_dtype, random_config, random_inputs

ROOT = Path(__file__).parent.parent
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")
KERAS_ON_GPU = [framework for framework in FRAMEWORKS if isinstance(framework, Keras) and framework.device != "cpu"]


@pytest.fixture(autouse=True)
def no_tf32():
    """TF32 keeps 10 bits of each factor, where float32 has 23."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


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
    rounding = {d.name: d.relative for d in compare(runs["cpu"], runs["exact"])}
    far = [
        d for d in compare(runs["cuda"], runs["cpu"]) if not d.within(max(TOLERANCE["float32"], 4 * rounding[d.name]))
    ]
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
@pytest.mark.skipif(not KERAS_ON_GPU, reason="TensorFlow sees no GPU here")
@pytest.mark.parametrize("head", HEADS)
def test_keras_on_a_gpu_equals_torch(head):
    from tests.test_random_parity import compare_trees, random_inputs_of

    for seed in range(30):
        compare_trees(KERAS_ON_GPU[0], head, random_config(seed, head), random_inputs_of(head, seed), seed)


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
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    command = [sys.executable, ROOT / "tests" / "on_jax.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
