"""What is read of each kind of document."""

from __future__ import annotations

import json

import pytest

from server.search.extraction import NotExtracted, supported, unsupported
from tests.search.conftest import Extract
from tests.search.documents import doc, docx, form, paragraph, pdf, pptx, shape, stream

GREETING = "Grüße aus Köln – „schön“, 日本語, 😀"


@pytest.mark.parametrize(
    "extension",
    [
        "c",
        "cpp",
        "cs",
        "css",
        "go",
        "java",
        "js",
        "md",
        "php",
        "py",
        "rb",
        "sh",
        "tex",
        "ts",
        "txt",
    ],
)
async def test_text_is_read_as_it_stands(extract: Extract, extension: str) -> None:
    """With line ends of one kind, whatever language it is in; there are no pages."""
    document = await extract(f"A.{extension.upper()}", f"\ta\r\n\rb  {GREETING}\n".encode())
    assert document.text == f"\ta\n\nb  {GREETING}\n"
    assert document.pages == ()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GREETING, "utf-8-sig"),
        (GREETING, "utf-16"),
        (GREETING, "utf-16-le"),
        (GREETING, "utf-16-be"),
        (GREETING, "utf-32"),
        ("Die Größe der Übung wächst für alle Schüler.", "cp1252"),
        ("Zażółć gęślą jaźń. Książka leży na półce.", "iso8859-2"),
        ("Привет, это простой текст на русском языке.", "cp1251"),
        ("Привет, это простой текст на русском языке.", "koi8-r"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "shift_jis"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "iso2022-jp"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n", "utf-16-le"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n", "utf-16-be"),
        ("我们今天讨论服务器的设计,以及怎样搜索文件。", "gb18030"),
        ("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.", "euc-kr"),
    ],
)
async def test_encodings_are_found_out(extract: Extract, text: str, encoding: str) -> None:
    """Marked ones and unmarked ones, old ones by how their language looks."""
    assert (await extract("a.txt", text.encode(encoding))).text == text


@pytest.mark.parametrize("lines", [1_000, 10_000])
@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Die Größe der Übung wächst für alle Schüler.", "cp1252"),
        ("Привет, это простой текст на русском языке.", "cp1251"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "shift_jis"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "iso2022-jp"),
        ("\x1b[31mGrüße\x1b[0m", "utf-8"),
        (GREETING, "utf-16-le"),
    ],
)
async def test_encodings_are_found_out_also_late(
    extract: Extract, text: str, encoding: str, lines: int
) -> None:
    """Behind as much English as there may be."""
    whole = "Nothing to be told about here.\n" * lines + text
    assert (await extract("a.txt", whole.encode(encoding))).text == whole


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
async def test_letters_are_letters_far_behind_a_colour(extract: Extract, encoding: str) -> None:
    """An escape for a terminal says nothing of the encoding."""
    whole = "\x1b[1mNothing\x1b[0m " + "to be told about here.\n" * 10_000 + "Schöne Grüße"
    assert (await extract("a.txt", whole.encode(encoding))).text == whole


async def test_letters_are_letters_among_colours(extract: Extract) -> None:
    """As in the log of a program that colours each line."""
    log = "\x1b[32mINFO\x1b[0m Der Käse über dem Öl wird geprüft\n" * 20
    assert (await extract("a.txt", log.encode("cp1252"))).text == log


@pytest.mark.parametrize(
    ("line", "encoding"),
    [
        ("Käse und Öl", "cp1252"),
        ("Der Käse liegt im Öl.", "cp1252"),
        ("Prénom: André, âge: 30", "cp1252"),
        ("Ça coûte très cher, même à crédit.", "cp1252"),
        ("Höst på ön", "cp1252"),
        ("El año pasado viajé a España.", "cp850"),
        ("Käse und Öl", "cp850"),
        ("Žádný problém, řekl Jiří.", "iso8859-2"),
        ("Zażółć gęślą jaźń.", "cp1250"),
    ],
)
async def test_few_letters_make_words_of_a_language(
    extract: Extract, line: str, encoding: str
) -> None:
    """However rare: none of two alphabets, none with a capital or a sign between its letters."""
    for text in (line + "\n", (line + "\n") * 30, f"Shipped on Monday: {line}\n" * 20):
        assert (await extract("a.txt", text.encode(encoding))).text == text


