"""`file_search`: a model's query to numbered passages of the vector stores at hand.

A step keeps what was found with what was asked, so that later prompts say what the model saw.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final

from server import failpoints
from server.chat.citations import Source, passages
from server.chat.values import ToolCall, ToolSpec
from server.db.database import Database, Tx
from server.db.stores import Record
from server.errors import WireError
from server.schemas import JsonObject
from server.search.index import Ranker
from server.tools.tool import Answer, Count, Offer, Recalled, Scene, ToolFailed, longest
from server.vector_stores.ingest import Ingestor
from server.vector_stores.resources import at_hand
from server.vector_stores.searching import Found, Ranking, Searcher

NAME = "file_search"
DESCRIPTION: Final = (
    "Searches the files. Returns numbered passages; cite each one that you use by its number in "
    "brackets, like this [1]."
)
PARAMETERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"query": {"type": "string"}},
    "required": ["query"],
    "additionalProperties": False,
}
NO_QUERY: Final = 'Nothing was searched: the arguments must be an object with a "query".'
NO_ROOM: Final = "Something was found, but there is no room left for it."
MOST_QUERIES = 8
BESIDE = 8  # tokens of a passage beside its file's name and its text
LEAST_ROOM = 32  # tokens; a passage that is cut to fewer says nothing
LARGE_CONTEXT = 32_000  # tokens, from which on a model is given more
MOST_RESULTS, FEWER_RESULTS = 20, 5
PATIENCE = 60.0  # seconds to wait for files that were attached just now


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a run searches, and from which numbers its passages and its searches count on.

    `own` is the thread's store, whose files may have come with the newest message.
    """

    shared: Sequence[str]
    own: Sequence[str]
    first_number: int
    searches: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What the tool's configuration says, filled up by what suits the model."""

    max_results: int
    ranker: Ranker
    score_threshold: float

    @classmethod
    def of(cls, tool: JsonObject, context: int) -> Settings:
        given = tool.get("file_search") or {}
        ranking = given.get("ranking_options") or {}
        usual = MOST_RESULTS if context >= LARGE_CONTEXT else FEWER_RESULTS
        return cls(
            given.get("max_num_results") or usual,
            ranking.get("ranker") or "default_2024_08_21",
            float(ranking.get("score_threshold") or 0.0),
        )


def names() -> Iterator[str]:
    yield NAME
    yield "search_files"
    yield from (f"search_files_{number}" for number in count(2))


def offer(tx: Tx, run: Record, name: str, messages: Sequence[Record]) -> Offer:
    return Offer(ToolSpec(name, DESCRIPTION, PARAMETERS, strict=True), cites=True)


class Announced:
    """A call that is told as a whole, before there are results."""

    def __init__(self, call: JsonObject) -> None:
        self.stored = call

    def feed(self, arguments: str) -> None:
        """What is asked is not told."""

    def finish(self) -> None:
        """Nothing was held back."""


def reading(call_id: str, tool: JsonObject) -> Announced:
    return Announced(_call(call_id, Settings.of(tool, 0), []))


def told(call: JsonObject) -> Iterator[JsonObject]:
    """A stored call as it was announced."""
    search = {**call["file_search"], "results": []}
    yield {"id": call["id"], "type": call["type"], "file_search": search}


def recalled(call: JsonObject) -> Recalled:
    asked, sources = call["asked"], _sources(call)
    return Recalled(asked["arguments"], asked["problem"] or passages(sources), sources)


def _sources(call: JsonObject) -> list[Source]:
    """The passages that a stored call has shown to the model."""
    first, search = call["asked"]["first_number"], call["asked"]["search"]
    return [
        Source(
            number,
            search,
            result["file_id"],
            result["file_name"],
            "".join(part["text"] for part in result["content"]),
        )
        for number, result in enumerate(call["file_search"]["results"], first)
    ]


