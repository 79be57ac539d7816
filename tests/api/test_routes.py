"""The table of routes: none can forget who calls, or the beta header."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from server.api.deps import authenticate, require_beta
from server.app import ROUTERS
from tests.covering import published

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def calls_of(dependant: Dependant) -> Iterator[Any]:
    """Everything that is called before an endpoint is."""
    for each in dependant.dependencies:
        yield each.call
        yield from calls_of(each)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.methods} {route.path}")
def test_a_route_asks_who_calls_and_for_the_beta_header(route: APIRoute) -> None:
    """Everything under /v1 and the metrics the first, assistants and threads the second."""
    called = set(calls_of(route.dependant))
    behind_beta = route.path.startswith(("/v1/assistants", "/v1/threads"))
    assert (authenticate in called) == route.path.startswith(("/v1/", "/metrics"))
    assert (require_beta in called) == behind_beta


def test_what_is_outside_v1_is_known() -> None:
    """Health and readiness answer without a key, metrics to one of their own."""
    outside = {route.path for route in ROUTES if not route.path.startswith("/v1/")}
    assert outside == {"/healthz", "/readyz", "/metrics"}


def test_every_route_is_published() -> None:
    """The document lists what is served, but for HEAD, which is GET without its body."""
    served = {
        (route.path.replace(":path", ""), method)
        for route in ROUTES
        for method in route.methods
        if method != "HEAD"
    }
    listed = {
        (path, method.upper())
        for path, methods in published()["paths"].items()
        for method in methods
    }
    assert served == listed


def test_a_look_at_a_path_rules_out_nothing_that_matches() -> None:
    """A route takes what its pattern takes, with an id in place of each parameter, or without."""
    ids = ("thread_1", "runs", "cancel", "a b", "", "a/b")
    paths = {re.sub(r"\{[^}]*\}", ident, route.path) for route in ROUTES for ident in ids}
    for route in ROUTES:
        for path in paths | {path + "/" for path in paths}:
            scope = {"type": "http", "path": path, "root_path": "", "method": "GET"}
            assert route.matches(scope)[0] == APIRoute.matches(route, scope)[0], (route, path)
