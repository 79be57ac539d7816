"""Documents made from nothing: of each format, honest and hostile."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from struct import pack
from zipfile import ZIP_DEFLATED, ZipFile

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
SLIDES = "http://schemas.openxmlformats.org/presentationml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_NAMES = (
    f'xmlns:w="{WORD}" xmlns:p="{SLIDES}" xmlns:a="{DRAWING}" xmlns:m="{MATH}" xmlns:r="{LINKS}"'
)


def pdf(pages: Iterable[str | bytes], *, more: Sequence[bytes] = (), trailer: bytes = b"") -> bytes:
    """One page a text, line by line in Helvetica, or a page with this content stream.

    `more` are objects; the first of them has the number 4.
    """
    contents = [_shown(page) if isinstance(page, str) else page for page in pages]
    first = 4 + len(more)
    kids = b" ".join(b"%d 0 R" % (first + 2 * number) for number in range(len(contents)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(contents)),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        *more,
    ]
    for content in contents:
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents %d 0 R"
            b"/Resources<</Font<</F1 3 0 R>>/XObject<</X 4 0 R>>>>>>" % (len(objects) + 2)
        )
        objects.append(stream(content))
    return numbered(objects, trailer)


def form(label: str, *fields: bytes, more: Sequence[bytes] = ()) -> bytes:
    """A page with fields that have these entries; `more` are objects that follow theirs."""
    widget = b"<</Type/Annot/Subtype/Widget/Rect[100 600 300 620]%s>>"
    listed = b"[%s]" % b" ".join(b"%d 0 R" % (4 + number) for number in range(len(fields)))
    made = pdf([label], more=[*(widget % field for field in fields), *more])
    made = made.replace(b"/Type/Catalog", b"/Type/Catalog/AcroForm<</Fields%s>>" % listed)
    return made.replace(b"/MediaBox", b"/Annots%s/MediaBox" % listed)


def numbered(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """A PDF file of these objects, the first of which is its catalog."""
    body = bytearray(b"%PDF-1.7\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(b"%010d 00000 n \n" % len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"0000000000 65535 f \n" + b"".join(places)
    end = b"xref\n0 %d\n%strailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF"
    size = len(objects) + 1
    return bytes(body) + end % (size, table, size, trailer, len(body))


def stream(content: bytes, entries: bytes = b"") -> bytes:
    """An object of a PDF that has content."""
    return b"<</Length %d%s>>stream\n%s\nendstream" % (len(content), entries, content)


def _shown(text: str) -> bytes:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").encode("cp1252")
    lines = b" ".join(b"(%s) Tj T*" % line for line in escaped.split(b"\n"))
    return b"BT /F1 12 Tf 14 TL 72 720 Td %s ET" % lines


def archive(parts: Mapping[str, str | bytes]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=1) as written:
        for name, content in parts.items():
            written.writestr(name, content)
    return file.getvalue()


def links(**targets: str) -> str:
    """Relationships, by kind; their ids are the targets."""
    kinds = ((kind.rstrip("0123456789"), target) for kind, target in targets.items())
    each = (
        f'<Relationship Id="{target}" Type="{LINKS}/{kind}" Target="{target}"/>'
        for kind, target in kinds
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{"".join(each)}</Relationships>'


def docx(body: str, *, styles: str = "", footnotes: str = "", prolog: str = "") -> bytes:
    """A Word document with this XML as its body, styles and footnotes."""
    document = f"<w:document {_NAMES}><w:body>{body}</w:body></w:document>"
    return archive(
        {
            "_rels/.rels": links(officeDocument="word/document.xml"),
            "word/_rels/document.xml.rels": links(styles="styles.xml", footnotes="footnotes.xml"),
            "word/styles.xml": f"<w:styles {_NAMES}>{styles}</w:styles>",
            "word/footnotes.xml": f"<w:footnotes {_NAMES}>{footnotes}</w:footnotes>",
            "word/document.xml": prolog + document,
        }
    )


def bomb(piece: bytes, times: int, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A Word document whose body is much larger than the file."""
    file = io.BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=1) as written:
        written.writestr("_rels/.rels", links(officeDocument="word/document.xml"))
        with written.open("word/document.xml", "w") as part:
            part.write(f"<w:document {_NAMES}>".encode() + before)
            for _ in range(times):
                part.write(piece)
            part.write(after + b"</w:document>")
    return file.getvalue()


def paragraph(text: str, properties: str = "") -> str:
    """One of Word's, in two runs."""
    half = len(text) // 2
    runs = "".join(
        f'<w:r><w:t xml:space="preserve">{part}</w:t></w:r>' for part in (text[:half], text[half:])
    )
    return f"<w:p><w:pPr>{properties}</w:pPr>{runs}</w:p>"


