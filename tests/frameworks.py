"""The only adapter between the tests and the two frameworks: numpy in, numpy out."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import torch

import gpt2_tf
import gpt2_torch
from gpt2_core import parity
from gpt2_tf.checkpoint import named_weights

DATA = Path(__file__).parent / "data"
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}


def to_numpy(x) -> np.ndarray:
    """Returns either framework's tensor as an array; bfloat16 as float32."""
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    x = keras.ops.convert_to_numpy(x)
    return x.astype(np.float32) if x.dtype.name == "bfloat16" else x


def flat(output) -> dict[str, np.ndarray]:
    """Returns name -> array of a model's output."""
    return {name: to_numpy(x) for name, x in parity.flatten(output).items()}


@dataclasses.dataclass(frozen=True)
class Torch:
    """PyTorch on one device."""

    device: str = "cpu"

    @property
    def name(self):
        return f"torch-{self.device}"

    @staticmethod
    def model_class(head):
        return {"model": gpt2_torch.GPT2Model, "lm_head": gpt2_torch.GPT2LMHeadModel}[head]

    def create(self, head, config, seed=0, dtype="float32"):
        return self.model_class(head)(config, seed=seed).to(self.device, getattr(torch, dtype)).eval()

    def load(self, head, folder, dtype=None, **overrides):
        return self.model_class(head).from_pretrained(folder, dtype=dtype, **overrides).to(self.device)

    @torch.no_grad()
    def run(self, model, **inputs):
        return flat(model(**{name: self._input(x) for name, x in inputs.items()}))

    def gradients(self, model, **inputs):
        """Returns the gradient of the loss by every weight."""
        model.zero_grad()
        model(**{name: self._input(x) for name, x in inputs.items()}).loss.backward()
        # a weight that the loss does not see has no gradient: zeros, as in the other framework
        return {
            name: to_numpy(torch.zeros_like(weight) if weight.grad is None else weight.grad)
            for name, weight in model.named_parameters()
        }

    def weights(self, model):
        return {name: to_numpy(weight) for name, weight in model.named_parameters()}

    def _input(self, x):
        return torch.as_tensor(x, device=self.device) if isinstance(x, np.ndarray) else x


@dataclasses.dataclass(frozen=True)
class Keras:
    """Keras on TensorFlow on one device, called eagerly, as a graph or through XLA."""

    device: str = "cpu"
    mode: str = "eager"

    @property
    def name(self):
        return f"keras-{self.mode}-{self.device}"

    @staticmethod
    def model_class(head):
        return {"model": gpt2_tf.TFGPT2Model, "lm_head": gpt2_tf.TFGPT2LMHeadModel}[head]

    def create(self, head, config, seed=0, dtype="float32"):
        with keras.device(self.device):
            return self.model_class(head)(config, seed=seed, dtype=dtype)

    def load(self, head, folder, dtype=None, **overrides):
        with keras.device(self.device):
            return self.model_class(head).from_pretrained(folder, dtype=dtype, **overrides)

    def run(self, model, **inputs):
        return flat(self._in_mode(functools.partial(self._call, model, inputs))())

    def gradients(self, model, **inputs):
        """Returns the gradient of the loss by every weight."""
        weights = dict(named_weights(model))

        def gradient():
            with tf.GradientTape() as tape:
                loss = self._call(model, inputs).loss
            values = [weight.value for weight in weights.values()]
            found = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [tf.convert_to_tensor(x) for x in found]

        return {name: to_numpy(x) for name, x in zip(weights, self._in_mode(gradient)(), strict=True)}

    def weights(self, model):
        return {name: to_numpy(weight) for name, weight in named_weights(model)}

    def _call(self, model, inputs):
        with keras.device(self.device):
            return model(**inputs)

    def _in_mode(self, function):
        """Returns the function as it is, as a graph, or compiled; inputs are captured, as each test calls once."""
        if self.mode == "eager":
            return function
        return tf.function(function, jit_compile=self.mode == "xla", autograph=False)


_HAS_CUDA = torch.cuda.is_available()
_HAS_TF_GPU = bool(tf.config.list_physical_devices("GPU"))
# One for each framework and device: for what does not depend on how Keras runs a function
FRAMEWORKS = [Torch(), Keras(), *([Torch("cuda")] if _HAS_CUDA else []), *([Keras("gpu:0")] if _HAS_TF_GPU else [])]
# Every way in which a model computes
RUNNERS = [
    *FRAMEWORKS,
    *(Keras(device, mode) for device in ("cpu", *(["gpu:0"] if _HAS_TF_GPU else [])) for mode in ("graph", "xla")),
]
