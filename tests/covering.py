"""Which test shows which part of the API, as the table in `docs/api-coverage.md`.

A test says what it shows:

    @covers("POST /v1/assistants", "name", "taken", "default")
    async def test_...

or, where its rows show different things, `pytest.param(..., marks=covers(...))`. The subject is a
route of the published `/openapi.json`, or the name of a schema in it that is part of a request
(`Function`, `ImageUrl`, ...). The field is a parameter or a key of the body, or several with spaces
between; `answer` is the response. The aspects:

    taken    it is sent, and what comes back or happens shows it
    default  it is left out
    limit    just within its limit and just beyond; each of its values, and another
    error    it is wrong: of the wrong type, missing, naming nothing

What must be shown follows from the document alone (`wanted`), so a new field without a test fails.
`pytest --write-coverage-doc` collects the tests, writes the table anew and runs none of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.app import create_app
from server.config import load_settings
from server.metrics import Metrics
from server.traces import Traces

ASPECTS = ("taken", "default", "limit", "error")
DOCUMENT = Path(__file__).parents[1] / "docs" / "api-coverage.md"
METHODS = ("get", "post", "delete")
BEYOND_ANY_BODY = {("NewVectorStore", "file_ids")}  # a limit of 100,000,000 ids

Json = dict[str, Any]
Shown = Mapping[tuple[str, str, str], set[str]]


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a request, or the answer to it, and the aspects that some test must show."""

    subject: str
    name: str
    facts: str
    wanted: tuple[str, ...]


def covers(subject: str, fields: str, *aspects: str) -> pytest.MarkDecorator:
    """Mark a test, or one of its rows, as showing these aspects of a field, or of several."""
    assert aspects
    assert set(aspects) <= set(ASPECTS), aspects
    return pytest.mark.covers(subject, fields.split(), aspects)


@cache
def published() -> Json:
    """The document that a server with default settings publishes."""
    services = cast(Any, SimpleNamespace(keys=None, metrics=Metrics(), traces=Traces()))
    return create_app(services, load_settings(None, {}, {})).openapi()


def routes() -> Iterator[tuple[str, Json]]:
    """Each route, such as `GET /v1/models`, with its operation."""
    for path, methods in published()["paths"].items():
        for method in METHODS:
            if method in methods:
                yield f"{method.upper()} {path}", methods[method]


def body_schema(operation: Json, kind: str = "application/json") -> Json:
    """The schema of a route's body of that kind; an empty one where it takes none."""
    content = operation.get("requestBody", {}).get("content", {})
    return _resolved(content[kind]["schema"]) if kind in content else {}


def form_schema(operation: Json) -> Json:
    """The schema of a route's form; an empty one where it takes none."""
    return body_schema(operation, "multipart/form-data")


def parts() -> dict[str, Json]:
    """The schemas within request bodies, by name: what a client can nest."""
    bodies = [body_schema(operation) for _, operation in routes()]
    own = {schema.get("title") for schema in bodies}
    found: dict[str, Json] = {}
    pending = [name for schema in bodies for name in _references(schema)]
    while pending:
        if (name := pending.pop(0)) not in found:
            found[name] = published()["components"]["schemas"][name]
            pending += _references(found[name])
    return {name: found[name] for name in sorted(found) if _open(found[name]) and name not in own}


def wanted() -> list[Field]:
    """Every field of every route and of every nested schema."""
    fields = []
    for route, operation in routes():
        fields.append(Field(route, "answer", "", ("taken",)))
        fields += [_of_parameter(route, each) for each in operation.get("parameters", ())]
        fields += _of_schema(route, body_schema(operation))
        fields += _of_schema(route, form_schema(operation))
    for name, schema in parts().items():
        fields += _of_schema(name, schema)
    return fields


def _of_parameter(route: str, parameter: Json) -> Field:
    name, schema = parameter["name"], parameter["schema"]
    if parameter["in"] == "path":
        return Field(route, name, "in the path", ("taken", "error"))
    if name == "OpenAI-Beta":
        return Field(route, name, "header; `assistants=v2`", ("taken", "error"))
    aspects = ["taken", "default", *_limited(schema)]
    if _kinds(schema) != ["string"] or "last-event-id" in name:
        aspects.append("error")
    place = "query" if parameter["in"] == "query" else "header"
    return Field(route, name, f"{place}; {_facts(schema, required=False)}", _ordered(aspects))


def _of_schema(subject: str, schema: Json) -> list[Field]:
    required = schema.get("required", ())
    fields = []
    for name, each in schema.get("properties", {}).items():
        if "const" in each:
            continue
        aspects = ["taken", "error", *([] if name in required else ["default"])]
        if (subject, name) not in BEYOND_ANY_BODY:
            aspects += _limited(each)
        facts = _facts(each, required=name in required)
        fields.append(Field(subject, name, facts, _ordered(aspects)))
    return fields


def _ordered(aspects: Iterable[str]) -> tuple[str, ...]:
    given = set(aspects)
    return tuple(aspect for aspect in ASPECTS if aspect in given)


def _open(schema: Json) -> bool:
    return any("const" not in each for each in schema.get("properties", {}).values())


def _resolved(schema: Json) -> Json:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return cast(Json, published()["components"]["schemas"][reference.rsplit("/", 1)[-1]])


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        here = [value["$ref"].rsplit("/", 1)[-1]] if "$ref" in value else []
        return here + [name for each in value.values() for name in _references(each)]
    return [name for each in value for name in _references(each)] if isinstance(value, list) else []