def pptx(slides: Sequence[str], notes: Mapping[int, str] | None = None, *, more: str = "") -> bytes:
    """A presentation; the file's names of slides are in the opposite order.

    `more` is XML that follows the list of slides.
    """
    names = [f"slides/slide{len(slides) - number}.xml" for number in range(len(slides))]
    order = "".join(f'<p:sldId id="{256 + n}" r:id="{name}"/>' for n, name in enumerate(names))
    parts = {
        "_rels/.rels": links(officeDocument="ppt/presentation.xml"),
        "ppt/_rels/presentation.xml.rels": links(
            **{f"slide{number}": name for number, name in enumerate(names)}
        ),
        "ppt/presentation.xml": f"<p:presentation {_NAMES}><p:sldIdLst>{order}</p:sldIdLst>"
        f"{more}</p:presentation>",
    }
    for name, shapes in zip(names, slides, strict=True):
        parts[f"ppt/{name}"] = f"<p:sld {_NAMES}>{shapes}</p:sld>"
    for number, text in (notes or {}).items():
        name = names[number].rpartition("/")[2]
        parts[f"ppt/slides/_rels/{name}.rels"] = links(notesSlide="../notesSlides/notes.xml")
        parts["ppt/notesSlides/notes.xml"] = f"<p:notes {_NAMES}>{text}</p:notes>"
    return archive(parts)


def shape(*paragraphs: str, place: str = "body") -> str:
    """One of PowerPoint's."""
    text = "".join(f"<a:p><a:r><a:t>{each}</a:t></a:r></a:p>" for each in paragraphs)
    return (
        f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{place}"/></p:nvPr></p:nvSpPr>'
        f"<p:txBody>{text}</p:txBody></p:sp>"
    )


def doc(text: str, *, note: str = "", flags: int = 0) -> bytes:
    """A Word document as they were before 2007, in two pieces, in reverse, one of each kind."""
    half = len(text) // 2
    first, second = text[:half].encode("cp1252"), (text[half:] + note).encode("utf-16-le")
    document = bytearray(0x200)
    document[0:2] = pack("<H", 0xA5EC)
    document[0x0A:0x0C] = pack("<H", 0x0200 | flags)
    document[0x4C:0x54] = pack("<II", len(text), len(note))
    second_at, first_at = len(document), len(document) + len(second)
    borders = pack("<III", 0, half, len(text) + len(note))
    pieces = [pack("<HIH", 0, place, 0) for place in (1 << 30 | first_at * 2, second_at)]
    listed = borders + b"".join(pieces)
    properties = b"\x01" + pack("<H", 5) + b"\x02\x02\x02\x02\x02"
    table = properties + b"\x02" + pack("<I", len(listed)) + listed
    document[0x01A2:0x01AA] = pack("<II", 0, len(table))
    return container({"WordDocument": bytes(document) + second + first, "1Table": table})


def container(streams: Mapping[str, bytes]) -> bytes:
    """An OLE file: sector 0 tells which follow each other, 1 what streams there are."""
    free, end, table = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
    chain, entries, data = [table, end], [_entry("Root Entry", 5, end, 0, child=1)], b""
    for number, (name, content) in enumerate(streams.items(), 1):
        padded = content.ljust(-(-max(len(content), 4096) // 512) * 512, b"\0")
        after = number + 1 if number < len(streams) else free
        entries.append(_entry(name, 2, len(chain), len(padded), after=after))
        chain += [*range(len(chain) + 1, len(chain) + len(padded) // 512), end]
        data += padded
    chain += [free] * (128 - len(chain))
    assert len(chain) == 128, "one sector tells of 64 KiB"
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6)
    head += bytes(6) + pack("<IIIIIIIII", 0, 1, 1, 0, 4096, end, 0, end, 0)
    head += pack("<I", 0) + pack("<I", free) * 108
    return head + pack("<128I", *chain) + b"".join(entries).ljust(512, b"\0") + data


def _entry(
    name: str, kind: int, start: int, size: int, *, child: int = 0xFFFFFFFF, after: int = 0xFFFFFFFF
) -> bytes:
    spelled = (name + "\0").encode("utf-16-le")
    tree = pack("<BBIII", kind, 1, 0xFFFFFFFF, after, child)
    return (
        spelled.ljust(64, b"\0")
        + pack("<H", len(spelled))
        + tree
        + bytes(36)
        + pack("<IQ", start, size)
    )


def deflated(piece: bytes, times: int) -> bytes:
    """A piece so many times, deflated, and that deflated twice again."""
    inner = zlib.compressobj(1)
    data = b"".join(inner.compress(piece) for _ in range(times)) + inner.flush()
    return zlib.compress(zlib.compress(data))
