"""`file_search`: a model's query to numbered passages of the vector stores at hand.

A step keeps what was found with what was asked, so that later prompts say what the model saw.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final

from server import failpoints
from server.chat.citations import Source, passages
from server.chat.values import ToolSpec
from server.errors import WireError
from server.schemas import JsonObject
from server.search.index import Ranker
from server.vector_stores.ingest import Ingestor
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
LEAST_ROOM = 32  # tokens; a passage that is cut to fewer says nothing
LARGE_CONTEXT = 32_000  # tokens, from which on a model is given more
MOST_RESULTS, FEWER_RESULTS = 20, 5
MOST_TOKENS, FEWER_TOKENS = 16_000, 4_000
PATIENCE = 60.0  # seconds to wait for files that were attached just now

Count = Callable[[str], Awaitable[int]]


class SearchFailed(Exception):
    """The run cannot search; the text says why, for its user."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a run's model searches, and how much it can be shown.

    `own` is the thread's store, whose files may have come with the newest message. `context` and
    `room` are tokens: what the model reads, and what all that one turn finds may take of it.
    """

    project: str
    shared: Sequence[str]
    own: Sequence[str]
    context: int
    room: int


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
    """What the tool may be called: by the first that no function has."""
    yield NAME
    yield "search_files"
    yield from (f"search_files_{number}" for number in count(2))


def spec(name: str) -> ToolSpec:
    """How models are told of the tool."""
    return ToolSpec(name, DESCRIPTION, PARAMETERS, strict=True)


def room_for(context: int, prompt: int | None) -> int:
    """Tokens that a turn's passages may take, of a context and of a prompt that has a limit."""
    most = MOST_TOKENS if context >= LARGE_CONTEXT else FEWER_TOKENS
    return min(most, context // 2, most if prompt is None else prompt // 2)


def opened(call_id: str, tool: JsonObject) -> JsonObject:
    """A call that is announced before there are results."""
    return _call(call_id, Settings.of(tool, 0), [])


def without_results(call: JsonObject) -> JsonObject:
    """A stored call as it was announced."""
    search = {**call["file_search"], "results": []}
    return {"id": call["id"], "type": call["type"], "file_search": search}


def sources_of(call: JsonObject) -> list[Source]:
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


def output_of(call: JsonObject) -> str:
    """What the model was told that a stored call has found."""
    return call["asked"]["problem"] or passages(sources_of(call))


class FileSearch:
    """Answers calls of the tool."""

    def __init__(self, searcher: Searcher, ingestor: Ingestor) -> None:
        self._searcher = searcher
        self._ingestor = ingestor

    async def answer(
        self,
        asked: Sequence[tuple[str, str]],
        tool: JsonObject,
        scope: Scope,
        count_tokens: Count,
        *,
        first_number: int,
        search: int,
    ) -> list[JsonObject]:
        """The calls of one turn, by id and arguments, as they are stored. Raises SearchFailed.

        Their passages are numbered on from `first_number`; searches count on from `search`.
        """
        for store_id in scope.own:
            await self._ingestor.wait_ready(store_id, PATIENCE)
        calls = []
        for call_id, arguments in asked:
            settings = Settings.of(tool, scope.context)
            queries = queries_in(arguments)
            found = await self._found(scope, queries, settings) if queries else []
            fitting = await _within(scope.room // len(asked), found, count_tokens)
            call = _call(call_id, settings, fitting)
            problem = NO_QUERY if not queries else NO_ROOM if found and not fitting else ""
            call["asked"] = {
                "arguments": arguments,
                "first_number": first_number,
                "search": search,
                "problem": problem,
            }
            calls.append(call)
            first_number, search = first_number + len(fitting), search + 1
        return calls

    async def _found(
        self, scope: Scope, queries: Sequence[str], settings: Settings
    ) -> Sequence[Found]:
        try:
            found = await self._searcher.search(
                scope.project,
                list(dict.fromkeys([*scope.shared, *scope.own])),
                queries,
                max_results=settings.max_results,
                ranking=Ranking(settings.ranker, settings.score_threshold),
                without_deleted=True,
            )
        except WireError as error:
            raise SearchFailed(str(error)) from error
        failpoints.hit("file_search.found")
        return found


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
        tokens = await count_tokens(f"{passage.filename}\n{passage.text}") + 8
        if tokens > room and fitting:
            break
        fitting.append(passage if tokens <= room else _cut(passage, room / tokens))
        room -= tokens
    return fitting


def _cut(passage: _Passage, share: float) -> _Passage:
    """So much of its text, up to the end of a word."""
    kept = passage.text[: math.floor(len(passage.text) * share)]
    return replace(passage, text=kept.rpartition(" ")[0] or kept)


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
