"""What the heads minimise: means, in float32 at least."""

import torch
import torch.nn.functional as F

from .gradients import CrossEntropy
from .layers import wide


def cross_entropy(logits, labels):
    """Mean over the labels (...), each one of the K of logits (..., K); -100 does not count."""
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1).long()
    run = CrossEntropy.forward if torch.compiler.is_compiling() else CrossEntropy.apply  # compilers make gradients
    return run(logits, labels)[0]


def language_model_loss(logits, labels):
    """Cross entropy of each next token."""
    # the last logits have none: they do not count, and are not cut off, which would copy all others' gradients
    labels = F.pad(labels[..., 1:].long(), (0, 1), value=-100)
    return cross_entropy(logits, labels)


def classification_loss(logits, labels, problem):
    """The loss of logits (B, num_labels) for one of the core's PROBLEM_TYPES."""
    if problem == "single_label_classification":
        return cross_entropy(logits, labels)
    logits = logits.to(wide(logits.dtype))
    labels = labels.to(logits.dtype).reshape(logits.shape)
    if problem == "regression":
        return F.mse_loss(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels)


def answer_loss(logits, positions):
    """Cross entropy of a place (B,) among logits (B, T); places that were cut off do not count."""
    T = logits.shape[1]
    positions = positions.reshape(-1).long()
    return cross_entropy(logits, positions.masked_fill(positions >= T, -100))


def answers_loss(start_logits, starts, end_logits, ends):
    """Mean of the losses of where the answers start and where they end."""
    return (answer_loss(start_logits, starts) + answer_loss(end_logits, ends)) / 2
