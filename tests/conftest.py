import collections
import contextlib
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes

import pytest
import torch  # before Keras, which asks for that order

# The CUDA builds of PyTorch have triton, which crashes when it is loaded after TensorFlow
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

import tensorflow as tf

from gpt2_core.cli.table import print_table
from tests import frameworks, matrix

# The models here are tiny: more threads only wait for each other, for long where another program uses the cores
torch.set_num_threads(1)

# TF32 keeps 10 bits of each factor on a GPU, where float32 has 23
tf.config.experimental.enable_tensor_float_32_execution(False)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

# Programs that tests run in processes of their own
collect_ignore = ["on_jax.py", "processes.py", "replicas.py", "bench"]


def pytest_generate_tests(metafunc):
    """Runs a test that asks for `framework` or `runner` once for each of them, on every device there is."""
    for name, choices in (("framework", frameworks.FRAMEWORKS), ("runner", frameworks.RUNNERS)):
        if name in metafunc.fixturenames:
            params = [pytest.param(c, id=c.name, marks=frameworks.gpu_mark(c)) for c in choices]
            metafunc.parametrize(name, params)


@pytest.fixture(scope="session")
def shakespeare():
    """The folder of the small trained model that ships with the package."""
    from gpt2_core.assets import SHAKESPEARE

    return SHAKESPEARE


def pytest_terminal_summary(terminalreporter):
    """Prints which program's checkpoints were opened by which, for which heads; and what tests have counted."""
    heading, rows = matrix.table(terminalreporter.stats.get("passed", ()))
    if rows:
        terminalreporter.section(f"what opens where: {matrix.LEGEND}")
        print_table(rows, heading)
    counts = collections.Counter()
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == "counted":
                counts[value[0]] += value[1]
    if counts:
        terminalreporter.section("generate, counted")
        print_table(counts.items())
