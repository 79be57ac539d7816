"""PDF: the text of each page, in the order in which it was drawn. Images are not looked at."""

from __future__ import annotations

import codecs
import re
from ctypes import c_ushort
from typing import BinaryIO, Final

import pypdfium2 as pdfium
import pypdfium2.raw as c

from server.search.formats.draft import Draft, Unreadable

_HEAD: Final = 1024  # bytes in which a file says that it is one; some begin with other things
_HYPHEN: Final = re.compile("[\x02\ufffe]\\s*")  # PDFium's, where a word goes on in the next line
_BETWEEN: Final = re.compile("[\0- \ufffe]+")  # characters that PDFium adds, and that nobody sees

codecs.lookup("utf-16-le")  # PDFium's


def read_pdf(file: BinaryIO, draft: Draft) -> None:
    if b"%PDF-" not in file.read(_HEAD):
        raise Unreadable("The file is no PDF, as its name says.")
    with _opened(file) as document:
        for number in range(len(document)):
            draft.page()
            draft.add(_HYPHEN.sub("", _text_of(document, number)).strip())


def _opened(file: BinaryIO) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(file)
    except pdfium.PdfiumError as error:
        if error.err_code in {c.FPDF_ERR_PASSWORD, c.FPDF_ERR_SECURITY}:
            raise Unreadable("The file is encrypted.") from None
        raise Unreadable("The file is broken: it cannot be opened as a PDF.") from None


def _text_of(document: pdfium.PdfDocument, number: int) -> str:
    """A page's text; none if the page is broken, since others may not be."""
    try:
        page = document[number]
    except pdfium.PdfiumError:
        return ""
    try:
        text = page.get_textpage()
        try:
            return _lines_of(text)
        finally:
            text.close()
    finally:
        page.close()


def _lines_of(text: pdfium.PdfTextPage) -> str:
    """What is within the page's bounds.

    PDFium glues lines that run down the page, or are beside each other, when it is asked for these
    bounds. All of a page's text has its lines as they are, and mostly nothing more.
    """
    within, everything = str(text.get_text_bounded()), _all_of(text)
    same = _BETWEEN.sub("", within) == _BETWEEN.sub("", everything)
    return everything if same else within


def _all_of(text: pdfium.PdfTextPage) -> str:
    """Within the page's bounds or not."""
    count = max(0, c.FPDFText_CountChars(text))
    buffer = (c_ushort * (count + 1))()
    written = c.FPDFText_GetText(text, 0, count, buffer)
    return bytes(buffer)[: 2 * max(0, written - 1)].decode("utf-16-le", "ignore")