async def test_an_encoding_that_is_said_counts_also_where_letters_are_late(
    extract: Extract,
) -> None:
    """Statistics are not asked."""
    said = "# -*- coding: cp1251 -*-\n" + "pass\n" * 10_000 + "# Мир\n"
    assert (await extract("a.py", said.encode("cp1251"))).text == said


async def test_utf8_with_a_fault_is_still_utf8(extract: Extract) -> None:
    """A character that was cut in two harms no other; colours of a terminal neither."""
    content = GREETING.encode() + "ü".encode()[:1] + b" \x1b[31mred\x1b[0m"
    document = await extract("a.txt", content)
    assert document.text == f"{GREETING}\ufffd \x1b[31mred\x1b[0m"


async def test_escaped_letters_of_json_can_be_found(extract: Extract) -> None:
    """They are written out, and what is JSON stays JSON with the same meaning."""
    value = {"größe": '😀 "a\\u00e4"\n\u2028', "b": "\ud83d", "c": "\\\u00fc"}
    document = await extract("a.json", json.dumps(value).encode())
    assert "größe" in document.text
    assert "😀" in document.text
    assert json.loads(document.text) == value
    assert (await extract("a.json", b'{"broken": "\\u00e4')).text == '{"broken": "ä'


HTML = """<!DOCTYPE html><html><head><title>A &amp; B</title><style>p {}</style>
<script>document.write("<p>no</p>")</script></head><body><h2>Head<br>line</h2><h3></h3>
<p>One
  <b>bold</b>word.&nbsp;&#x41; &lt;tag&gt;<p>Two<ul><li>first<li>second</ul>
<table><tr><th>Name<th>Age</tr><tr><td><p>Ann</p></td><td>7</td></tr></table>
<pre>
  kept
    so</pre><img alt="a cat" src=x> sat<noscript>Enable it!</noscript></body></html>"""


async def test_html_is_read_as_it_looks(extract: Extract) -> None:
    """Headings, lists and tables are marked; scripts and styles are not seen."""
    document = await extract("a.html", HTML.encode())
    assert document.text == (
        "A & B\n\n## Head\nline\n\nOne boldword.\xa0A <tag>\n\nTwo\n\n- first\n- second\n\n"
        "Name | Age\nAnn | 7\n\n  kept\n    so\n\na cat sat"
    )


async def test_html_says_its_encoding(extract: Extract) -> None:
    """Also where its few words would not."""
    page = '<meta charset="windows-1251"><p>Мир</p>'.encode("cp1251")
    assert (await extract("a.html", page)).text == "Мир"


async def test_pages_of_a_pdf_have_offsets(extract: Extract) -> None:
    """Each begins where its text does, an empty one where the next one does."""
    document = await extract("a.pdf", pdf(["One (1)\nline", "", "Drei – größer"]))
    assert document.text == "One (1)\nline\n\nDrei – größer"
    assert document.pages == (0, 14, 14)


async def test_a_word_that_is_hyphenated_is_whole_again(extract: Extract) -> None:
    """A PDF has lines, and a word that goes on in the next one is one word."""
    document = await extract("a.pdf", pdf(["A line with a manip-\nulation of well-known words"]))
    assert document.text == "A line with a manipulation of well-known words"


@pytest.mark.parametrize("turned", [0, 90, 270])
async def test_lines_end_also_where_they_run_down_the_page(extract: Extract, turned: int) -> None:
    """On a page that is turned, as one with a wide table is, or on one that is not."""
    lines = ["North 12 million", "South 34 million 😀", "West 7", "Total 53 million"]
    smile = stream(b"1 beginbfchar <23> <D83DDE00> endbfchar")
    sideways = b" ".join(
        b"BT /F1 12 Tf 0 1 -1 0 %d 100 Tm (%s) Tj ET"
        % (100 + 14 * number, line.replace("😀", "#").encode())
        for number, line in enumerate(lines)
    )
    page = b"/Type/Page/Parent 2 0 R"
    made = pdf([sideways], more=[smile]).replace(page, page + b"/Rotate %d" % turned)
    made = made.replace(b"/BaseFont/Helvetica", b"/BaseFont/Helvetica/ToUnicode 4 0 R")
    assert (await extract("a.pdf", made)).text == "\n".join(lines)


