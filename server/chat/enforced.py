"""Schemas as llguidance is told them: in its words, and without the words for people.

So a grammar is as large as what it holds a model to, whatever is explained in its schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

import orjson

from server.chat.dates import PATTERNS
from server.schemas.schema_tree import ANNOTATIONS, referred, walk

# Whatever has another name. Told so, llguidance has names written with no more escapes than they
# need: a name that is there already is not written again in other letters.
ANY_OTHERS: Final[dict[str, Any]] = {"patternProperties": {"": {}}, "additionalProperties": False}
LONGEST_HOSTNAME: Final = 253  # which llguidance does not know


def enforced(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema, of which all is enforced."""
    told: dict[str, Any] = orjson.loads(orjson.dumps(referred(schema)))
    parts = [node.schema for node in walk(told) if isinstance(node.schema, dict)]
    patterned = any("patternProperties" in part for part in parts)
    for part in parts:
        _retell(part)
        if _is_open(part) and not patterned:
            part |= ANY_OTHERS
    return told


def _is_open(part: Mapping[str, Any]) -> bool:
    """Whether it speaks of some properties, and others may be whatever they are."""
    named = part.get("properties") or part.get("required")
    return bool(named) and part.get("additionalProperties", True) in (True, {})


def _retell(part: dict[str, Any]) -> None:
    for word in ANNOTATIONS:
        part.pop(word, None)
    if "$ref" in part:
        part["$ref"] = _reference(part["$ref"])
    if part.get("format") == "hostname":
        part["maxLength"] = min(part.get("maxLength", LONGEST_HOSTNAME), LONGEST_HOSTNAME)
    if part.get("format") in PATTERNS and "pattern" not in part:  # of two only one has a place
        part["pattern"] = PATTERNS[part.pop("format")]


def _reference(reference: str) -> str:
    """With no character in it that a URI has not."""
    return f"#{quote(unquote(reference[1:]), safe='/~$')}"
