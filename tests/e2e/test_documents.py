"""Documents of four formats, from their upload to a cited answer, through the official SDK."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from server.engine.scripted import ScriptedEngine
from tests.runs.story import written
from tests.search.documents import docx, paragraph, pdf
from tests.support import LiveServer

FILLER = (
    "Nothing else is told here, and\nthe rest of it is of no interest to anybody at all,\nas usual."
)
# A fact, what is asked for it, and where it is: in which file, and on which page.
FACTS = (
    ("The lighthouse keeper feeds seven cormorants.", "lighthouse cormorants", "coast.pdf", 1),
    ("A glacier moves four metres in a winter.", "glacier metres winter", "coast.pdf", 3),
    ("Porridge is stirred with a wooden spurtle.", "porridge spurtle", "kitchen.pdf", 2),
    ("Tram drivers ring a brass bell twice.", "tram brass bell", "traffic.docx", None),
    ("Beekeepers wear white in the orchard.", "beekeepers orchard", "garden.html", None),
)
FILES = ("coast.pdf", "kitchen.pdf", "traffic.docx", "garden.html")


def page(file: str, number: int) -> str:
    """A page of a PDF: the fact that it has, and some more."""
    facts = [fact for fact, _, name, place in FACTS if (name, place) == (file, number)]
    nothing = ["There is nothing to be learned here, either."]
    return "\n".join([*(facts or nothing), f"This is page {number} of {file}.", FILLER])


def document(file: str) -> bytes:
    """The file."""
    facts = [fact for fact, _, name, _ in FACTS if name == file]
    if file.endswith(".pdf"):
        return pdf([page(file, number) for number in (1, 2, 3)])
    if file.endswith(".docx"):
        return docx("".join(paragraph(text) for text in (*facts, FILLER)))
    body = "".join(f"<p>{text}</p>" for text in (*facts, FILLER))
    return f"<!doctype html><title>Garden</title><body>{body}</body>".encode()


@pytest.fixture
async def store_id(client: openai.AsyncOpenAI) -> str:
    """A vector store with all of the documents, each page of which is a chunk."""
    store = await client.vector_stores.create(name="Documents")
    chunks: Any = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 0}
    batch = await client.vector_stores.file_batches.upload_and_poll(
        store.id,
        files=[(name, document(name)) for name in FILES],
        chunking_strategy={"type": "static", "static": chunks},
    )
    assert (batch.status, batch.file_counts.completed) == ("completed", len(FILES))
    return store.id


async def names(client: openai.AsyncOpenAI) -> dict[str, str]:
    """Of all files, by id."""
    return {file.id: file.filename async for file in client.files.list()}


async def test_what_is_found_is_on_its_page(
    server: LiveServer, client: openai.AsyncOpenAI, store_id: str
) -> None:
    """For each fact the best result is the text that has it, and of a PDF its page."""
    for fact, query, file, number in FACTS:
        best = (await client.vector_stores.search(store_id, query=query)).data[0]
        text = " ".join(part.text for part in best.content)
        assert fact in text
        assert (best.filename, "This is page" in text) == (file, number is not None)
        assert number is None or f"This is page {number} of {file}." in text
        [found] = await server.services.searcher.search(
            "default", [store_id], [query], max_results=1
        )
        assert (found.page, found.text) == (number, best.content[0].text)


async def test_an_answer_cites_each_document(
    client: openai.AsyncOpenAI, engine: ScriptedEngine, store_id: str
) -> None:
    """Each marker stands where its annotation says, in code points, and names the right file."""
    tool: Any = {"type": "file_search", "file_search": {"max_num_results": 1}}
    assistant = await client.beta.assistants.create(
        model="gpt-4o",
        tools=[tool],
        tool_resources={"file_search": {"vector_store_ids": [store_id]}},
    )
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Tell me."}])
    searches = [("file_search", f'{{"query": "{query}"}}') for _, query, *_ in FACTS]
    engine.says(written(*searches))
    numbers = range(len(FACTS), 0, -1)
    engine.says(" ".join(f"🐝 Fact é{number} is so [{number}]." for number in numbers))
    run = await client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id
    )
    assert run.status == "completed"
    [message, _] = (await client.beta.threads.messages.list(thread.id)).data
    [part] = message.content
    assert part.type == "text"
    text, by_id = part.text, await names(client)
    cited = []
    for annotation in text.annotations:
        assert annotation.type == "file_citation"
        assert text.value[annotation.start_index : annotation.end_index] == annotation.text
        name = by_id[annotation.file_citation.file_id]
        assert annotation.text.endswith(f"†{name}】")
        cited.append(name)
    assert cited == [file for *_, file, _ in reversed(FACTS)]
    assert text.value.count("🐝") == text.value.count("【") == len(FACTS)