async def test_what_is_beside_the_page_is_not_read(extract: Extract) -> None:
    """As a printer's marks: nobody sees them."""
    content = b"BT /F1 12 Tf 72 720 Td (Proof of page 1) Tj 0 -400 Td (Text) Tj T* ET"
    made = pdf([content]).replace(b"/Contents", b"/CropBox[0 0 612 400]/Contents")
    assert (await extract("a.pdf", made)).text == "Text"


async def test_what_a_form_is_filled_with_is_read(extract: Extract) -> None:
    """Behind the page's text, without what nobody sees there."""
    made = form(
        "Name, city, country",
        b"/FT/Tx/T(name)/V(Ann Example)",
        b"/FT/Tx/T(city)/Ff 4096/V<FEFF65E5672C000D0054006F006B0079006F>",  # in two lines
        b"/FT/Ch/T(country)/Ff 131072/Opt[(Chad)(Peru)]/V(Peru)",
        b"/Parent 11 0 R",  # a field of two widgets
        b"/FT/Tx/T(empty)",
        b"/FT/Tx/T(hidden)/F 2/V(secret)",
        b"/FT/Tx/T(password)/Ff 8192/V(secret)",
        more=[b"<</FT/Tx/T(rest)/V(as agreed)/Kids[7 0 R]>>"],
    )
    document = await extract("a.pdf", made.replace(b"Fields[", b"Fields[11 0 R "))
    assert document.text == "Name, city, country\nAnn Example\n日本\nTokyo\nPeru\nas agreed"


async def test_a_pdf_in_a_pdf_is_not_read(extract: Extract) -> None:
    """What is attached to a document is another document."""
    inner = stream(pdf(["secret"]), b"/Type/EmbeddedFile")
    attached = b"<</Type/Filespec/F(a.pdf)/EF<</F 4 0 R>>>>"
    assert (await extract("a.pdf", pdf(["outer"], more=[inner, attached]))).text == "outer"


async def test_a_broken_page_costs_itself(extract: Extract) -> None:
    """The other pages of a PDF are read, and keep their numbers."""
    whole = pdf(["One", "Two", "Three"])
    broken = whole.replace(b"6 0 obj\n<</Type/Page", b"6 0 obj\n[/Type/Page")
    assert broken != whole
    document = await extract("a.pdf", broken)
    assert document.text == "One\n\nThree"
    assert document.pages == (0, 5, 5)


STYLES = (
    '<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="L"><w:name w:val="List Bullet"/></w:style>'
)
BODY = (
    paragraph("Title", '<w:pStyle w:val="Title"/>')
    + paragraph("Head", '<w:pStyle w:val="berschrift1"/><w:numPr><w:ilvl w:val="0"/></w:numPr>')
    + paragraph("Outline", '<w:outlineLvl w:val="2"/>')
    + '<w:p><w:pPr><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:tab/>'
    "<w:t>b</w:t><w:br/><w:t>c</w:t></w:r><w:ins><w:r><w:t>new</w:t></w:r></w:ins>"
    "<w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>old</w:t></w:r>"
    "</w:moveFrom><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
    + paragraph("one", '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>')
    + paragraph("two", '<w:numPr><w:ilvl w:val="1"/><w:numId w:val="1"/></w:numPr>')
    + paragraph("three", '<w:pStyle w:val="L"/>')
    + "<w:tbl><w:tr><w:tc>"
    + paragraph("Name")
    + paragraph("of it")
    + "</w:tc><w:tc>"
    + paragraph("Age")
    + "</w:tc></w:tr><w:tr><w:tc>"
    + paragraph("Ann")
    + "</w:tc><w:tc>"
    + paragraph("7")
    + "</w:tc></w:tr></w:tbl>"
    + paragraph(GREETING)
)
NOTES = (
    f'<w:footnote w:type="separator">{paragraph("---")}</w:footnote>'
    f"<w:footnote>{paragraph('A note.')}</w:footnote>"
)


