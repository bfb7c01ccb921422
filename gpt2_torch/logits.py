"""One function per step of the generation plan: scores (B, V) in, scores out, -inf where a token is removed."""

import torch


def ranks(scores):
    """Returns each token's place in the order of falling scores; of equal ones the lower id comes first."""
    order = torch.argsort(scores, dim=-1, descending=True, stable=True)
    return torch.argsort(order, dim=-1)


def temperature(scores, value):
    return scores / value


def top_k(scores, value):
    return scores.masked_fill(ranks(scores) >= value, -torch.inf)


def top_p(scores, value):
    """Keeps the likeliest tokens that together reach the probability `value`, the one that reaches it included."""
    probabilities = torch.softmax(scores, dim=-1).sort(dim=-1, descending=True).values
    before = torch.cumsum(probabilities, dim=-1) - probabilities  # of all likelier tokens
    kept = (before < value).sum(dim=-1, keepdim=True)
    return scores.masked_fill(ranks(scores) >= kept, -torch.inf)


STEPS = {"temperature": temperature, "top_k": top_k, "top_p": top_p}


def pick(logits, steps, uniforms):
    """Returns the next token (B,): the likeliest, or by inverse CDF of the plan's uniform number, in float64."""
    if uniforms is None:
        return torch.argmax(logits, dim=-1)
    scores = logits.double()
    for step in steps:
        scores = STEPS[step.name](scores, step.value)
    reached = torch.cumsum(torch.softmax(scores, dim=-1), dim=-1)
    return torch.argmax((reached > uniforms[:, None] * reached[:, -1:]).byte(), dim=-1)
