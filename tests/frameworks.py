"""The only adapter between the tests and the two frameworks: numpy in, numpy out."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import keras
import numpy as np
import pytest
import torch

import gpt2_tf
import gpt2_torch
from gpt2_core import parity
from gpt2_core.weights import ARCHITECTURES
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


def flat_inputs(inputs) -> dict:
    """Returns name -> tensor of a model's inputs, those of a cache and of the call before it one by one."""
    found = {}
    for name, x in inputs.items():
        if isinstance(x, dict):
            found |= {f"{name}.{inner}": y for inner, y in flat_inputs(x).items()}
        else:
            found |= parity.flatten(x, name) if isinstance(x, tuple) else {name: x}
    return found


def compute(model, inputs):
    """Returns a model's output for `inputs`; where they hold `before`, its trunk computes the cache from that."""
    if "before" in inputs:
        inputs = dict(inputs)
        trunk = getattr(model, "transformer", model)
        inputs["past_key_values"] = trunk(**inputs.pop("before"), use_cache=True).past_key_values
    return model(**inputs)


def is_floating(x) -> bool:
    return hasattr(x, "dtype") and "float" in str(x.dtype)


def objective(out):
    """Returns what gradients are taken of: the losses, and of a model without one its first output, weighed."""
    losses = [out[name] for name in ("loss", "mc_loss") if name in out]
    if losses:
        return sum(losses)
    weights = np.cos(np.arange(np.prod(out[0].shape))).reshape(out[0].shape)
    if isinstance(out[0], torch.Tensor):
        return (out[0] * torch.as_tensor(weights).to(out[0])).sum()
    return keras.ops.sum(out[0] * keras.ops.cast(weights, out[0].dtype))


class Runner:
    """What both frameworks do alike."""

    @property
    def package(self):
        """The tree's name."""
        return self.model_class("model").__module__.split(".")[0]

    def gradients(self, model, **inputs):
        """Returns the gradient of the objective by every weight."""
        return {name: x for name, x in self.learn(model, **inputs)[1].items() if not name.startswith("of ")}


@dataclasses.dataclass(frozen=True)
class Torch(Runner):
    """PyTorch on one device."""

    device: str = "cpu"

    @property
    def name(self):
        return f"torch-{self.device}"

    @staticmethod
    def model_class(head):
        return getattr(gpt2_torch, ARCHITECTURES[head])

    def create(self, head, config, seed=0, dtype="float32"):
        return self.model_class(head)(config, seed=seed).to(self.device, getattr(torch, dtype)).eval()

    def load(self, head, folder, dtype=None, **overrides):
        return self.model_class(head).from_pretrained(folder, dtype=dtype, **overrides).to(self.device)

    @torch.no_grad()
    def run(self, model, training=False, **inputs):
        return flat(model.train(training)(**{name: self._input(x) for name, x in inputs.items()}))

    def learn(self, model, training=False, **inputs):
        """Returns the outputs, and the gradient of the objective by every weight and every fractional input."""
        inputs = {name: keras.tree.map_structure(self._input, x) for name, x in inputs.items()}
        floating = {name: x for name, x in flat_inputs(inputs).items() if is_floating(x)}
        for x in floating.values():
            x.requires_grad_()
        out = compute(model.train(training), inputs)
        wanted = {**dict(model.named_parameters()), **{f"of {name}": x for name, x in floating.items()}}
        found = torch.autograd.grad(objective(out), list(wanted.values()), allow_unused=True, materialize_grads=True)
        return flat(out), {name: to_numpy(x) for name, x in zip(wanted, found, strict=True)}

    def weights(self, model):
        return {name: to_numpy(weight) for name, weight in model.named_parameters()}

    def assign(self, model, weights):
        """Puts arrays into a model."""
        for name, weight in model.named_parameters():
            weight.data = torch.as_tensor(weights[name]).to(weight)

    def _input(self, x):
        return torch.as_tensor(x, device=self.device) if isinstance(x, np.ndarray) else x


@dataclasses.dataclass(frozen=True)
class Keras(Runner):
    """Keras on TensorFlow on one device, called eagerly, as a graph or through XLA."""

    device: str = "cpu"
    mode: str = "eager"

    @property
    def name(self):
        return f"keras-{self.mode}-{self.device}"

    @staticmethod
    def model_class(head):
        return getattr(gpt2_tf, "TF" + ARCHITECTURES[head])

    def create(self, head, config, seed=0, dtype="float32"):
        with keras.device(self.device):
            return self.model_class(head)(config, seed=seed, dtype=dtype)

    def load(self, head, folder, dtype=None, **overrides):
        with keras.device(self.device):
            return self.model_class(head).from_pretrained(folder, dtype=dtype, **overrides)

    def run(self, model, training=False, **inputs):
        inputs |= {"training": True} if training else {}
        return flat(self._in_mode(functools.partial(self._call, model, inputs))())

    def learn(self, model, training=False, **inputs):
        """Returns the outputs, and the gradient of the objective by every weight and every fractional input."""
        import tensorflow as tf

        inputs |= {"training": True} if training else {}
        weights = dict(named_weights(model))
        inputs = keras.tree.map_structure(lambda x: tf.constant(x) if isinstance(x, np.ndarray) else x, inputs)
        floating = {f"of {name}": x for name, x in flat_inputs(inputs).items() if is_floating(x)}

        def gradient():
            with tf.GradientTape() as tape:
                tape.watch(list(floating.values()))
                out = self._call(model, inputs)
                scalar = objective(out)
            values = [weight.value for weight in weights.values()] + list(floating.values())
            found = tape.gradient(scalar, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return out, [tf.convert_to_tensor(x) for x in found]

        out, found = self._in_mode(gradient)()
        return flat(out), {name: to_numpy(x) for name, x in zip([*weights, *floating], found, strict=True)}

    def weights(self, model):
        return {name: to_numpy(weight) for name, weight in named_weights(model)}

    def assign(self, model, weights):
        """Puts arrays into a model."""
        for name, weight in named_weights(model):
            weight.assign(weights[name])

    def _call(self, model, inputs):
        with keras.device(self.device):
            return compute(model, inputs)

    def _in_mode(self, function):
        """Returns the function as it is, as a graph, or compiled; inputs are captured, as each test calls once."""
        if self.mode == "eager":
            return function
        import tensorflow as tf

        return tf.function(function, jit_compile=self.mode == "xla", autograph=False)


def gpu_mark(runner):
    """Returns the marks of a test of a runner."""
    return [pytest.mark.gpu] if runner.device != "cpu" else []


_HAS_CUDA = torch.cuda.is_available()
_HAS_TF_GPU = keras.config.backend() == "tensorflow" and keras.distribution.list_devices("gpu") != []
# One for each framework and device: for what does not depend on how Keras runs a function
FRAMEWORKS = [Torch(), Keras(), *([Torch("cuda")] if _HAS_CUDA else []), *([Keras("gpu:0")] if _HAS_TF_GPU else [])]
# Every way in which a model computes
RUNNERS = [
    *FRAMEWORKS,
    *(Keras(device, mode) for device in ("cpu", *(["gpu:0"] if _HAS_TF_GPU else [])) for mode in ("graph", "xla")),
]
