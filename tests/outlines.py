"""The outline of a source file: its classes and functions, with their arguments, local names and shape comments."""

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

SHAPE = re.compile(r"# \(?(each )?\([A-Z0-9].*")


class Function(NamedTuple):
    """What of a function its twin must share."""

    name: str
    arguments: tuple[str, ...]
    local_names: frozenset[str]
    shapes: tuple[str, ...]


def outline(path: Path) -> dict[str, Function]:
    """Returns qualified name -> Function of every function in a file, in order, names as the PyTorch tree has them."""
    text = path.read_text(encoding="utf-8")
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and SHAPE.match(token.string)
    }
    found: dict[str, Function] = {}
    _visit(ast.parse(text), "", comments, found)
    return found


def common_name(name: str) -> str:
    """Returns a name as both trees would have it: TFGPT2Model.call is GPT2Model.forward."""
    name = re.sub(r"\bTFGPT2", "GPT2", name)
    return re.sub(r"\bcall$", "forward", name)


def classes(path: Path) -> list[str]:
    """Returns the classes of a file, in order, under their common names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [common_name(node.name) for node in tree.body if isinstance(node, ast.ClassDef)]


def _visit(node, prefix: str, comments: dict[int, str], found: dict[str, Function]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            _visit(child, f"{prefix}{child.name}.", comments, found)
        elif isinstance(child, ast.FunctionDef):
            name = common_name(prefix + child.name)
            shapes = tuple(comments[line] for line in range(child.lineno, child.end_lineno + 1) if line in comments)
            found[name] = Function(name, _arguments(child.args), _local_names(child), shapes)


def _arguments(args: ast.arguments) -> tuple[str, ...]:
    names = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    return tuple(names + [arg.arg for arg in (args.vararg, args.kwarg) if arg])


def _local_names(function: ast.FunctionDef) -> frozenset[str]:
    return frozenset(
        node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
