"""Trains the small Shakespeare model that ships in gpt2_core/assets/shakespeare; the defaults are its recipe.

    python recipes/shakespeare/train.py

Needs torch (2.9 for Muon), tokenizers and tqdm; downloads 5 MB once. The same seed, threads, machine and versions give
the same file, bit for bit.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":  # read when torch is loaded: beside other work, threads that spin while they wait cost most
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(Path(__file__).parent)) if path not in sys.path]

import data  # noqa: E402
from evaluate import model_bits  # noqa: E402

from gpt2_core.tokenizer.training import train_vocabulary  # noqa: E402
from gpt2_torch import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer  # noqa: E402

MOMENTS = (0.9, 0.95)


def encode(tokenizer: GPT2Tokenizer, texts: Iterable[str]) -> torch.Tensor:
    """Returns the ids of all texts in one row, <|endoftext|> before each and at the end."""
    ids = [tokenizer.bos_token_id]
    for text in texts:
        ids += [*tokenizer.encode(text), tokenizer.eos_token_id]
    return torch.tensor(ids)


def batches(ids: torch.Tensor, batch: int, length: int) -> Iterator[torch.Tensor]:
    """Yields (batch, length + 1) windows without end: each pass cuts the text at another place and shuffles it."""
    if len(ids) < length * (batch + 1) + 1:
        raise ValueError(f"{len(ids)} tokens of text are too few for batches of {batch} x {length}")
    offsets = torch.arange(length + 1)
    while True:
        starts = torch.arange(int(torch.randint(length, ())), len(ids) - length, length)
        starts = starts[torch.randperm(len(starts))]
        for rows in starts.split(batch):
            if len(rows) == batch:
                yield ids[rows[:, None] + offsets]


def optimizers(model, *, lr: float, weight_decay: float, muon: bool) -> list[torch.optim.Optimizer]:
    """Returns the optimizers of a model's weights: matrices decay, gains and biases do not.

    muon: the blocks' matrices go to Muon, at a step size that is comparable with AdamW's.
    """
    named = dict(model.named_parameters())
    hidden = [w for name, w in named.items() if w.ndim == 2 and ".h." in name and muon]
    rest = [w for w in named.values() if not any(w is other for other in hidden)]
    groups = [
        {"params": [w for w in rest if w.ndim == 2], "weight_decay": weight_decay},
        {"params": [w for w in rest if w.ndim != 2], "weight_decay": 0.0},
    ]
    result = [torch.optim.AdamW(groups, lr=lr, betas=MOMENTS, fused=True)]
    if hidden:
        result.append(torch.optim.Muon(hidden, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    return result


def train(model, ids: torch.Tensor, args: argparse.Namespace, characters_per_token: float) -> int:
    """Trains `model` in place on the row `ids` and returns the number of steps made.

    The first `args.short` of the training sees windows of half n_positions, twice as many a step: attention costs
    less, and the rest of the training is enough to learn the longer context.
    """
    model.train()
    optims = optimizers(model, lr=args.lr, weight_decay=args.weight_decay, muon=args.muon)
    length = model.config.n_positions
    short, long = batches(ids, 2 * args.batch, length // 2), batches(ids, args.batch, length)
    began, mean = time.monotonic(), None
    with tqdm(total=args.steps, unit="step", disable=args.quiet, mininterval=1.0, dynamic_ncols=True) as bar:
        for step in range(args.steps):
            progress = step / args.steps
            if args.minutes:
                progress = max(progress, (time.monotonic() - began) / 60 / args.minutes)
                if progress >= 1:
                    return step
            rows = next(short if progress < args.short else long)
            loss = train_step(model, rows, optims, args.lr * rate(progress, 1 / args.steps), args.bf16)
            mean = loss if mean is None else 0.98 * mean + 0.02 * loss
            speed = (step + 1) * args.batch * length / (time.monotonic() - began)
            bar.set_postfix_str(
                f"loss {mean:.3f}, {mean / math.log(2) / characters_per_token:.3f} bits/char, {speed:,.0f} tokens/s",
                refresh=False,
            )
            bar.update()
    return args.steps


def rate(progress: float, first: float, warmup: float = 0.03) -> float:
    """Returns the learning rate as a part of its peak: linear up from `first`, then linear down to 0 at progress 1."""
    return min((progress + first) / warmup, (1 - progress) / (1 - warmup))


def train_step(model, rows: torch.Tensor, optims, lr: float, bf16: bool) -> float:
    """Makes one step at learning rate `lr` and returns the loss before it, in nats per token.

    Windows shorter than n_positions are put anywhere among the positions, so that all of them are learnt.
    """
    inputs, labels = rows[:, :-1], rows[:, 1:]
    B, T = inputs.shape
    positions = torch.randint(model.config.n_positions - T + 1, (B, 1)) + torch.arange(T)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(inputs, position_ids=positions, use_cache=False).logits  # (B, T, V)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optims:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options; their defaults are the recipe."""
    parser = argparse.ArgumentParser(
        description="Train the small Shakespeare model.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=ROOT / "build" / "shakespeare", help="folder for the model and its tokenizer")
    add("--cache", type=Path, default=Path.home() / ".cache" / "gpt2-shakespeare", help="where the download is kept")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1, help="torch threads; the result depends on it in the last bits")
    add("--steps", type=int, default=2200)
    add("--minutes", type=float, help="stop after this time, the schedule fitted to it; then a run is not repeatable")
    add("--batch", type=int, default=16, help="windows a step")
    add("--short", type=float, default=0.7, help="part of the training with windows of half the length")
    add("--lr", type=float, default=4e-3, help="peak learning rate")
    add("--weight-decay", type=float, default=0.1)
    add("--dropout", type=float, default=0.1, help="of embeddings and residual branches")
    add("--muon", action=argparse.BooleanOptionalAction, default=True, help="Muon for the blocks' matrices")
    add("--bf16", action=argparse.BooleanOptionalAction, default=True, help="multiply in bfloat16")
    add("--vocab-size", type=int, default=2048)
    add("--n-layer", type=int, default=8)
    add("--n-embd", type=int, default=188)
    add("--n-head", type=int, default=4)
    add("--n-positions", type=int, default=256)
    add("--folio", action=argparse.BooleanOptionalAction, default=False, help="learn First Folio spellings too")
    add(
        "--validate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep the validation works out of training, and measure on them instead of the held-out ones",
    )
    add("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(arguments)


def new_model(args: argparse.Namespace, tokenizer: GPT2Tokenizer) -> GPT2LMHeadModel:
    """Returns an untrained model of the shape that the options ask for."""
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=args.n_positions,
        n_embd=args.n_embd,
        n_layer=args.n_layer,
        n_head=args.n_head,
        resid_pdrop=args.dropout,
        embd_pdrop=args.dropout,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    return GPT2LMHeadModel(config, seed=args.seed)


def run(args: argparse.Namespace, texts: Mapping[str, str]) -> GPT2LMHeadModel:
    """Returns the trained model, its weights in float16, saved with its tokenizer in `args.out`."""
    parts = data.split(texts, folio=args.folio, validation=data.VALIDATION if args.validate else ())
    modern = [text for name, text in parts.train.items() if not name.endswith(data.FOLIO)]
    tokenizer = GPT2Tokenizer(train_vocabulary(modern, args.vocab_size))
    ids = encode(tokenizer, parts.train.values())
    characters = sum(map(len, parts.train.values()))
    model = new_model(args, tokenizer)
    print(f"{characters:,} characters, {len(ids):,} tokens, {model.num_parameters():,} weights", flush=True)

    began = time.monotonic()
    steps = train(model, ids, args, characters / len(ids))
    print(f"{steps} steps in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    measured = parts.validation or parts.held_out
    bits = model_bits(model, tokenizer, measured.values())
    model.half().save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    stored = model_bits(GPT2LMHeadModel.from_pretrained(args.out), tokenizer, measured.values())
    print(
        f"{', '.join(map(data.work, measured))}: {bits:.4f} bits per character, {stored:.4f} as stored in {args.out}",
        flush=True,
    )
    return model


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    run(args, data.read_texts(data.fetch(args.cache)))


if __name__ == "__main__":
    main()
