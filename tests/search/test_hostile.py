"""Documents that are made to do harm: each costs one child, and is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from server.config import ExtractionSettings
from server.search import extraction
from server.search.extracting import NO_TEXT
from server.search.extraction import Document, Extractor, NotExtracted
from tests.search.conftest import Extract
from tests.search.documents import (
    archive,
    bomb,
    container,
    deflated,
    doc,
    docx,
    form,
    links,
    numbered,
    paragraph,
    pdf,
    pptx,
    shape,
    stream,
)

MEGABYTE = 2**20
ENTITIES = [
    f'<!ENTITY {name} "{f"&{before};" * 10}">'
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
]
LAUGHS = f'<!DOCTYPE d [<!ENTITY a "ha">{"".join(ENTITIES)}]>'
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256))
ENCRYPTED_PDF = pdf(
    ["secret"],
    more=[b"<</Filter/Standard/V 1/R 2/P -4/O(%s)/U(%s)>>" % (b"o" * 32, b"u" * 32)],
    trailer=b"/Encrypt 4 0 R/ID[(id)(id)]",
)


def locked(content: bytes) -> bytes:
    """A zip archive whose entries say that they are encrypted."""
    locked = bytearray(content)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = locked.find(signature)
        while at >= 0:
            locked[at + flags] |= 1
            at = locked.find(signature, at + 4)
    return bytes(locked)


REFUSED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "nothing": ("a.txt", lambda: b"", NO_TEXT),
    "spaces": ("a.md", lambda: b" \n\t" * 100, NO_TEXT),
    "a PDF without text": ("a.pdf", lambda: pdf(["", ""]), NO_TEXT),
    "a Word document without text": ("a.docx", lambda: docx(paragraph("")), NO_TEXT),
    "an encrypted PDF": ("a.pdf", lambda: ENCRYPTED_PDF, "The file is encrypted."),
    "an encrypted Word document": (
        "a.docx",
        lambda: container({"EncryptedPackage": b"x", "EncryptionInfo": b"x"}),
        "The file is encrypted.",
    ),
    "an encrypted archive": (
        "a.docx",
        lambda: locked(docx(paragraph("secret"))),
        "The file is encrypted.",
    ),
    "an old encrypted Word document": (
        "a.doc",
        lambda: doc("secret", flags=0x100),
        "The file is encrypted.",
    ),
    "a picture as text": ("a.txt", lambda: PNG, "The file is not text, as its name says."),
    "a program as text": (
        "a.py",
        lambda: b"\x7fELF" + bytes(100),
        "The file is not text, as its name says.",
    ),
    "a PDF as text": ("a.md", lambda: pdf(["a"]), "another format than its name says"),
    "a PDF as a Word document": ("a.docx", lambda: pdf(["a"]), "or it is broken."),
    "a Word document as a PDF": ("a.pdf", lambda: docx(paragraph("a")), "no PDF, as its name"),
    "slides as a Word document": (
        "a.docx",
        lambda: pptx([shape("a")]),
        "another format than its name says",
    ),
    "an archive as slides": ("a.pptx", lambda: archive({"a": "b"}), "another format than its"),
    "text as an old Word document": ("a.doc", lambda: b"text", "no Word document, as its name"),
    "an old Excel sheet as a Word document": (
        "a.doc",
        lambda: container({"Workbook": b"x"}),
        "no Word document, as its name",
    ),
    "entities that multiply": (
        "a.docx",
        lambda: docx(paragraph("&j;"), prolog=LAUGHS),
        "it declares a document type",
    ),
    "an external entity": (
        "a.docx",
        lambda: docx(paragraph("&x;"), prolog='<!DOCTYPE d [<!ENTITY x SYSTEM "/etc/passwd">]>'),
        "it declares a document type",
    ),
    "a missing part": (
        "a.docx",
        lambda: archive({"_rels/.rels": links(officeDocument="word/document.xml")}),
        "a part of it is missing",
    ),
    "a link out of the archive": (
        "a.docx",
        lambda: archive({"_rels/.rels": links(officeDocument="../../../etc/passwd")}),
        "another format than its name says",
    ),
    "an archive of text": (
        "a.docx",
        lambda: bomb(b"a" * MEGABYTE, 200, before=b"<w:p><w:t>", after=b"</w:t></w:p>"),
        "more than 1,048,576 bytes of text",
    ),
    "an archive of spaces": ("a.docx", lambda: bomb(b" " * MEGABYTE, 257), "too much in it"),
    "text in characters of three bytes": (
        "a.txt",
        lambda: ("日" * MEGABYTE).encode("utf-16"),
        "more than 1,048,576 bytes of text",
    ),
    "more text than could be": ("a.c", lambda: b"a" * (2 * MEGABYTE + 1), "more than 1,048,576"),
    "a PDF of pages that contain themselves": (
        "a.pdf",
        lambda: numbered(
            [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9>>"]
        ),
        "",
    ),
    "a PDF of itself without end": (
        "a.pdf",
        lambda: pdf(
            [b"/X Do"],
            more=[
                stream(
                    b"/X Do /X Do",
                    b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 4 0 R>>>>",
                )
            ],
        ),
        "",
    ),
    "a PDF that inflates thrice": (
        "a.pdf",
        lambda: numbered(
            [
                b"<</Type/Catalog/Pages 2 0 R>>",
                b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
                b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>",
                stream(
                    deflated(b" " * MEGABYTE, 300),
                    b"/Filter[/FlateDecode/FlateDecode/FlateDecode]",
                ),
            ]
        ),
        "",
    ),
    "a PDF with a picture of 10^12 points": (
        "a.pdf",
        lambda: pdf(
            [b"/X Do BI /W 1000000 /H 1000000 /CS /RGB /BPC 8 ID x EI"],
            more=[
                stream(
                    b"x",
                    b"/Type/XObject/Subtype/Image/Width 1000000/Height 1000000"
                    b"/ColorSpace/DeviceRGB/BitsPerComponent 16",
                )
            ],
        ),
        NO_TEXT,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_read_is_refused_with_a_reason(extract: Extract, name: str) -> None:
    """Nothing that is read from such a file is taken for its text."""
    filename, made, reason = REFUSED[name]
    with pytest.raises(NotExtracted) as refused:
        await extract(filename, made())
    assert refused.value.code == "invalid_file"
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("a.html", "<div>" * 200_000 + "found"),
        ("a.html", "<a " + "b='" * 100_000 + ">found"),
        ("a.html", "<!--" * 20_000 + "-->found"),
        ("a.html", "&#xD800;&#0;&#x110000;found"),
        ("a.json", "[" * 100_000 + '"found"' + "]" * 100_000),
        ("a.md", "[" * 500_000 + "found"),
    ],
)
async def test_depth_does_no_harm(extract: Extract, filename: str, content: str) -> None:
    """Elements in elements are text like any other, and so is what was never well formed."""
    assert "found" in (await extract(filename, content.encode())).text


async def test_elements_in_elements_of_a_word_document(extract: Extract) -> None:
    """No tree is built of them."""
    body = "<w:sdt>" * 300_000 + paragraph("found") + "</w:sdt>" * 300_000
    assert (await extract("a.docx", docx(body))).text == "found"


async def test_fields_that_are_their_own_parents(extract: Extract) -> None:
    """They have no value that anybody could find."""
    fields = (b"/FT/Tx/T(a)/Kids[4 0 R]/Parent 4 0 R", b"/Parent 6 0 R", b"/Parent 5 0 R")
    assert (await extract("a.pdf", form("found", *fields))).text == "found"


async def test_ten_thousand_pages_are_read(extract: Extract) -> None:
    """A long document is no hostile one."""
    document = await extract("a.pdf", pdf(f"This is page {number}." for number in range(10_000)))
    assert len(document.pages) == 10_000
    assert document.text[document.pages[-1] :] == "This is page 9999."


@pytest.mark.parametrize(
    "made",
    [
        lambda: bomb(b"<w:p/>" * MEGABYTE, 40),
        lambda: bomb(b"a" * MEGABYTE, 200, before=b"<!--", after=b"-->"),
    ],
    ids=["elements", "a comment"],
)
async def test_who_takes_too_long_is_ended(
    tmp_path: Path, made: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the processor time that it takes; the next document is read as if nothing was."""
    monkeypatch.setattr(extraction, "_PATIENCE", 30)  # others may work beside the test
    extractor = Extractor(ExtractionSettings(memory=2**29, seconds=1))
    path = tmp_path / "blob"
    path.write_bytes(made())
    with pytest.raises(NotExtracted, match="more than 1 seconds to read") as refused:
        await extractor.extract(path, "a.docx")
    assert refused.value.code == "invalid_file"
    path.write_bytes(b"Hello")
    assert await extractor.extract(path, "a.txt") == Document("Hello")


@pytest.mark.parametrize("extension", ["pdf", "docx", "pptx", "doc", "html"])
async def test_broken_documents_are_read_or_refused(extract: Extract, extension: str) -> None:
    """Whatever bytes were lost or changed; never is it the server's fault."""
    whole = {
        "pdf": form("One", b"/FT/Tx/T(a)/V(Two)"),
        "docx": docx(paragraph("One")),
        "pptx": pptx([shape("One")]),
        "doc": doc("One"),
        "html": b"<p>One<table><tr><td>Two",
    }[extension]
    dice = random.Random(extension)
    for _ in range(6):
        broken = bytearray(whole[: dice.randrange(len(whole) // 2, len(whole) + 1)])
        for _ in range(dice.randrange(8)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        assert await outcome(extract, f"a.{extension}", bytes(broken)) in {"read", "invalid_file"}


async def outcome(extract: Extract, filename: str, content: bytes) -> str:
    """What becomes of a file."""
    try:
        await extract(filename, content)
    except NotExtracted as refused:
        return refused.code
    return "read"
