"""What embedding models want before a text, which tells them what it is: a query, or a passage."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What stands before a query, and before a passage that queries may find."""

    query: str = ""
    passage: str = ""


_SEARCH: Final = "Represent this sentence for searching relevant passages: "
_INSTRUCT: Final = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
)
# By the model's name, as its authors say; the first pattern that matches counts.
_KNOWN: Final = {
    "*e5*instruct*": Prefixes(_INSTRUCT),
    "*e5-mistral*": Prefixes(_INSTRUCT),
    "*e5-*": Prefixes("query: ", "passage: "),
    "*bge-*-en*": Prefixes(_SEARCH),
    "*mxbai-embed*": Prefixes(_SEARCH),
    "*arctic-embed*v2*": Prefixes("query: "),
    "*arctic-embed*": Prefixes(_SEARCH),
    "*nomic-embed*": Prefixes("search_query: ", "search_document: "),
    "*embeddinggemma*": Prefixes("task: search result | query: ", "title: none | text: "),
    "*qwen3-embedding*": Prefixes(_INSTRUCT.rstrip()),
}


def prefixes_of(name: str) -> Prefixes:
    """Of a model by its name; most want none."""
    matching = (known for pattern, known in _KNOWN.items() if fnmatchcase(name.lower(), pattern))
    return next(matching, Prefixes())
