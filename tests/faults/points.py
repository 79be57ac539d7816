"""The failpoints of the server, read from its source, so that a new one cannot be forgotten."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from server.runs.state import TRANSITIONS

SERVER = Path(__file__).parents[2] / "server"
OF_A_MOVE = 'f"run.{to}"'


def failpoints_in(folder: Path = SERVER) -> list[str]:
    """The names that `failpoints.hit` is called with, in order."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py"))
    return sorted({name for tree in trees for name in _hit(tree)})


def _hit(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.hit":
            yield from _names(node.args[0])


def _names(argument: ast.expr) -> Iterator[str]:
    """A name, or one for each state that a run can be moved to."""
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
    elif ast.unparse(argument) == ast.unparse(ast.parse(OF_A_MOVE)):
        yield from (f"run.{to}" for onward in TRANSITIONS.values() for to in onward)
    else:
        raise AssertionError(f"the names of {ast.unparse(argument)} are not known here")
