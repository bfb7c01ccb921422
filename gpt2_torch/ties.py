"""A word table that is also the head, in training: its gradient in one table, where PyTorch would fill three."""

import contextvars
import functools

import torch
import torch.nn.functional as F
from torch import nn

_TIE = contextvars.ContextVar("tie", default=None)  # of the language model that runs in this thread and learns


class Tied(torch.autograd.Function):
    """Rows of a table, and the table again for who uses it next.

    PyTorch would fill a table with zeros, add the rows' gradients, and add it to the head's in a third one. Here they
    are added to the head's gradient where it lies, which nothing else has seen.
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
        # of the two operations, on a CPU the one whose order of sums is always the same, and which rounds 16 bits once
        if table.is_cpu:
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
    """Returns whether a Tie serves: not what compiles or transforms, nor a GPU's 16 bits, rounded at each sum."""
    weight = model.transformer.wte.weight
    learns = torch.is_grad_enabled() and weight.requires_grad and not torch.compiler.is_compiling()
    exact = weight.is_cpu or weight.dtype.itemsize > 2
    return learns and exact and model.lm_head is None and type(weight) is nn.Parameter


def tie_of(weight):
    """Returns the Tie of a weight, None without one."""
    tie = None if torch.compiler.is_compiling() else _TIE.get()
    return tie if tie is not None and tie.weight is weight else None
