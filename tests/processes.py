"""Run by test_training: DistributedDataParallel in two gloo processes averages to the gradients of the joined batch."""

import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.heads import CONFIG, TARGETS, labelled


def batch(head):
    inputs, targets = labelled(head)
    return {name: torch.as_tensor(x) for name, x in {**inputs, **targets}.items()}


def gradients(model, tensors):
    out = model(**tensors)
    sum(out[name] for name in ("loss", "mc_loss") if name in out).backward()
    return {name.removeprefix("module."): weight.grad for name, weight in model.named_parameters()}


def run(rank, port):
    import gpt2_torch
    from gpt2_core.weights import ARCHITECTURES

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for head in TARGETS:
        tensors = batch(head)
        half = {name: x[rank * 4 : rank * 4 + 4] for name, x in tensors.items()}
        cls = getattr(gpt2_torch, ARCHITECTURES[head])
        model = torch.nn.parallel.DistributedDataParallel(cls(CONFIG, seed=rank).eval())  # rank 0's weights win
        ours, expected = gradients(model, half), gradients(cls(CONFIG, seed=0).eval(), tensors)
        assert ours.keys() == expected.keys()
        for name, x in expected.items():
            torch.testing.assert_close(ours[name], x, rtol=1e-5, atol=1e-7)
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(run, (port,), nprocs=2)
    print("equal")
