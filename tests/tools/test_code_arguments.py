"""Code out of the arguments of a call, as a model writes them."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.tools.code_arguments import CodeReader, code_in

PIECES = "\"\\/bfnrtu0dD8aA 9Fe{}:,code'\n\t\x00é😀"


def read(arguments: str, *ends: int) -> str:
    """What is read where the arguments come in pieces that end at these places."""
    reader = CodeReader()
    places = [0, *sorted(ends), len(arguments)]
    pieces = [arguments[a:b] for a, b in pairwise(places)]
    return "".join(reader.feed(piece) for piece in pieces) + reader.finish()


CASES = [
    ('{"code": "print(1)"}', "print(1)"),
    ('{"code":"a\\nb\\t\\"c\\" \\\\n \\/ \\b\\f\\r"}', 'a\nb\t"c" \\n / \b\f\r'),
    ('{"code": "\\u00e9 \\uD83D\\uDE00 é😀"}', "é 😀 é😀"),
    ('\n { "code" : "x" , "more": ["code", {"code": "y"}]} ', "x"),
    ('{"language": "py\\"", "timeout": -1.5e3, "safe": true, "code": "x"}', "x"),
    ('{"input": "x = 1"}', "x = 1"),
    ('{"code": ""}', ""),
]
WRONG = [
    ("print(1)\nprint(2)", "print(1)\nprint(2)"),
    (' \n"print(\\"1\\")"', 'print("1")'),
    ('"""A program."""\nprint(1)', '"""A program."""\nprint(1)'),
    ("{1: 2}[1]", "{1: 2}[1]"),
    ('{"a": 1}.get("a")', '{"a": 1}.get("a")'),
    ('{"code": "a\nb\tc"}', "a\nb\tc"),
    (r'{"code": "re.split(\d\x\é)"}', r"re.split(\d\x\é)"),
    ('{"code": "\\uD83D"}', "\ufffd"),
    ('{"code": "\\uD83D\\uD83D\\uDE00"}', "\ufffd😀"),
    ('{"code": "\\uDE00 \\uD83Dx \\uD83D\\n"}', "\ufffd \ufffdx \ufffd\n"),
    ('{"code": "\\u12", "b": 1}', "\\u12"),
    ('{"code": "\\uD83D\\u1x\\u\\n"}', "\ufffd\\u1x\\u\n"),
    ('{"code": "print(1)', "print(1)"),
    ('"', '"'),
]
NONE = ["", " ", "{}", '{"code": 5}', '{"code": ["a"]}', '{"query": "a"}', "{", '""', "[1]", "null"]


@pytest.mark.parametrize(("arguments", "code"), CASES)
def test_what_json_says(arguments: str, code: str) -> None:
    """The code is what any JSON parser finds, wherever the text is cut."""
    parsed = json.loads(arguments)
    assert parsed.get("code", parsed.get("input")) == code
    assert read(arguments, *range(len(arguments))) == code
    for place in range(len(arguments) + 1):
        assert read(arguments, place) == code


@pytest.mark.parametrize(("arguments", "code"), WRONG)
def test_what_was_meant(arguments: str, code: str) -> None:
    """Code without JSON around it, and JSON with what is no JSON in it, cut anywhere."""
    assert read(arguments, *range(len(arguments))) == code
    for place in range(len(arguments) + 1):
        assert read(arguments, place) == code


@pytest.mark.parametrize("second", ["code", "input"])
@pytest.mark.parametrize("first", ["code", "input"])
def test_the_first_of_two_keys(first: str, second: str) -> None:
    """It is told before the second comes, so the whole call has that one, too."""
    arguments = f'{{"timeout": 5, "{first}": "print(1)", "{second}": "x", "safe": true}}'
    for place in range(len(arguments) + 1):
        assert read(arguments, place) == "print(1)"


@pytest.mark.parametrize("arguments", NONE)
def test_no_code(arguments: str) -> None:
    """Other JSON is no code; a list, a number or a name may be Python, and is run."""
    wanted = arguments if arguments in ("[1]", "null", "{") else ""
    assert code_in(arguments).strip() == wanted


def test_it_is_told_as_it_comes() -> None:
    """Nothing is held back but the half of an escape."""
    reader = CodeReader()
    assert reader.feed('{"code": "pr') == "pr"
    assert reader.feed("int\\") == "int"
    assert reader.feed("n\\u00") == "\n"
    assert reader.feed('e9"') == "é"
    assert reader.feed(', "x": 1}') == reader.finish() == ""


@given(st.text(), st.lists(st.integers(0, 60), max_size=5))
def test_any_code(code: str, ends: list[int]) -> None:
    """What was written as JSON is read as it was, whether ASCII or not."""
    readable = code.encode("utf-8", "replace").decode()
    for ascii_only in (True, False):
        arguments = json.dumps({"code": readable}, ensure_ascii=ascii_only)
        assert read(arguments, *(min(end, len(arguments)) for end in ends)) == readable


@given(st.text(PIECES), st.lists(st.integers(0, 60), max_size=5), st.booleans())
def test_any_text(text: str, ends: list[int], in_object: bool) -> None:
    """Whatever a model writes is read the same in pieces and at once, and can be sent."""
    arguments = '{"code": "' + text if in_object else text
    whole = code_in(arguments)
    assert read(arguments, *(min(end, len(arguments)) for end in ends)) == whole
    whole.encode()
