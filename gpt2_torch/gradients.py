"""Gradients of a language model's training that are made in place, where PyTorch would fill more tables of their size.

Those of the logits and of a word table that is also the head, a language model's largest two.
"""

import contextvars
import functools

import torch
import torch.nn.functional as F
from torch import nn

IGNORED = -100  # the label that does not count
_NUMBERS = 2**20  # of logits at a time, on a CPU, whose caches hold as many
_TIE = contextvars.ContextVar("tie", default=None)  # of the language model that runs in this thread and learns


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
            x = logits[some].to(torch.promote_types(logits.dtype, torch.float32))
            sums.append(torch.logsumexp(x, dim=1))
            chosen.append(F.nll_loss(x, labels[some], ignore_index=IGNORED, reduction="none"))  # -x[label]
        sums, kept = torch.cat(sums), labels != IGNORED
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
    return torch.arange(len(labels), device=labels.device), labels.masked_fill(labels == IGNORED, 0)


def shares(labels, grad):
    """Returns each row's share of the mean's gradient, (N,)."""
    kept = labels != IGNORED
    return torch.where(kept, grad / kept.sum(), 0)


class Tied(torch.autograd.Function):
    """Rows of a table, and the table again for who uses it next.

    PyTorch would fill a table with zeros, add the rows' gradients, and add it to the head's in a third one: a twelfth
    of a step's time on a CPU. Here they are added to the head's gradient where it lies, which nothing else has seen.
    """

    @staticmethod
    def forward(ctx, table, ids):
        ctx.save_for_backward(ids)
        ctx.count = len(table)
        ctx.set_materialize_grads(False)
        return F.embedding(ids, table), table.view_as(table)

    @staticmethod
    def backward(ctx, rows, table):
        (ids,) = ctx.saved_tensors
        if rows is None:
            return table, None
        if table is None or torch.is_grad_enabled():  # second derivatives are asked for
            alone = torch.ops.aten.embedding_dense_backward(rows, ids, ctx.count, -1, False)
            return alone if table is None else alone + table, None
        if table.is_cpu:  # of the two operations, the one whose order of sums is always the same
            return table.index_add_(0, ids.reshape(-1), rows.reshape(-1, rows.shape[-1])), None
        return table.index_put_((ids,), rows, accumulate=True), None


class Tie:
    """What a table is during a call: after each of its lookups, the second of what Tied returned."""

    def __init__(self, weight):
        self.weight = self.table = weight

    def lookup(self, ids):
        rows, self.table = Tied.apply(self.table, ids)
        return rows


def tied(forward):
    """Has a language model's forward pass, where it learns and its head is the word table, look words up by a Tie."""

    @functools.wraps(forward)
    def run(self, *args, **kwargs):
        if not is_learning_tied(self):
            return forward(self, *args, **kwargs)
        before = _TIE.set(Tie(self.transformer.wte.weight))
        try:
            return forward(self, *args, **kwargs)
        finally:
            _TIE.reset(before)

    return run


def is_learning_tied(model):
    """Returns whether a Tie serves: not what compiles or transforms, nor 16 bits, whose sums need more places."""
    weight = model.transformer.wte.weight
    learns = torch.is_grad_enabled() and weight.requires_grad and not torch.compiler.is_compiling()
    wide = weight.dtype in (torch.float32, torch.float64)
    return learns and wide and model.lm_head is None and type(weight) is nn.Parameter


def tie_of(weight):
    """Returns the Tie of a weight, None without one."""
    tie = None if torch.compiler.is_compiling() else _TIE.get()
    return tie if tie is not None and tie.weight is weight else None
