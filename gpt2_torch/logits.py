"""One function per step of the generation plan: scores (B, V) in, scores out, -inf where a token is removed."""

import torch


def ranks(scores):
    """Returns each token's place in the order of falling scores; of equal ones the lower id comes first."""
    order = torch.argsort(scores, dim=-1, descending=True, stable=True)
    return torch.argsort(order, dim=-1)


def before(scores, order):
    """Returns for each token the probability of all that come before it, places (B, V) of an order."""
    p = torch.softmax(scores, dim=-1)
    sorted_p = torch.zeros_like(p).scatter(-1, order, p)
    return torch.gather(torch.cumsum(sorted_p, dim=-1) - sorted_p, -1, order)


def remove(scores, removed, order, least):
    """Returns scores without the removed tokens, but with the first ones of an order."""
    return scores.masked_fill(removed & (order >= least), -torch.inf)


def repetition_penalty(scores, value, least):
    """Makes tokens less likely by factors (B, V), 1 where a token is new."""
    return torch.where(scores < 0, scores * value, scores / value)


def ban(scores, value, least):
    return scores.masked_fill(value, -torch.inf)


def temperature(scores, value, least):
    return scores / value


def highest(scores, count):
    """Returns which are the `count` highest of each row, of equal ones those of lower ids; without sorting them all."""
    bound = torch.topk(scores, count, dim=-1).values[:, -1:]
    above, equal = scores > bound, scores == bound
    room = count - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1) <= room))


def top_k(scores, value, least):
    return scores.masked_fill(~highest(scores, min(max(value, least), scores.shape[-1])), -torch.inf)


def top_p(scores, value, least):
    """Keeps the likeliest tokens that together reach the probability `value`, the one that reaches it included."""
    order = ranks(scores)
    return remove(scores, before(scores, order) >= value, order, least)


def min_p(scores, value, least):
    """Keeps tokens at least `value` times as likely as the likeliest."""
    p = torch.softmax(scores, dim=-1)
    return remove(scores, p < value * p.amax(dim=-1, keepdim=True), ranks(scores), least)


def typical_p(scores, value, least):
    """Keeps the tokens as surprising as is to be expected, that together reach the probability `value`."""
    logs = torch.log_softmax(scores, dim=-1)
    entropy = -torch.where(logs > -torch.inf, logs.exp() * logs, 0.0).sum(dim=-1, keepdim=True)
    order = ranks(-(-logs - entropy).abs())
    return remove(scores, before(scores, order) >= value, order, least)


STEPS = {
    "repetition_penalty": repetition_penalty,
    "ban": ban,
    "temperature": temperature,
    "top_k": top_k,
    "top_p": top_p,
    "min_p": min_p,
    "typical_p": typical_p,
}


def process(scores, steps, values):
    """Returns scores after steps, whose arguments are given as tensors."""
    for step, value in zip(steps, values, strict=True):
        scores = STEPS[step.name](scores, step.value if isinstance(step.value, int) else value, step.least)
    return scores


def draw(scores, uniforms):
    """Returns by inverse CDF the token (B,) of each number (B,): where the sum of the probabilities passes it."""
    reached = torch.cumsum(torch.softmax(scores.double(), dim=-1), dim=-1)
    return torch.argmax((reached > uniforms[:, None] * reached[:, -1:]).byte(), dim=-1)


def pick(scores, uniforms):
    """Returns the next token (B,): the likeliest, or the drawn one."""
    return torch.argmax(scores, dim=-1) if uniforms is None else draw(scores, uniforms)


def best(scores, running, count, uniforms):
    """Returns (values, indices), (N, count), of scores (N*beams, V) added to those of their beams, running (N, beams).

    The highest, of equal ones the lower index first; or drawn with numbers (count, N), each from what is left.
    """
    N, beams = running.shape
    sums = scores.reshape(N, beams, -1) + running[..., None]
    sums = sums.reshape(N, -1)  # (N, beams * V)
    if uniforms is None:
        indices = torch.nonzero(highest(sums, count))[:, 1].reshape(N, count)
        values, order = torch.sort(torch.gather(sums, -1, indices), dim=-1, descending=True, stable=True)
        return values, torch.gather(indices, -1, order)
    left, found = sums, []
    for i in range(count):
        found.append(draw(left, uniforms[i]))
        left = left.scatter(-1, found[-1][:, None], -torch.inf)
    indices = torch.stack(found, dim=-1)
    return torch.gather(sums, -1, indices), indices
