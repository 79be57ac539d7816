"""List parameters to the slice of a store, and to the metadata that is asked for."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from server import schemas
from server.db.stores import Slice

_METADATA: Final[TypeAdapter[dict[str, str]]] = TypeAdapter(schemas.Metadata)
_OPENING, _CLOSING = "metadata[", "]"

# FastAPI knows no queries whose names are the client's.
WITH_METADATA: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "deepObject",
            "explode": True,
            "required": False,
            "schema": _METADATA.json_schema(),
        }
    ]
}


def part_of(query: schemas.ListQuery) -> Slice:
    """The part of the list that the query asks for."""
    return Slice(query.limit, query.order, query.after, query.before)


async def metadata_of(request: Request) -> dict[str, str]:
    """The pairs of `metadata[key]=value`. Raises RequestValidationError."""
    given: Any = request.query_params.get("metadata")
    if given is None:
        given = {
            name.removeprefix(_OPENING).removesuffix(_CLOSING): value
            for name, value in request.query_params.items()
            if name.startswith(_OPENING) and name.endswith(_CLOSING)
        }
    try:
        return _METADATA.validate_python(given)
    except ValidationError as error:
        faults = [
            {**fault, "loc": ("query", "metadata", *fault["loc"])} for fault in error.errors()
        ]
        raise RequestValidationError(faults) from error


WantedMetadata = Annotated[dict[str, str], Depends(metadata_of)]
