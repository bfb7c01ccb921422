"""The two frameworks as the commands use them: picked by name, and imported only when asked for."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import parity
from ..errors import GPT2Error
from ..weights import ARCHITECTURES


class Framework(NamedTuple):
    """One tree: its package, how its classes begin, and what people call it."""

    package: str
    prefix: str
    title: str

    def load(self, source: str | Path, **options):
        """Returns a language model, on a GPU if there is one."""
        model = self.model_class().from_pretrained(source, **options)
        if self.package == "gpt2_torch" and importlib.import_module("torch").cuda.is_available():
            model = model.to("cuda")  # Keras finds the GPU by itself
        return model

    def logits(self, model, ids: Sequence[int]) -> np.ndarray:
        """Returns a language model's logits (T, V) for tokens (T,), in float32 or wider."""
        found = model(np.array([ids])).logits[0]
        if self.package == "gpt2_torch":
            found = found.cpu() if found.dtype.itemsize > 2 else found.float().cpu()
        return np.asarray(found)

    def model_class(self, head: str = "lm_head"):
        """Returns the tree's class of one of the core's HEADS."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no news of XLA's between the pieces of a text
        with _quiet_start():
            package = importlib.import_module(self.package)
            if self.package == "gpt2_tf":
                importlib.import_module("keras").ops.zeros(1)  # has TensorFlow look for its devices now
        return getattr(package, self.prefix + ARCHITECTURES[head])


@contextlib.contextmanager
def _quiet_start():
    """Holds back what TensorFlow's C++ code writes to the terminal as it starts; shows it if the start fails.

    No setting of TensorFlow's silences all of these lines: some are written before its logging reads any.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


FRAMEWORKS = {"torch": Framework("gpt2_torch", "", "PyTorch"), "tf": Framework("gpt2_tf", "TF", "Keras")}


def outputs(framework: str, source: str, head: str, dtype: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns name -> array of every output of a checkpoint's model for the inputs."""
    with no_gradients(framework):
        model = FRAMEWORKS[framework].model_class(head).from_pretrained(source, dtype=dtype)
        output = model(**inputs, output_hidden_states=True, output_attentions=True)
        return {name: np.asarray(x) for name, x in parity.flatten(output).items()}


def no_gradients(framework: str):
    """Returns a context in which PyTorch records nothing for gradients; Keras never does by itself."""
    return importlib.import_module("torch").no_grad() if framework == "torch" else contextlib.nullcontext()


def require_both() -> None:
    """Raises GPT2Error, with the pip command, unless both frameworks can be imported."""
    missing = []
    for framework in FRAMEWORKS.values():
        try:
            framework.model_class()
        except GPT2Error as error:
            missing.append(error)
    if len(missing) == len(FRAMEWORKS):
        raise GPT2Error('this compares PyTorch with Keras, and neither is installed: pip install "gpt2-duo[torch,tf]"')
    if missing:
        raise missing[0]
