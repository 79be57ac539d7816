"""How formulas in documents become text."""

from __future__ import annotations

import pytest

from tests.search.conftest import Extract
from tests.search.documents import docx, pptx, shape


def math(name: str, *parts: str) -> str:
    """An element of a formula; what is no element is text."""
    texts = (part if part[:1] == "<" else f"<m:r><m:t>{part}</m:t></m:r>" for part in parts)
    return f"<m:{name}>{''.join(texts)}</m:{name}>"


def fraction(above: str, below: str) -> str:
    """One in a formula."""
    return math("f", math("fPr"), math("num", above), math("den", below))


def power(base: str, exponent: str) -> str:
    """One in a formula."""
    return math("sSup", math("sSupPr"), math("e", base), math("sup", exponent))


def brackets(text: str, properties: str = "<m:ctrlPr/>") -> str:
    """Some in a formula."""
    return math("d", math("dPr", properties), math("e", text))


def row(*cells: str) -> str:
    """One of a matrix."""
    return math("mr", *(math("e", cell) for cell in cells))


ROOT = math("rad", math("deg"), math("e", math("r", "<m:t>b</m:t>") + power("c", "2")))
SUM = math(
    "nary",
    math("naryPr", '<m:chr m:val="∑"/>'),
    math("sub", "i=1"),
    math("sup", "n"),
    math("e", math("sSub", math("e", "a"), math("sub", "i"))),
)
FORMULAS = [
    (fraction("1", "2"), "1/2"),
    (fraction("10", "2x"), "10/(2x)"),
    (math("r", "<m:t>2</m:t>") + fraction("1", "2"), "2 1/2"),
    (fraction(fraction("1", "2"), "x+1"), "(1/2)/(x+1)"),
    (power("x", "2"), "x^2"),
    (power("10", "-6") + math("r", "<m:t>5</m:t>"), "10^(-6)5"),
    (power("x", "2") + math("r", "<m:t>y</m:t>"), "x^2 y"),
    (power(brackets("a+b"), "2"), "(a+b)^2"),
    (power(fraction("1", "2"), "n"), "(1/2)^n"),
    (brackets("x", '<m:begChr m:val="|"/><m:endChr m:val="|"/>'), "|x|"),
    (ROOT, "√(b c^2)"),
    (SUM, "∑_(i=1)^n a_i"),
    (power(brackets(math("m", row("1", "0"), row("0", "1"))), "2"), "(1 0 0 1)^2"),
]


@pytest.mark.parametrize(("formula", "line"), FORMULAS, ids=[line for _, line in FORMULAS])
async def test_a_formula_is_a_line(extract: Extract, formula: str, line: str) -> None:
    """Of the same numbers and names, with signs for where they stand."""
    within = f"<w:r><w:t>So </w:t></w:r>{math('oMath', formula)}<w:r><w:t>.</w:t></w:r>"
    assert (await extract("a.docx", docx(f"<w:p>{within}</w:p>"))).text == f"So {line}."


async def test_formulas_are_read_where_they_stand(extract: Extract) -> None:
    """Apart from a number before them, alone, as an item, or on a slide."""
    half = math("oMath", fraction("1", "2"))
    item = f"<w:p><w:pPr><w:numPr/></w:pPr>{half}</w:p>"
    number = f"<w:p><w:r><w:t>About 2</w:t></w:r>{half}<w:r><w:br/></w:r>{half}</w:p>"
    document = await extract("a.docx", docx(number + item))
    assert document.text == "About 2 1/2\n1/2\n\n- 1/2"
    slide = shape("x").replace(
        "<a:r>", f'<a14:m xmlns:a14="x">{math("oMathPara", half)}</a14:m><a:r>'
    )
    assert (await extract("a.pptx", pptx([slide]))).text == "1/2x"