def members(schema: Json) -> list[Json]:
    """The schemas of which a value must match one."""
    inner = schema.get("anyOf") or schema.get("oneOf")
    return [each for part in inner for each in members(part)] if inner else [_resolved(schema)]


def _kinds(schema: Json) -> list[str]:
    return [kind for each in members(schema) if (kind := each.get("type", "any")) != "null"]


BOUNDS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "minLength": "≥ {} characters",
    "maxLength": "≤ {} characters",
    "minItems": "≥ {} items",
    "maxItems": "≤ {} items",
    "maxProperties": "≤ {} pairs",
    "pattern": "`{}`",
}


def _limits(schema: Json) -> list[str]:
    found = []
    for each in members(schema):
        if "enum" in each:
            found.append(", ".join(f"`{value}`" for value in each["enum"]))
        found += [text.format(_plain(each[key])) for key, text in BOUNDS.items() if key in each]
        keys, values = each.get("propertyNames", {}), each.get("additionalProperties", {})
        if "maxLength" in keys:
            longest = next(text for text in members(values) if "maxLength" in text)["maxLength"]
            found.append(f"keys ≤ {keys['maxLength']}, values ≤ {longest} characters")
    return found


def _plain(bound: Any) -> Any:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _limited(schema: Json) -> list[str]:
    return ["limit"] if _limits(schema) else []


def _facts(schema: Json, *, required: bool) -> str:
    kinds = " or ".join(dict.fromkeys(_kinds(schema)))
    nullable = any(each.get("type") == "null" for each in members(schema))
    default = schema.get("default")
    said = [
        ", ".join(filter(None, [kinds, "null" if nullable else ""])),
        "required" if required else "",
        f"default `{default}`" if default not in (None, "", [], {}) else "",
        *_limits(schema),
    ]
    return "; ".join(filter(None, said))


def shown_by(items: Iterable[pytest.Item]) -> Shown:
    """The names of the tests by subject, field and aspect."""
    found: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for item in items:
        for mark in item.iter_markers("covers"):
            subject, fields, aspects = mark.args
            for field, aspect in product(fields, aspects):
                found[subject, field, aspect].add(_name(item))
    return found


def missing(shown: Shown) -> list[str]:
    """What no test shows, and what tests claim to show though it does not exist."""
    known = {(field.subject, field.name) for field in wanted()}
    gaps = [
        f"{field.subject} {field.name}: {aspect}"
        for field in wanted()
        for aspect in field.wanted
        if not shown.get((field.subject, field.name, aspect))
    ]
    strays = {f"{subject} {field}: unknown" for subject, field, _ in shown} - {
        f"{subject} {field}: unknown" for subject, field in known
    }
    return gaps + sorted(strays)


def document(shown: Shown) -> str:
    """The page: a table a route, a table a nested schema."""
    lines = [INTRODUCTION]
    by_subject: dict[str, list[Field]] = defaultdict(list)
    for field in wanted():
        by_subject[field.subject].append(field)
    for heading, subjects in (
        ("Routes", [name for name, _ in routes()]),
        ("Parts of bodies", list(parts())),
    ):
        lines.append(f"## {heading}\n")
        for subject in subjects:
            lines += [f"### {subject}\n", f"| field | facts | {' | '.join(ASPECTS)} |"]
            lines.append("| --- | --- | --- | --- | --- | --- |")
            lines += [_row(field, shown) for field in by_subject[subject]]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


INTRODUCTION = """\
# What the tests show of the API

Written by `pytest --write-coverage-doc`; a test fails when it is out of date, or when a field of
the published `/openapi.json` is missing from it. For each field of each route: that it is *taken*,
what its *default* is, that its *limit* holds just within and just beyond, and the *error* when it
is wrong. Objects that are nested in bodies come after the routes, once each.
"""


def _row(field: Field, shown: Shown) -> str:
    cells = [
        "<br>".join(sorted(shown.get((field.subject, field.name, aspect), ())))
        for aspect in ASPECTS
    ]
    return f"| {' | '.join([field.name, field.facts, *cells])} |"


def _name(item: pytest.Item) -> str:
    path = item.path.relative_to(Path(__file__).parent).as_posix()
    return f"`{path.removesuffix('.py')}::{item.name.partition('[')[0].removeprefix('test_')}`"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The switch."""
    parser.addoption(
        "--write-coverage-doc",
        action="store_true",
        help="write docs/api-coverage.md from the collected tests, and run none",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", "covers(subject, field, aspects): what a test shows")


COLLECTED = pytest.StashKey[Shown]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note what all tests show before any is deselected; on demand, write that and run none."""
    shown = shown_by(items)
    config.stash[COLLECTED] = shown
    if config.getoption("write_coverage_doc"):
        for gap in missing(shown):
            config.get_terminal_writer().line(f"not shown: {gap}")
        DOCUMENT.write_text(document(shown), encoding="utf-8")
        items.clear()


def all_collected(config: pytest.Config) -> Shown | None:
    """What the tests show; None where only a part of them was collected."""
    whole = {str(config.rootpath / path) for path in config.getini("testpaths")}
    given = {str((config.invocation_params.dir / arg).resolve()) for arg in config.args}
    return config.stash[COLLECTED] if given == whole else None
