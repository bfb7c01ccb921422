"""Ways to run a step of one token a row as few launches, put in the place of a model's own: `model.step = Kept(...)`.

Such a step is hundreds of small kernels, and launching them takes a GPU longer than running them. A CUDA graph launches
them all at once, always at the addresses that it was recorded with; so a cache has to stay where it is.
"""

import functools

import torch


class Kept:
    """A language model's step that keeps a cache for each shape, into which it copies the one that a call begins with.

    What a call of generate returns as past_key_values is overwritten by the next one. record: makes of the step, its
    tokens and a cache the function that runs it.
    """

    def __init__(self, model, record):
        self.step, self.record, self.runs = model.step, record, {}
        self.run = None  # the last that ran

    def __call__(self, input_ids, position_ids, kept, places, past, encoder=None, encoder_mask=None, every=False):
        given = input_ids, position_ids, kept, places
        if input_ids.shape[1] > 1:  # prompts, of any length
            return self.step(*given, past, encoder, encoder_mask, every=every)
        shape = past[0][0].shape
        if shape not in self.runs:
            cache = tuple(tuple(x.clone() for x in pair) for pair in past)
            self.runs[shape] = cache, self.record(self.step, given, cache)
        cache, self.run = self.runs[shape]
        if past[0][0] is not cache[0][0]:
            for old, new in zip(cache, past, strict=True):
                for slots, values in zip(old, new, strict=True):
                    slots.copy_(values)
        return self.run(given), cache


class Graph:
    """A step recorded as a CUDA graph. On a CPU, which has none, it computes with the same buffers, for the tests."""

    def __init__(self, step, given, cache):
        self.given = [x.clone() for x in given]
        again = functools.partial(step, *self.given, cache)
        if not given[0].is_cuda:
            self.logits, _ = again()
            self.replay = lambda: self.logits.copy_(again()[0])
            return
        beside = torch.cuda.Stream()  # libraries make their workspaces in a first run, which is not to be recorded
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                again()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # JAX has threads of its own
            self.logits, _ = again()
        self.replay = graph.replay

    def __call__(self, given):
        for buffer, values in zip(self.given, given, strict=True):
            buffer.copy_(values)
        self.replay()
        return self.logits.clone()  # the next replay writes there


class Compiled:
    """A step through torch.compile(mode="reduce-overhead"): fused kernels, recorded as CUDA graphs.

    PyTorch goes without graphs, with a warning, where a step writes to a tensor that might move: the cache is marked.
    """

    def __init__(self, backend, step, given, cache):
        for x in (x for pair in cache for x in pair):
            torch._dynamo.mark_static_address(x)
        mode = "reduce-overhead" if backend == "inductor" else None
        self.step = torch.compile(step, fullgraph=True, dynamic=False, backend=backend, mode=mode)
        self.cache = cache

    def __call__(self, given):
        torch.compiler.cudagraph_mark_step_begin()  # the logits before are no longer read
        return self.step(*given, self.cache)[0].clone()
