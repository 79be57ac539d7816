"""The promises that users read are shown by tests that exist."""

from __future__ import annotations

import ast
import re

from tests.process import ROOT

PAGE = ROOT / "docs" / "promises.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def named_in(file: str) -> set[str]:
    """The names of a file's tests."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions)}


def test_each_promise_names_its_tests() -> None:
    """Every row ends in tests, and each of them is there."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise", "| ---"))]
    assert promises
    for row in promises:
        shown = NAMED.findall(row)
        assert shown, row
        assert {name for file, name in shown if name not in named_in(file)} == set(), row