async def test_word_documents_keep_their_structure(extract: Extract) -> None:
    """Headings, lists, tables and footnotes; changes are accepted, fields show no code."""
    document = await extract("a.docx", docx(BODY, styles=STYLES, footnotes=NOTES))
    assert document.text == (
        "# Title\n\n# Head\n\n### Outline\n\na\tb\ncnew\n\n- one\n  - two\n- three\n\n"
        f"Name of it | Age\nAnn | 7\n\n{GREETING}\n\nA note."
    )
    assert document.pages == ()


async def test_a_text_box_is_read_once(extract: Extract) -> None:
    """Not again as the picture that it is to old programs, and apart from what is around it."""
    box = f"<w:txbxContent>{paragraph('boxed')}</w:txbxContent>"
    choices = f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    both = f'<mc:AlternateContent xmlns:mc="x">{choices}</mc:AlternateContent>'
    body = f"<w:p><w:r><w:t>before</w:t>{both}<w:t>after</w:t></w:r></w:p>"
    assert (await extract("a.docx", docx(body))).text == "before\n\nboxed\n\nafter"


async def test_a_note_may_say_that_it_is_one(extract: Extract) -> None:
    """Its type is "normal" also where no type is given."""
    notes = f'<w:footnote w:type="normal">{paragraph("A note.")}</w:footnote>'
    document = await extract("a.docx", docx(paragraph("Text"), footnotes=notes))
    assert document.text == "Text\n\nA note."


async def test_a_paragraph_that_was_taken_out_of_its_list_is_no_item(extract: Extract) -> None:
    """Numbering 0 is none, whatever the style says."""
    none = '<w:pStyle w:val="L"/><w:numPr><w:ilvl w:val="1"/><w:numId w:val="0"/></w:numPr>'
    item = paragraph("item", '<w:pStyle w:val="L"/>')
    document = await extract("a.docx", docx(item + paragraph("plain", none), styles=STYLES))
    assert document.text == "- item\n\nplain"


async def test_a_paragraph_may_begin_with_a_hyphen(extract: Extract) -> None:
    """One that does not break a line is a minus; tabs, of any kind, are none at the beginning."""
    tab = "<w:r><w:tab/><w:ptab/></w:r>"
    body = f"<w:p>{tab}<w:r><w:noBreakHyphen/><w:t>5 K</w:t><w:ptab/><w:t>cold</w:t></w:r></w:p>"
    assert (await extract("a.docx", docx(body))).text == "-5 K\tcold"


@pytest.mark.parametrize("change", ["del", "moveFrom"])
async def test_paragraphs_whose_border_was_deleted_are_one(extract: Extract, change: str) -> None:
    """Since changes count as accepted. One of which nothing is left leaves the next as it is."""
    unmarked = f"<w:rPr><w:{change}/></w:rPr>"
    item = "<w:numPr/>"
    body = (
        paragraph("The war", unmarked)
        + paragraph("ranty la", item + unmarked)
        + paragraph("sts.")
        + f"<w:p><w:pPr>{unmarked}</w:pPr><w:del><w:r><w:delText>x</w:delText></w:r></w:del></w:p>"
        + paragraph("New", item)
        + paragraph("last")
    )
    assert (await extract("a.docx", docx(body))).text == "The warranty lasts.\n\n- New\n\nlast"


def field(code: str, shown: str | None = None) -> str:
    """Runs of a field, whose code may have fields in it. Not every field shows something."""
    mark = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'.format
    result = "" if shown is None else f"{mark('separate')}<w:r><w:t>{shown}</w:t></w:r>"
    return f"{mark('begin')}{code}{result}{mark('end')}"


def code(text: str) -> str:
    """A run of a field's code."""
    return f"<w:r><w:instrText>{text}</w:instrText><w:tab/></w:r>"


async def test_a_field_shows_what_word_shows(extract: Extract) -> None:
    """Nothing of the fields that its code asks."""
    asked = field(code("MERGEFIELD Sex"), "female")
    title = field(code("IF ") + asked + code('= "m" "Mr" "Ms"'), "Ms")
    silent = field(code("SET x ") + field(code("MERGEFIELD Sex"), "male"))
    body = f"<w:p>{title}{silent}<w:r><w:t> Smith</w:t></w:r></w:p>"
    assert (await extract("a.docx", docx(body))).text == "Ms Smith"


