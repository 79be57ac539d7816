"""The rules of a grammar as they are written down, in llguidance's variant of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from server.chat.enforced import enforced
from server.chat.json_schema import usable
from server.chat.parameter import ANY_OBJECT
from server.schemas.json_schema import MOST_REMAINDERS, remainders
from server.schemas.schema_tree import walk

Schema = Mapping[str, Any]

# A weak model writes white space for ever where it may: one space at most, as in JSON's two usual
# forms. The second is for those that nobody has checked.
_COMPACT: Final = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
_LENIENT: Final = {**_COMPACT, "lenient": True}
_PARTS: Final = re.compile(r'"[^"]*"|[{}]|[:,] ?|.')


class Rules:
    """Of one grammar. `tags` are the tokens that are no text.

    Rules that are loose hold to no schema that is not strict.
    """

    def __init__(self, tags: Mapping[str, int], *, loose: bool = False) -> None:
        self.loose = loose
        self._tags = tags
        longest_first = sorted(tags, key=len, reverse=True)
        self._tag = re.compile("|".join(map(re.escape, longest_first)) or r"\b\B")
        self._rules: dict[str, str] = {}
        self._remainders = 0  # of the schemas that are not strict

    @property
    def text(self) -> str:
        return "".join(f"{name}: {body}\n" for name, body in self._rules.items())

    def add(self, name: str, body: str) -> str:
        """Its name, once it is written down; options may follow on it, in brackets."""
        self._rules[name] = body or '""'
        return name.partition("[")[0]

    def any_text(self) -> str:
        """The terminal that is whatever is no tag."""
        return self.add("ANY", "/(?s:.*)/")

    def text_without(self, name: str, spelled: Iterable[str]) -> str:
        """The terminal of this name, for text that has none of these in it."""
        anything = self.any_text()
        if not (barred := sorted({*spelled} - {""})):
            return self.add(name, anything)
        self.add(f"NO_{name}", " | ".join(map(quoted, barred)))
        return self.add(name, f"{anything} & ~({anything} NO_{name} {anything})")

    def up_to(self, name: str, terminal: str, end: str) -> str:
        """The rule for a text and its end, which may not be spelled in it."""
        if self.begins_with_tag(end):
            return self.add(name, f"{terminal} {self.literal(end)}")
        return self.add(f"{name}[lazy]", f"{terminal} {quoted(end)}")

    def begins_with_tag(self, text: str) -> bool:
        return self._tag.match(text) is not None

    def literal(self, text: str) -> str:
        """The text: its tags by their ids, the rest as it is spelled."""
        symbols = []
        place = 0
        for tag in self._tag.finditer(text):
            symbols += [quoted(text[place : tag.start()]), f"<[{self._tags[tag[0]]}]>"]
            place = tag.end()
        return " ".join(filter(None, [*symbols, quoted(text[place:])]))

    def json_literal(self, text: str) -> str:
        """A part of an object, in the words of which JSON's own rules are made.

        So it can stand beside such rules: of words that begin alike only the longest are read.
        """
        spaced = {":": "/: ?/", ",": "/, ?/"}
        return " ".join(spaced.get(p.strip()) or quoted(p) for p in _PARTS.findall(text))

    def held_to(self, schema: Schema) -> Schema:
        """What of a schema that is not strict these rules hold to."""
        return usable(ANY_OBJECT if self.loose else schema)

    def json(self, schema: Schema, *, strict: bool) -> str:
        """JSON of this schema, or of what can be enforced of it."""
        if strict:
            return f"%json {json.dumps({**enforced(schema), 'x-guidance': _COMPACT})}"
        return self.json_of(self.held_to(schema))

    def json_of(self, kept: Schema) -> str:
        """JSON of what `held_to` gives."""
        kept = enforced(kept)
        self._let_go_of_factors(kept)
        return f"%json {json.dumps({**kept, 'x-guidance': _LENIENT})}"

    def _let_go_of_factors(self, schema: dict[str, Any]) -> None:
        """Where those of all schemas together would take too long to read."""
        nodes = [node.schema for node in walk(schema) if isinstance(node.schema, dict)]
        self._remainders += remainders(nodes)
        if self._remainders > MOST_REMAINDERS:
            for node in nodes:
                node.pop("multipleOf", None)


def quoted(text: str) -> str:
    """The text as a symbol; nothing if there is none."""
    return json.dumps(text, ensure_ascii=False) if text else ""


def either(texts: tuple[str, ...]) -> str:
    """One of these texts, of which one may be empty."""
    return " | ".join(quoted(text) or '""' for text in texts)
