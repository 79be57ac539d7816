"""Log lines: what they carry, and what they never say."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import Iterator

import httpx
import openai
import pytest

from server import logs
from server.engine.scripted import ScriptedEngine
from server.logs import JsonLines, TextLines, told
from tests.support import eventually

SECRET = "the words of somebody"


class Lines(logging.Handler):
    """Keeps the JSON lines that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, object]] = []
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))

    def of(self, event: str) -> list[dict[str, object]]:
        return [line for line in self.lines if line["event"] == event]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """All that the server logs."""
    logger, handler = logging.getLogger("server"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@contextlib.contextmanager
def configured(level: str, form: str) -> Iterator[io.StringIO]:
    """The root logger as the server sets it up, writing to a text."""
    root, ours = logging.getLogger(), logging.getLogger(logs.OURS)
    before = root.handlers[:], root.level, ours.level
    root.handlers.clear()
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        logs.configure(level, form)
    try:
        yield written
    finally:
        root.handlers[:], level_before, ours_before = before
        root.setLevel(level_before)
        ours.setLevel(ours_before)


def record(**extra: object) -> logging.LogRecord:
    """A line of ours."""
    return logging.getLogger("server.x").makeRecord(
        "server.x", logging.INFO, "", 0, "done", (), None, extra=extra
    )


async def test_what_work_is_about_is_on_its_lines() -> None:
    """Also on those of its tasks and threads, and what became known later; not on later ones."""
    line = JsonLines().format

    async def child() -> str:
        return await asyncio.to_thread(line, record())

    with logs.about(request_id="req_1"):
        task = asyncio.create_task(child())
        with logs.about(run_id="run_1"):
            assert json.loads(line(record(ms=3))).items() >= {
                ("request_id", "req_1"),
                ("run_id", "run_1"),
                ("ms", 3),
            }
        logs.note(thread_id="thread_1")
        assert "run_1" not in line(record())
        found = json.loads(await task)
        assert (found["request_id"], found["thread_id"]) == ("req_1", "thread_1")
    logs.note(thread_id="thread_2")
    assert set(json.loads(line(record()))) == {"time", "level", "event"}


def test_a_field_cannot_look_like_another() -> None:
    """Nor begin a new line."""
    said = TextLines().format(record(a="one", b='x\ninfo request status=200 "', c=None))
    assert said.endswith('info done a=one b="x\\ninfo request status=200 \\"" c=None')


def test_an_exception_is_told_without_its_words() -> None:
    """Its type, its place, and those behind it and within it; the system's words are nobody's."""
    try:
        try:
            raise OSError(28, "No space left on device", SECRET)
        except OSError as full:
            raise ExceptionGroup(SECRET, [ValueError(SECRET)]) from full
    except ExceptionGroup as group:
        said = told(group)
    assert SECRET not in said
    assert said.index("OSError: No space left on device") < said.index("ExceptionGroup")
    assert "ValueError" in said
    assert said.count("test_logs.py") == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_libraries_are_heard_from_warnings_up(form: str) -> None:
    """At the level debug, too: they log what passes through them."""
    with configured("debug", form) as written:
        logging.getLogger("sse_starlette.sse").debug(SECRET)
        logging.getLogger("some.library").info(SECRET)
        logging.getLogger("python_multipart.multipart").warning(SECRET)
        logging.getLogger("server.x").debug("ours")
        logging.getLogger("some.library").warning("theirs")
    assert SECRET not in written.getvalue()
    assert ["ours" in line or "theirs" in line for line in written.getvalue().splitlines()] == [
        True,
        True,
    ]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_task_that_nobody_awaits_is_told_without_its_words(form: str) -> None:
    """asyncio itself would show its exception."""
    with configured("info", form) as written:
        loop = asyncio.get_running_loop()
        fault = ValueError(SECRET)
        logs.loop_fault(loop, {"message": f"never retrieved: {fault!r}", "exception": fault})
        logs.loop_fault(loop, {"message": "Task was destroyed but it is pending!"})
    assert "ValueError" in written.getvalue()
    assert "destroyed" in written.getvalue()
    assert "task_failed" in written.getvalue()
    assert SECRET not in written.getvalue()


async def test_lines_of_a_run_and_of_its_requests_have_the_same_ids(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine, lines: Lines
) -> None:
    """And a request's line the id that its answer had."""
    engine.says("Three.")
    assistant = await client.beta.assistants.create(model="gpt-4o")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "?"}])
    url = f"/v1/threads/{thread.id}/runs"
    created = await http.post(url, json={"assistant_id": assistant.id})
    run_id = created.json()["id"]

    async def over() -> list[dict[str, object]]:
        return lines.of("run")

    [ended] = await eventually(over, bool)
    assert (ended["thread_id"], ended["run_id"]) == (thread.id, run_id)
    assert (ended["status"], ended["model"]) == ("completed", "tiny-assistant")
    assert "request_id" not in ended
    read = await http.get(f"{url}/{run_id}")
    by_request = {line["request_id"]: line for line in lines.of("request")}
    for answer in created, read:
        line = by_request[answer.headers["x-request-id"]]
        assert (line["thread_id"], line["run_id"]) == (thread.id, run_id)


async def test_a_path_is_not_logged_for_an_id(http: httpx.AsyncClient, lines: Lines) -> None:
    """Clients may write anything there."""
    await http.get(f"/v1/threads/thread_{SECRET}/runs/run_x")
    assert "thread_id" not in lines.of("request")[0]
    assert SECRET not in json.dumps(lines.lines)
