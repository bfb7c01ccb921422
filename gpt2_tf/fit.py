"""What `fit` and `evaluate` ask of a model: its loss and what it learns from."""

import keras
from keras import ops

from gpt2_core.errors import GPT2Error
from gpt2_core.outputs import ModelOutput

from .matmul import products_by_xla
from .updates import updates_by_xla


class Share(keras.losses.Loss):
    """A loss that is computed already, as one of Keras', which divides it among the replicas of a strategy."""

    def call(self, y_true, y_pred):
        return y_pred


class FitMixin:
    """Gives a Keras model `fit` with its own loss, by `own_loss` of each head, or with one given to `compile`."""

    learns = {}  # what can be learnt -> the field of the output that is to tell it

    asked_to_compile = "auto"  # `compile`'s jit_compile, of which Keras keeps only what it made of it

    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        self.asked_to_compile = kwargs.get("jit_compile", "auto")

    def get_compile_config(self):
        config = super().get_compile_config()
        return {**config, "jit_compile": self.asked_to_compile} if config else config

    def compile_from_config(self, config):
        """Compiles a loaded model as the saved one was: Keras leaves this to who has a `compile` of their own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def train_step(self, *given):
        with updates_by_xla(self), products_by_xla(self):
            return super().train_step(*given)

    def own_loss(self, out, **targets):
        """Returns the loss of an output that `fit` made without its targets."""
        raise GPT2Error(f"{type(self).__name__} has no loss of its own: give compile one, or fit a model with a head")

    def targets_of(self, x, y):
        """Returns what `fit` was given to learn, by name: the targets, else those among the inputs."""
        if y is None and isinstance(x, dict):
            y = {name: x[name] for name in self.learns if x.get(name) is not None}
        targets = {} if y is None else y
        if isinstance(y, list | tuple) and len(self.learns) == len(y) > 1:
            targets = dict(zip(self.learns, y, strict=True))
        elif not isinstance(targets, dict):
            targets = {next(iter(self.learns)): y}
        unknown = [name for name in targets if name not in self.learns]
        if unknown:
            raise GPT2Error(f"{type(self).__name__} does not learn {', '.join(unknown)}, but {', '.join(self.learns)}")
        if not targets:
            names = " or ".join(f'"{name}"' for name in self.learns)
            need = next(iter(self.learns))
            raise GPT2Error(f"fit and evaluate need {need}: pass them as targets, or as {names} among the inputs")
        return targets

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Returns `fit`'s loss: the model's own; or the one given to `compile`, on the logits as they are, so that a
        language model's targets must be shifted already."""
        targets = self.targets_of(x, y)
        if not isinstance(y_pred, ModelOutput):
            raise GPT2Error("fit and evaluate need outputs by name: make the model with return_dict=True")
        if self._compile_loss is not None:
            return super().compute_loss(x, *self.targets_and_logits(targets, y_pred), sample_weight, training)
        if sample_weight is not None:
            raise GPT2Error("the model's own loss takes no weights: set labels to -100, or give compile a loss")
        if self._compile_config.config.get("loss_weights") is not None:
            raise GPT2Error("the model's own loss is the sum of its losses: give compile a loss for each to weigh them")
        loss = self.own_loss(y_pred, **targets)
        # a replica may get no rows of the last batch
        rows = ops.shape(y_pred[next(iter(self.learns.values()))])[0]
        loss = ops.where(rows == 0, ops.zeros_like(loss), loss)
        loss = Share(dtype=loss.dtype)(loss[None], loss[None])
        return loss + super().compute_loss(x, training=training) if self.losses else loss  # add_loss, regularizers

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Returns the compiled metrics, computed on the logits."""
        return super().compute_metrics(x, *self.targets_and_logits(self.targets_of(x, y), y_pred), sample_weight)

    def targets_and_logits(self, targets, out):
        """Returns the targets and the logits that are to tell them: two tensors, or two dicts where there are more."""
        if len(self.learns) == 1:
            ((name, field),) = self.learns.items()
            return targets[name], out[field]
        return targets, {name: out[self.learns[name]] for name in targets}
