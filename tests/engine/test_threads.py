"""The threads of a worker: how much stack each has."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from server.engine import worker


def test_a_large_stack_is_the_vocabularys_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that are started later have the usual one."""
    sizes: list[int] = []
    start = worker._start

    def noted(name: str, target: Callable[[], None]) -> threading.Thread:
        sizes.append(threading.stack_size())
        return start(name, target)

    monkeypatch.setattr(worker, "_start", noted)
    worker._start_deep("deep", lambda: None).join()
    assert sizes == [worker._DEEP_STACKS[0]]
    assert threading.stack_size() == 0


def test_where_a_large_stack_cannot_be_had_a_smaller_one_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Down to the usual one; the worker starts in any case."""
    tried: list[int] = []
    start = worker._start

    def start_with_little(name: str, target: Callable[[], None]) -> threading.Thread:
        size = threading.stack_size()
        tried.append(size)
        if size:
            raise RuntimeError("can't start new thread")
        return start(name, target)

    monkeypatch.setattr(worker, "_start", start_with_little)
    ran = threading.Event()
    worker._start_deep("deep", ran.set).join()
    assert ran.is_set()
    assert tried == [*worker._DEEP_STACKS, 0]
