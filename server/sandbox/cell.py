"""A cell's text as Python can run it: what a notebook takes beside Python is made Python.

Runs inside the session. Imports nothing but the standard library.
"""

from __future__ import annotations

import ast
import importlib
import re
from types import CodeType
from typing import Any, Final

from server.sandbox.places import Places, placed

_MAGIC: Final = re.compile(r"(?P<indent>\s*)(?:%%?(?P<name>[a-z]\w*)|!(?!=))(?P<rest>.*)")
_IGNORED: Final = frozenset(
    {"autoreload", "capture", "config", "load_ext", "matplotlib", "reload_ext"}
)
_IN_FRONT: Final = "time"  # of code that does without
_INSTALLER: Final = re.compile(r"(?:\S*python[\d.]*\s+-m\s+)?(?:pip3?|conda|mamba|uv|apt(-get)?)\b")
_NO_MAGIC: Final = (
    "Of IPython there are only lines like %matplotlib inline, which do nothing, and !command. "
    "Nothing of this code was run: write it in plain Python."
)
_NO_PACKAGES: Final = (
    "No packages are installed here, and none can be: there is Python's standard library alone."
)


def compiled(text: str, name: str, places: Places) -> list[CodeType]:
    """All but the last expression, and then this one, if its value is to be shown.

    What awaits something is the code of a coroutine. Raises SyntaxError, ValueError.
    """
    lines = text.split("\n")
    tree = _parsed(lines, name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = placed(node.value, places)
    shown = []
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not _is_muted(lines):
        last = tree.body.pop()
        assert isinstance(last, ast.Expr), "it was looked at"
        shown = [_code_of(ast.Expression(last.value), name)]
    return [_code_of(tree, name), *shown]


def packages() -> str:
    """What code can import, for whoever looks for more."""
    metadata: Any = importlib.import_module("importlib.metadata")
    names = sorted({found.name for found in metadata.distributions() if found.name}, key=str.lower)
    if not names:
        return _NO_PACKAGES
    return f"Nothing can be installed here. There are {', '.join(names)}."


def _code_of(tree: ast.Module | ast.Expression, name: str) -> CodeType:
    mode = "exec" if isinstance(tree, ast.Module) else "eval"
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(tree, name, mode, flags, dont_inherit=True)
    return code


def _is_muted(lines: list[str]) -> bool:
    return "\n".join(lines).rstrip().endswith(";")


def _parsed(lines: list[str], name: str) -> ast.Module:
    """The program, with Python in place of IPython's lines. Raises SyntaxError, ValueError.

    Within texts and brackets a line may look like one, so only what is in the way is replaced.
    """
    while True:
        try:
            return ast.parse("\n".join(lines), name)
        except SyntaxError as error:
            above = range(min(error.lineno or 0, len(lines)) - 1, -1, -1)
            found = ((number, _MAGIC.match(lines[number])) for number in above)
            number, magic = next((each for each in found if each[1]), (0, None))
            plain = magic and _plain(magic)
            if plain is None:
                if magic is not None:
                    error.add_note(_NO_MAGIC)
                raise
            lines[number] = plain


def _plain(magic: re.Match[str]) -> str | None:
    """What stands for a line of IPython's; None: nothing does."""
    indent, name, rest = magic.group("indent", "name", "rest")
    if _INSTALLER.match((name or "") + rest):
        return f"{indent}print({packages()!r})"
    if name is None:
        return f"{indent}__import__('subprocess').run({rest!r}, shell=True);"
    if name in _IGNORED:
        return f"{indent}pass"
    return indent + (rest.strip() or "pass") if name == _IN_FRONT else None
