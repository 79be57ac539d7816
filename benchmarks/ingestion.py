"""Files into a vector store, from the upload's end until they are found: all of it is measured.

Extraction in a child, tokens counted by the bundled model, chunks cut, windows embedded, the index
written. Texts are paragraphs of the project's own documents, in an order of each file's own.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import io
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium

from benchmarks.passages import ROOT
from benchmarks.report import row
from server.api.deps import Services
from server.app import running
from server.catalog import open_engines
from server.config import NGRAMS, Settings, load_settings
from server.vector_stores.rows import alike, create_store

PROJECT = "default"
LINES_A_PAGE = 50
CHARACTERS_A_LINE = 90
PATIENCE = 3600.0


@dataclass(frozen=True, slots=True)
class Result:
    """Of all files together. Megabytes are of their text."""

    kind: str
    embedder: str
    files: int
    megabytes: float
    seconds: float
    chunks: int

    @property
    def shown(self) -> tuple[str, ...]:
        return (
            self.kind,
            self.embedder,
            f"{self.megabytes:.1f}",
            f"{self.seconds:.1f}",
            f"{self.megabytes / self.seconds:.2f}",
            f"{self.chunks / self.seconds:,.0f}",
        )


def texts(files: int, size: int) -> list[str]:
    """So many, of about so many characters each."""
    sources = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    paragraphs = [each for path in sources for each in path.read_text().split("\n\n") if each]
    chance = random.Random(1)
    made = []
    for _ in range(files):
        chosen: list[str] = []
        while sum(map(len, chosen)) < size:
            chosen.append(chance.choice(paragraphs))
        made.append("\n\n".join(chosen))
    return made


def as_markdown(text: str) -> bytes:
    return text.encode()


def as_pdf(text: str) -> bytes:
    """Page by page, in one font."""
    lines = [
        line[start : start + CHARACTERS_A_LINE]
        for line in text.split("\n")
        for start in range(0, max(1, len(line)), CHARACTERS_A_LINE)
    ]
    document = pypdfium2.PdfDocument.new()
    for first in range(0, len(lines), LINES_A_PAGE):
        page = document.new_page(595, 842)
        for number, line in enumerate(lines[first : first + LINES_A_PAGE]):
            written = pdfium.FPDFPageObj_NewTextObj(document.raw, b"Helvetica", 10.0)
            spelled = (line + "\0").encode("utf-16-le")
            words = ctypes.cast(spelled, ctypes.POINTER(ctypes.c_ushort))
            pdfium.FPDFText_SetText(written, words)
            pdfium.FPDFPageObj_Transform(written, 1, 0, 0, 1, 40, 800 - 15 * number)
            pdfium.FPDFPage_InsertObject(page.raw, written)
        pdfium.FPDFPage_GenerateContent(page.raw)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


KINDS: dict[str, Callable[[str], bytes]] = {"md": as_markdown, "pdf": as_pdf}


async def measured(settings: Settings, kind: str, embedder: str, made: list[str]) -> Result:
    async with running(settings, open_engines(settings)) as services:
        ids = [
            await added(services, f"{number}.{kind}", KINDS[kind](text))
            for number, text in enumerate(made)
        ]
        await taken_in(services, ids[:1])  # models are loaded by the first
        started = time.perf_counter()
        store = await taken_in(services, ids)
        seconds = time.perf_counter() - started
        contents = [await services.searcher.content(PROJECT, store, each) for each in ids]
    return Result(
        kind=kind,
        embedder=embedder,
        files=len(made),
        megabytes=sum(len(text.encode()) for text in made) / 1e6,
        seconds=seconds,
        chunks=sum(map(len, contents)),
    )


async def added(services: Services, name: str, content: bytes) -> str:
    async with services.files.receive() as sent:
        await sent.write(content)
        file = await services.files.add(PROJECT, sent, name, "assistants", None)
    return str(file.id)


async def taken_in(services: Services, file_ids: list[str]) -> str:
    """A store of these files, when they can be found."""
    wanted = alike(file_ids)
    store = await services.db.write(lambda tx: create_store(tx, PROJECT, wanted))
    if not await services.ingestor.wait_ready(store.id, PATIENCE):
        raise SystemExit("the files were not taken in")
    return str(store.id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--size", type=int, default=100_000, help="characters of each")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--model", type=Path, action="append", default=[], help="an embedding GGUF")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    made = texts(given.files, given.size)
    print(f"{given.files} files of {given.size} characters, {os.cpu_count()} cores")
    print(row("kind", "embedder", "MB of text", "seconds", "MB/s", "chunks/s"))
    print(row(*["---"] * 6))
    results = []
    for kind in given.kinds:
        for model in [None, *given.model]:
            with tempfile.TemporaryDirectory() as folder:
                name = NGRAMS if model is None else model.stem
                wanted = {"server.data_dir": folder, "search.embedding_model": name}
                if model is not None:
                    wanted["models.directory"] = str(model.parent)
                settings = load_settings(None, {}, wanted)
                results.append(asyncio.run(measured(settings, kind, name, made)))
            print(row(*results[-1].shown), flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(each) for each in results], indent=1))


if __name__ == "__main__":
    main()