class FileSearch:
    """Answers calls of the tool."""

    def __init__(self, db: Database, searcher: Searcher, ingestor: Ingestor) -> None:
        self._db = db
        self._searcher = searcher
        self._ingestor = ingestor

    async def answer(
        self, calls: Sequence[ToolCall], tool: JsonObject, scene: Scene
    ) -> AsyncGenerator[Answer, None]:
        scope = await self._db.read(lambda tx: _scope(tx, scene.run))
        for store_id in scope.own:
            await self._ingestor.wait_ready(store_id, PATIENCE)
        settings = Settings.of(tool, scene.context)
        number = scope.first_number
        for search, call in enumerate(calls, scope.searches):
            queries = queries_in(call.arguments)
            found = await self._found(scene.run.project_id, scope, queries, settings)
            fitting = await _within(scene.room, found, scene.count)
            asked = {
                "arguments": call.arguments,
                "first_number": number,
                "search": search,
                "problem": NO_QUERY if not queries else NO_ROOM if found and not fitting else "",
            }
            yield Answer(call.id, {**_call(call.id, settings, fitting), "asked": asked})
            number += len(fitting)

    async def _found(
        self, project: str, scope: Scope, queries: Sequence[str], settings: Settings
    ) -> Sequence[Found]:
        if not queries:
            return []
        try:
            found = await self._searcher.search(
                project,
                list(dict.fromkeys([*scope.shared, *scope.own])),
                queries,
                max_results=settings.max_results,
                ranking=Ranking(settings.ranker, settings.score_threshold),
                without_deleted=True,
            )
        except WireError as error:
            raise ToolFailed(str(error)) from error
        failpoints.hit("file_search.found")
        return found


def _scope(tx: Tx, run: Record) -> Scope:
    """Where its passages are, and how far its thread's numbers and its own searches have come."""
    assistant = tx.assistants.by_id(run.assistant_id)
    thread = tx.threads.by_id(run.thread_id)
    shared, own = at_hand("file_search", run, assistant, thread)
    before = [call for step in tx.steps.of_run(run.id) for call in _searches(step)]
    return Scope(shared, own, _first_number(tx, run), len(before))


def _first_number(tx: Tx, run: Record) -> int:
    """The number after those of the thread's newest search, in a prompt or not."""
    newest = tx.steps.newest_search(run.thread_id)
    searches = [] if newest is None else list(_searches(newest))
    shown = [source.number for call in searches for source in _sources(call)]
    before = [call["asked"]["first_number"] - 1 for call in searches]
    return 1 + max([*shown, *before], default=0)


def _searches(step: Record) -> Iterator[JsonObject]:
    """The searches of a step that were answered."""
    calls = step.step_details.get("tool_calls", ())
    return (call for call in calls if call["type"] == "file_search" and "asked" in call)


def queries_in(arguments: str) -> list[str]:
    """What a call searches for; some models ask several things at once."""
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        return []
    if not isinstance(given, dict):
        return []
    asked = given.get("query", given.get("queries"))
    queries = asked if isinstance(asked, list) else [asked]
    return [q.strip() for q in queries if isinstance(q, str) and q.strip()][:MOST_QUERIES]


@dataclass(frozen=True, slots=True)
class _Passage:
    """What is shown of a chunk."""

    file_id: str
    filename: str
    score: float
    attributes: JsonObject
    text: str


async def _within(room: int, found: Sequence[Found], count_tokens: Count) -> list[_Passage]:
    """The best chunks that fit; the first one is cut rather than left out."""
    fitting: list[_Passage] = []
    for chunk in found if room >= LEAST_ROOM else ():
        passage = _Passage(chunk.file_id, chunk.filename, chunk.score, chunk.attributes, chunk.text)
        tokens = await _tokens(passage, count_tokens)
        if tokens > room and fitting:
            break
        if tokens > room:
            passage = await _cut(passage, room, count_tokens)
            tokens = await _tokens(passage, count_tokens)
        if passage.text:
            fitting.append(passage)
            room -= tokens
    return fitting


async def _tokens(passage: _Passage, count_tokens: Count) -> int:
    return BESIDE + await count_tokens(f"{passage.filename}\n{passage.text}")


async def _cut(passage: _Passage, room: int, count_tokens: Count) -> _Passage:
    """So much of its text as fits, up to the end of a word; none if its name alone does not."""

    def cut(length: int) -> _Passage:
        kept = passage.text[:length]
        return replace(passage, text=kept.rpartition(" ")[0] or kept)

    return cut(
        await longest(len(passage.text), room, lambda length: _tokens(cut(length), count_tokens))
    )


def _call(call_id: str, settings: Settings, found: Sequence[_Passage]) -> JsonObject:
    return {
        "id": call_id,
        "type": "file_search",
        "file_search": {
            "ranking_options": {
                "ranker": settings.ranker,
                "score_threshold": settings.score_threshold,
            },
            "results": [
                {
                    "file_id": passage.file_id,
                    "file_name": passage.filename,
                    "score": passage.score,
                    "attributes": passage.attributes,
                    "content": [{"type": "text", "text": passage.text}],
                }
                for passage in found
            ],
        },
    }
