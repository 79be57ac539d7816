"""The published `/openapi.json`: what FastAPI cannot know of the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from server import schemas
from server.api.busy import HEADER, busy_policy
from server.api.once import LONGEST_KEY, posting
from server.api.respond import FILES
from server.config import BUSY_POLICIES

Json = dict[str, Any]

COMPONENT: Final = "#/components/schemas/{model}"
FORMS: Final[dict[str, type[BaseModel]]] = {
    "createFile": schemas.CreateFile,
    "addUploadPart": schemas.AddUploadPart,
}
FORM_ENCODING: Final = {"expires_after": {"style": "deepObject", "explode": True}}
STREAMS: Final[dict[str, type[BaseModel]]] = {
    "createChatCompletion": schemas.ChatCompletionStreamEvent,
    "createRun": schemas.AssistantStreamEvent,
    "createThreadAndRun": schemas.AssistantStreamEvent,
    "streamRunEvents": schemas.AssistantStreamEvent,
    "submitToolOuputsToRun": schemas.AssistantStreamEvent,
}
ALWAYS_REFUSED: Final = frozenset({"deleteModel"})
BEHIND_BETA: Final = ("/v1/assistants", "/v1/threads")
BETA_HEADER: Final = {
    "name": "OpenAI-Beta",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "enum": ["assistants=v2"]},
}
OPTIONAL: Final[dict[Any, Json]] = {
    posting: {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    },
    busy_policy: {
        "name": HEADER,
        "in": "header",
        "required": False,
        "schema": {"type": "string", "enum": list(BUSY_POLICIES)},
    },
}
KEY: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "Not needed where the server has no keys.",
}


def describe(app: FastAPI) -> None:
    """Have the application publish the document with corrections."""
    generate = app.openapi

    def openapi() -> Json:
        if app.openapi_schema is None:
            _correct(generate(), _optional_headers(app))
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _optional_headers(app: FastAPI) -> dict[str, list[Json]]:
    """By operation, those that its dependencies read."""
    return {
        str(route.operation_id): [
            OPTIONAL[needed.call]
            for needed in route.dependant.dependencies
            if needed.call in OPTIONAL
        ]
        for route in app.routes
        if isinstance(route, APIRoute)
    }


def _correct(document: Json, optional: dict[str, list[Json]]) -> None:
    components = document["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for name, schema in _undeclared():
        components["schemas"].setdefault(name, schema)
    components["securitySchemes"] = {"key": KEY}
    for path, methods in document["paths"].items():
        if path.startswith("/v1/"):
            for operation in methods.values():
                _correct_operation(path, operation)
                if headers := optional[operation["operationId"]]:
                    operation.setdefault("parameters", []).extend(headers)
                _correct_body(operation, components["schemas"])


def _undeclared() -> Iterator[tuple[str, Json]]:
    """The schemas that no endpoint declares: of errors, of forms, and of what streams carry."""
    errors: tuple[type[BaseModel], ...] = (schemas.ErrorBody, schemas.FileErrorBody)
    for model in (*FORMS.values(), *errors, *STREAMS.values()):
        given = model in FORMS.values()
        schema = model.model_json_schema(
            mode="validation" if given else "serialization", ref_template=COMPONENT
        )
        yield from schema.pop("$defs", {}).items()
        yield model.__name__, schema


def _correct_operation(path: str, operation: Json) -> None:
    """Errors are in OpenAI's form, and none is a 422; a stream is one of the answers to some.

    Assistants and threads need a header, and two routes a form, which they read without a
    parameter.
    """
    name, responses = operation["operationId"], operation["responses"]
    error = _json(schemas.FileErrorBody if path.startswith(FILES) else schemas.ErrorBody)
    responses.pop("422", None)
    responses["4XX"] = {"description": "Refused", "content": error}
    responses["5XX"] = {"description": "A fault, or not now", "content": error}
    if name in ALWAYS_REFUSED:
        del responses["200"]
    if name in STREAMS:
        answer = responses["200"].setdefault("content", {})
        answer["text/event-stream"] = {"schema": _reference(STREAMS[name])}
    if name in FORMS:
        form = {"schema": _reference(FORMS[name]), "encoding": FORM_ENCODING}
        operation["requestBody"] = {"content": {"multipart/form-data": form}}
    if path.startswith(BEHIND_BETA):
        operation.setdefault("parameters", []).append(BETA_HEADER)
    operation["security"] = [{"key": []}, {}]


def _correct_body(operation: Json, components: Json) -> None:
    """No body at all is an empty object, which does where nothing in it is required."""
    body = operation.get("requestBody")
    if body is not None:
        ((_, described),) = body["content"].items()
        name = described["schema"]["$ref"].rpartition("/")[2]
        body["required"] = bool(components[name].get("required"))


def _json(model: type[BaseModel]) -> Json:
    return {"application/json": {"schema": _reference(model)}}


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": COMPONENT.format(model=model.__name__)}
