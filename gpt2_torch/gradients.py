"""The gradient of a loss over many classes, in one pass: that of logits, the largest array of training."""

import torch
import torch.nn.functional as F

from .layers import wide

_IGNORED = -100  # the label that does not count
_NUMBERS = 2**20  # of logits at a time, on a CPU, whose caches hold as many


class CrossEntropy(torch.autograd.Function):
    """The mean over rows of log(sum(exp(logits))) - logits[label], which keeps nothing as large as logits (N, K).

    PyTorch's own keeps their logarithms of softmax, and makes a gradient of those before that of the logits: memory
    for two more of what is the largest array of a language model's training.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, labels):
        """Returns the loss and log(sum(exp(logits))), (N,)."""
        sums, chosen = [], []
        for some in parts(logits):
            x = logits[some].to(wide(logits.dtype))
            sums.append(torch.logsumexp(x, dim=1))
            chosen.append(F.nll_loss(x, labels[some], ignore_index=_IGNORED, reduction="none"))  # -x[label]
        sums, kept = torch.cat(sums), labels != _IGNORED
        return torch.where(kept, sums + torch.cat(chosen), 0).sum() / kept.sum(), sums

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])
        ctx.save_for_forward(*inputs, output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad, _):
        if grad is None:
            return None, None
        logits, labels, sums = ctx.saved_tensors
        places, share = picked(labels), shares(labels, grad)
        if torch.is_grad_enabled():  # second derivatives are asked for
            chances = torch.softmax(logits.to(sums.dtype), dim=1) * share[:, None]
            return chances.index_put(places, -share, accumulate=True).to(logits.dtype), None
        made = torch.empty_like(logits)
        for some in parts(logits):
            chances = (logits[some] - sums[some, None]).exp_().mul_(share[some, None])
            made[some] = chances.index_put_(picked(labels[some]), -share[some], accumulate=True)
        return made, None

    @staticmethod
    def jvp(ctx, tangent, _):
        logits, labels, sums = ctx.saved_tensors
        change = (torch.softmax(logits.to(sums.dtype), dim=1) * tangent).sum(1) - tangent[picked(labels)]
        return (shares(labels, torch.ones_like(sums[0])) * change).sum(), None


def parts(logits):
    """Returns slices of rows of logits (N, K), one at least; one of all while this compiles."""
    if torch.compiler.is_compiling():
        return [slice(None)]
    numbers = _NUMBERS if logits.is_cpu else 64 * _NUMBERS  # for few calls to a GPU
    rows = max(1, numbers // max(1, logits.shape[1]))
    return [slice(i, i + rows) for i in range(0, max(1, len(logits)), rows)]


def picked(labels):
    """Returns where the labels' logits are, the first where there is no label: rows and columns, each (N,)."""
    return torch.arange(len(labels), device=labels.device), labels.masked_fill(labels == _IGNORED, 0)


def shares(labels, grad):
    """Returns each row's share of the mean's gradient, (N,)."""
    kept = labels != _IGNORED
    return torch.where(kept, grad / kept.sum(), 0)
