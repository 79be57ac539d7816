"""The published `/openapi.json`: what FastAPI cannot know of the wire."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from server import schemas
from server.api.respond import FILES


def describe(app: FastAPI) -> None:
    """Errors are 400s in OpenAI's form, never 422s; run endpoints can answer with a stream.

    Assistants and threads need a header, and two routes a form, which they read without a
    parameter.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _correct(generate())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _correct(document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    undeclared: list[type[BaseModel]] = [schemas.ErrorBody, schemas.FileErrorBody]
    for model in (*undeclared, *FORMS.values()):
        schema = model.model_json_schema(ref_template=COMPONENT)
        components.update(schema.pop("$defs", {}))
        components[model.__name__] = schema
    for path, methods in document["paths"].items():
        error = schemas.FileErrorBody if path.startswith(FILES) else schemas.ErrorBody
        for operation in methods.values():
            name = operation.get("operationId", "")
            _correct_responses(operation["responses"], name, error)
            if name in FORMS:
                form = {"multipart/form-data": _schema_of(FORMS[name])}
                operation["requestBody"] = {"required": True, "content": form}
            if path.startswith(BEHIND_BETA):
                operation.setdefault("parameters", []).append(BETA_HEADER)


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": COMPONENT.format(model=model.__name__)}}


def _correct_responses(
    responses: dict[str, Any], operation: str, error_body: type[BaseModel]
) -> None:
    error = _schema_of(error_body)
    responses.pop("422", None)
    responses["4XX"] = {"description": "Refused", "content": {"application/json": error}}
    if operation in STREAMING:
        responses["200"].setdefault("content", {})["text/event-stream"] = {
            "schema": {"type": "string"}
        }


COMPONENT = "#/components/schemas/{model}"
FORMS: dict[str, type[BaseModel]] = {
    "createFile": schemas.CreateFile,
    "addUploadPart": schemas.AddUploadPart,
}
BEHIND_BETA = ("/v1/assistants", "/v1/threads")
BETA_HEADER = {
    "name": "OpenAI-Beta",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "const": "assistants=v2"},
}
STREAMING = frozenset(
    {
        "createChatCompletion",
        "createRun",
        "createThreadAndRun",
        "streamRunEvents",
        "submitToolOuputsToRun",
    }
)