async def test_a_field_without_an_end_hides_no_paragraph(extract: Extract) -> None:
    """Nor does an end without a field."""
    begin, end = (f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>' for kind in ("begin", "end"))
    body = f"<w:p>{begin}{code('PAGE')}</w:p>{paragraph('one')}<w:p>{end}</w:p>{paragraph('two')}"
    assert (await extract("a.docx", docx(body))).text == "one\n\ntwo"


async def test_slides_are_read_in_their_order(extract: Extract) -> None:
    """Each is a page with its title, its text and its notes, and without its number."""
    table = (
        "<p:graphicFrame><a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>x</a:t></a:r></a:p></a:txBody>"
        "</a:tc><a:tc><a:txBody><a:p><a:r><a:t>y</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl>"
        "</p:graphicFrame>"
    )
    slides = [
        shape("First", place="title") + shape("a", "b") + shape("1", place="sldNum"),
        shape("Second", place="ctrTitle") + table,
    ]
    document = await extract("a.pptx", pptx(slides, {0: shape("Say it slowly.")}))
    assert document.text == "# First\n\na\nb\n\nSay it slowly.\n\n# Second\n\nx | y"
    assert document.pages == (0, document.text.index("# Second"))


async def test_slides_in_sections_are_read_once(extract: Extract) -> None:
    """PowerPoint lists them a second time, by section, as an extension with names like its own."""
    sections = (
        '<p:extLst><p:ext uri="{521415D9-36F7-43E2-AB2F-B90AF26B5E84}"><p14:sectionLst xmlns:p14='
        '"http://schemas.microsoft.com/office/powerpoint/2010/main"><p14:section name="Beginning"'
        '><p14:sldIdLst><p14:sldId id="257"/><p14:sldId id="256"/></p14:sldIdLst></p14:section>'
        "</p14:sectionLst></p:ext></p:extLst>"
    )
    document = await extract("a.pptx", pptx([shape("one"), shape("two")], more=sections))
    assert document.text == "one\n\ntwo"


@pytest.mark.parametrize("place", ["sldNum", "dt", "ftr"])
async def test_a_table_behind_the_number_of_a_slide_is_read(extract: Extract, place: str) -> None:
    """What a shape is in the layout says nothing of the one that follows it."""
    cell = "<a:tc><a:txBody><a:p><a:r><a:t>{}</a:t></a:r></a:p></a:txBody></a:tc>"
    table = f"<a:tbl><a:tr>{cell.format('x')}{cell.format('y')}</a:tr></a:tbl>"
    frame = f"<p:graphicFrame><p:nvGraphicFramePr/><a:graphic>{table}</a:graphic></p:graphicFrame>"
    document = await extract("a.pptx", pptx([shape("7", place=place) + frame]))
    assert document.text == "x | y"


async def test_old_word_documents_are_read_piece_by_piece(extract: Extract) -> None:
    """In the order of the text, without the code of fields, with tables and notes."""
    text = "Größe\rName\x07Age\x07\x07Ann\x077\x07\x07\x13 PAGE \x14three\x15 of\x0b4\r"
    document = await extract("a.doc", doc(text, note="\x02 A note – 日本.\r"))
    assert document.text == "Größe\n\nName | Age\n\nAnn | 7\n\nthree of\n4\n\nA note – 日本."


@pytest.mark.parametrize(
    ("filename", "extension"),
    [("a.csv", ".csv"), ("b/a.txt/x.PNG", ".png"), ("txt", "none"), ("a.txt.", "none")],
)
async def test_other_kinds_are_refused_as_the_hosted_service_did(
    extract: Extract, filename: str, extension: str
) -> None:
    """By the extension alone, in its words."""
    with pytest.raises(NotExtracted) as refused:
        await extract(filename, b"some text")
    assert refused.value.code == "unsupported_file"
    assert refused.value.message == (
        f"Files with extensions [{extension}] are not supported for retrieval. "
        "See https://platform.openai.com/docs/assistants/tools/file-search/supported-files"
    )
    assert not supported(filename)


def test_all_kinds_that_are_refused_are_named_once() -> None:
    """Those of files that can be read are not."""
    assert "[.csv, .png, none]" in unsupported(["a.csv", "b.png", "c", "d.CSV", "e.txt"])
