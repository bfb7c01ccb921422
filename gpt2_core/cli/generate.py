"""gpt2 generate: continues a prompt, with the same text from either framework."""

from __future__ import annotations

import json

from .. import checkpoint
from ..tokenizer import GPT2Tokenizer
from .frameworks import FRAMEWORKS
from .source import hub_options


def add_to(commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("generate", help="continue a prompt", description=__doc__)
    parser.add_argument(
        "model", metavar="MODEL", help="a folder with a checkpoint and tokenizer, a hub id, or 'shakespeare'"
    )
    parser.add_argument("--revision", help="of a hub id: a branch, tag or commit")
    parser.add_argument("--prompt", default="", help="text to continue; default: none")
    parser.add_argument("--max-new-tokens", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("--do-sample", action="store_true", help="draw each token instead of taking the likeliest")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="default: %(default)s")
    parser.add_argument("--top-k", type=int, default=50, metavar="K", help="0 for all; default: %(default)s")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="of the draws; default: a fresh one")
    parser.add_argument("--dtype", help="float64, float32, bfloat16, float16 or auto; default: float32 or wider")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--framework", choices=list(FRAMEWORKS), default="torch", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(options) -> int:
    """Prints the prompt with its continuation."""
    hub = hub_options(options)
    with checkpoint.open(options.model, **hub):  # says at once what is wrong with it
        pass
    tokenizer = GPT2Tokenizer.from_pretrained(options.model, **hub)
    model = FRAMEWORKS[options.framework].model_class().from_pretrained(options.model, dtype=options.dtype, **hub)
    text, ids = continuation(
        model,
        tokenizer,
        options.prompt,
        seed=options.seed,
        do_sample=options.do_sample,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    print(json.dumps({"text": text, "ids": ids}) if options.json else text)
    return 0


def continuation(model, tokenizer: GPT2Tokenizer, prompt: str, **settings) -> tuple[str, list[int]]:
    """Returns the prompt with its continuation, as text and as ids."""
    prompt_ids = tokenizer.encode(prompt)
    ids = [int(i) for i in model.generate([prompt_ids], **settings)[0]]
    skipped = 0 if prompt_ids else 1  # the bos_token that an empty prompt starts from
    return tokenizer.decode(ids[skipped:], skip_special_tokens=True), ids
