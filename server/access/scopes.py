"""What a key may do, by the names that OpenAI has for it: `api.<resource>.read` and `.write`.

A `read` key reads. A `runs` key does everything to threads, their messages and runs, with the
vector stores that come of making them, and else reads what an application shows of them: models,
and files by their ids. A `metrics` key has the metrics,
which tell of all projects and so are no project's.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Scope = Literal["all", "read", "runs", "metrics"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

METRICS: Final = "metrics.read"
ASKS_A_MODEL: Final = "model.request"
_READING: Final = frozenset({"GET", "HEAD"})
_SEARCH: Final = "/v1/vector_stores/{vector_store_id}/search"  # a POST that only reads
_SHOWN_OF_RUNS: Final = frozenset(
    {
        "/v1/models",
        "/v1/models/{model:path}",
        "/v1/files/{file_id}",
        "/v1/files/{file_id}/content",
    }
)


def needed(method: str, route: str) -> str:
    """The name of what a request asks for; `route` is its path's template."""
    if not route.startswith("/v1/"):
        return METRICS
    resource = route.split("/")[2]
    if resource in ("chat", "embeddings"):
        return ASKS_A_MODEL
    resource = {"models": "model", "uploads": "files"}.get(resource, resource)
    reads = method in _READING or route == _SEARCH
    return f"api.{resource}.{'read' if reads else 'write'}"


def allows(scope: Scope, method: str, route: str) -> bool:
    """Whether a key of this scope may do that."""
    wanted = needed(method, route)
    if wanted == METRICS or scope == "metrics":
        return wanted == METRICS and scope == "metrics"
    if scope == "read":
        return wanted.endswith(".read")
    if scope == "runs":
        reads = method in _READING and route in _SHOWN_OF_RUNS
        return reads or route.startswith("/v1/threads")
    return True
