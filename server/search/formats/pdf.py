"""PDF: the text of each page, in the order in which it was drawn, and what was filled in there.

Images are not looked at.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_ushort
from typing import BinaryIO, Final

import pypdfium2 as pdfium
import pypdfium2.raw as c

from server.search.formats.draft import Draft, Unreadable

_HEAD: Final = 1024  # bytes in which a file says that it is one; some begin with other things
_HYPHEN: Final = re.compile("[\x02\ufffe]\\s*")  # PDFium's, where a word goes on in the next line
_BETWEEN: Final = re.compile("[\0- \ufffe]+")  # characters that PDFium adds, and that nobody sees
_FILLED_IN: Final = frozenset(
    {c.FPDF_FORMFIELD_TEXTFIELD, c.FPDF_FORMFIELD_COMBOBOX, c.FPDF_FORMFIELD_LISTBOX}
)
_UNSEEN: Final = c.FPDF_ANNOT_FLAG_HIDDEN | c.FPDF_ANNOT_FLAG_NOVIEW

codecs.lookup("utf-16-le")  # PDFium's


def read_pdf(file: BinaryIO, draft: Draft) -> None:
    if b"%PDF-" not in file.read(_HEAD):
        raise Unreadable("The file is no PDF, as its name says.")
    with _opened(file) as document, _form_of(document) as form:
        for number in range(len(document)):
            draft.page()
            text, values = _read(document, number, form)
            draft.add(_HYPHEN.sub("", text).strip())
            for value in values:
                draft.line()
                draft.add(value.strip())


def _opened(file: BinaryIO) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(file)
    except pdfium.PdfiumError as error:
        if error.err_code in {c.FPDF_ERR_PASSWORD, c.FPDF_ERR_SECURITY}:
            raise Unreadable("The file is encrypted.") from None
        raise Unreadable("The file is broken: it cannot be opened as a PDF.") from None


@contextmanager
def _form_of(document: pdfium.PdfDocument) -> Iterator[c.FPDF_FORMHANDLE | None]:
    """What knows the values of the document's fields, if it has any.

    It is told of no page, and so draws no field and does nothing that a field asks for.
    """
    if document.get_formtype() == c.FORMTYPE_NONE:
        yield None
        return
    callbacks = c.FPDF_FORMFILLINFO(version=2)  # none
    form = c.FPDFDOC_InitFormFillEnvironment(document, callbacks)
    try:
        yield form
    finally:
        c.FPDFDOC_ExitFormFillEnvironment(form)


def _read(
    document: pdfium.PdfDocument, number: int, form: c.FPDF_FORMHANDLE | None
) -> tuple[str, list[str]]:
    """A page's text and values; none if the page is broken, since others may not be."""
    try:
        page = document[number]
    except pdfium.PdfiumError:
        return "", []
    try:
        text = page.get_textpage()
        try:
            return _lines_of(text), _values_on(page, form) if form else []
        finally:
            text.close()
    finally:
        page.close()


def _values_on(page: pdfium.PdfPage, form: c.FPDF_FORMHANDLE) -> list[str]:
    """What the fields are filled with that can be seen on a page."""
    fields = [c.FPDFPage_GetAnnot(page, n) for n in range(c.FPDFPage_GetAnnotCount(page))]
    values = [_value_of(field, form) for field in fields if _is_seen(field, form)]
    for field in fields:
        c.FPDFPage_CloseAnnot(field)
    return values


def _is_seen(field: c.FPDF_ANNOTATION, form: c.FPDF_FORMHANDLE) -> bool:
    return (
        c.FPDFAnnot_GetFormFieldType(form, field) in _FILLED_IN
        and not c.FPDFAnnot_GetFlags(field) & _UNSEEN
        and not c.FPDFAnnot_GetFormFieldFlags(form, field) & c.FPDF_FORMFLAG_TEXT_PASSWORD
    )


def _value_of(field: c.FPDF_ANNOTATION, form: c.FPDF_FORMHANDLE) -> str:
    size = c.FPDFAnnot_GetFormFieldValue(form, field, None, 0)  # in bytes, with a NUL
    buffer = (c_ushort * (size // 2))()
    c.FPDFAnnot_GetFormFieldValue(form, field, buffer, size)
    return bytes(buffer).decode("utf-16-le", "ignore").rstrip("\0")


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
