"""The ways of a kind of processor, used on any."""

import torch

from gpt2_torch import multiply
from gpt2_torch.inference import layouts

# kind -> the types of 16 bits that it has no instructions for
LACKING = {
    None: (),
    "AMD": (torch.float16,),
    "older AMD": (torch.bfloat16, torch.float16),
    "Intel with AMX": (),
}


def pretended(kind, monkeypatch):
    """Has matrices multiplied as on a kind of processor; None: as on one that nothing is known of."""
    for module in (layouts, multiply):
        monkeypatch.setattr(module, "processor", lambda: kind)
        monkeypatch.setattr(module, "lacks", lambda dtype: dtype in LACKING[kind])
