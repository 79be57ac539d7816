"""List parameters to the slice of a store, and to the metadata that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from server import schemas
from server.api.validation import repeated, unknown
from server.db.stores import Slice

Pairs = dict[str, str]

_METADATA: Final[TypeAdapter[Pairs]] = TypeAdapter(schemas.Metadata)
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


def wanted_metadata(beside: type[schemas.ListQuery]) -> Callable[[Request], Awaitable[Pairs]]:
    """What finds the pairs of `metadata[key]=value` among the names of a query.

    It raises InvalidRequest for any other name, and for one that comes twice: whoever misspells a
    filter must not believe that he has what he asked for. RequestValidationError for the pairs.
    """
    names = {"metadata", *beside.model_fields}

    async def metadata_of(request: Request) -> Pairs:
        query = request.query_params
        for name, times in Counter(name for name, _ in query.multi_items()).items():
            if name not in names and not _is_pair(name):
                raise unknown(name)
            if times > 1:
                raise repeated(name, times)
        given: Any = query.get("metadata")
        if given is None:
            pairs = ((name, value) for name, value in query.items() if _is_pair(name))
            given = {name.removeprefix(_OPENING).removesuffix(_CLOSING): v for name, v in pairs}
        try:
            return _METADATA.validate_python(given)
        except ValidationError as error:
            faults = [
                {**fault, "loc": ("query", "metadata", *fault["loc"])} for fault in error.errors()
            ]
            raise RequestValidationError(faults) from error

    return metadata_of


def _is_pair(name: str) -> bool:
    return name.startswith(_OPENING) and name.endswith(_CLOSING)


MetadataOfThreads = Annotated[Pairs, Depends(wanted_metadata(schemas.ListQuery))]
MetadataOfRuns = Annotated[Pairs, Depends(wanted_metadata(schemas.RunsQuery))]
