"""The published `/openapi.json`: what FastAPI cannot know of the wire."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from server import schemas


def describe(app: FastAPI) -> None:
    """Errors are 400s in OpenAI's form, never 422s; run endpoints can answer with a stream.

    Assistants and threads need a header, which their routes read without a parameter.
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
    template = "#/components/schemas/{model}"
    components["ErrorBody"] = schemas.ErrorBody.model_json_schema(ref_template=template)
    components.update(components["ErrorBody"].pop("$defs", {}))
    for path, methods in document["paths"].items():
        for operation in methods.values():
            _correct_responses(operation["responses"], operation.get("operationId", ""))
            if path.startswith(BEHIND_BETA):
                operation.setdefault("parameters", []).append(BETA_HEADER)


def _correct_responses(responses: dict[str, Any], operation: str) -> None:
    error = {"schema": {"$ref": "#/components/schemas/ErrorBody"}}
    responses.pop("422", None)
    responses["4XX"] = {"description": "Refused", "content": {"application/json": error}}
    if operation in STREAMING:
        responses["200"].setdefault("content", {})["text/event-stream"] = {
            "schema": {"type": "string"}
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
