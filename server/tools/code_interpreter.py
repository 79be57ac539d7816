"""`code_interpreter`: Python that a model writes, run in its thread's session.

A step keeps with each call what the model wrote, which files the code left, and how much of its
output the model was shown, so that later prompts say the same again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar
from uuid import uuid4

from server.chat.values import ToolCall, ToolSpec
from server.db.database import Database, DatabaseFull, Tx
from server.db.stores import Record
from server.errors import WireError
from server.files.blobs import BlobStore, Incoming, StorageFull
from server.files.library import Library
from server.metrics import Metrics
from server.sandbox.values import (
    FileIn,
    Image,
    Output,
    Result,
    Sandbox,
    SandboxCrashed,
    SandboxUnavailable,
    SessionKey,
)
from server.schemas import JsonObject
from server.tools.code_arguments import CodeReader, code_in
from server.tools.folder import in_folder, path_of
from server.tools.tool import Answer, Count, Offer, Recalled, Scene, ToolFailed, longest

log = logging.getLogger(__name__)

T = TypeVar("T")
Write = Callable[[Incoming], Awaitable[None]]  # what is to be in a file

OUTCOMES: Final[Mapping[type[BaseException], str]] = {
    asyncio.CancelledError: "cancelled",
    SandboxCrashed: "crashed",
    SandboxUnavailable: "unavailable",
}
NAME = "code_interpreter"
DESCRIPTION: Final = (
    "Runs Python code and returns what it prints. Files are read and written in /mnt/data."
)
PARAMETERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"code": {"type": "string"}},
    "required": ["code"],
    "additionalProperties": False,
}
PURPOSE: Final = "assistants_output"  # of files that code makes
NO_CODE: Final = 'Nothing was run: the arguments must be an object with "code".'
NO_OUTPUT: Final = "(no output)"
DRAWN: Final = "[A figure was drawn. The user sees it.]"
NOT_KEPT: Final = "[A figure was drawn, but there is no room to keep it.]"
CRASHED: Final = "[The session crashed. Its variables are gone, and the files that it had written.]"
FAILURE: Final = "The code interpreter's session crashed."
MOST_FAILURES = 3  # of sessions under one run
REFUSED = (StorageFull, DatabaseFull, WireError)  # a file that there is no room for
GONE = (LookupError, SandboxCrashed, SandboxUnavailable)
LEAST_ROOM = 64  # tokens that a model is shown at least: the end of a traceback says what to mend


def names() -> Iterator[str]:
    yield NAME
    yield "python"
    yield "run_python"
    yield from (f"run_python_{number}" for number in count(2))


def offer(tx: Tx, run: Record, name: str, messages: Sequence[Record]) -> Offer:
    """Files are told beside the messages that they are attached to; others with the tool.

    So a new file changes nothing of what prompts began with.
    """
    named = in_folder(tx, run)
    paths = {file.id: path_of(file_name) for file_name, file in named.items()}
    attached = {message.id: _attached(message, paths) for message in messages}
    beside = {path for those in attached.values() for path in those}
    others = [path for path in paths.values() if path not in beside]
    description = f"{DESCRIPTION} {_listed(others)}." if others else DESCRIPTION
    return Offer(
        ToolSpec(name, description, PARAMETERS, strict=True),
        {message_id: _listed(those) for message_id, those in attached.items() if those},
        list(named),
    )


def _attached(message: Record, paths: Mapping[str, str]) -> list[str]:
    """The paths of what a message brings for code."""
    for_code = [
        each["file_id"]
        for each in message.attachments
        if any(tool["type"] == NAME for tool in each["tools"])
    ]
    return [paths[file_id] for file_id in dict.fromkeys(for_code) if file_id in paths]


def _listed(paths: Sequence[str]) -> str:
    return f"Files: {', '.join(paths)}"


class Reading:
    """A call while its code is written, which streams are told as code."""

    def __init__(self, call_id: str) -> None:
        self._id = call_id
        self._reader = CodeReader()
        self._code: list[str] = []

    @property
    def stored(self) -> JsonObject:
        return _call(self._id, "".join(self._code), [])

    def feed(self, arguments: str) -> JsonObject | None:
        return self._told(self._reader.feed(arguments))

    def finish(self) -> JsonObject | None:
        return self._told(self._reader.finish())

    def _told(self, code: str) -> JsonObject | None:
        self._code.append(code)
        return _more(input=code) if code else None


def reading(call_id: str, tool: JsonObject) -> Reading:
    return Reading(call_id)


def told(call: JsonObject) -> Iterator[JsonObject]:
    code = call["code_interpreter"]
    yield _call(call["id"], "", [])
    yield _more(input=code["input"])
    for index, output in enumerate(code["outputs"]):
        yield _more(outputs=[{"index": index, **output}])


def recalled(call: JsonObject) -> Recalled:
    asked, outputs = call["asked"], call["code_interpreter"]["outputs"]
    return Recalled(
        asked["arguments"],
        asked["problem"] or _shortened(_text_of(outputs, asked["files"]), asked["shown"]),
        figures=[output["image"]["file_id"] for output in outputs if output["type"] == "image"],
        files=asked["files"],
        failure=asked.get("failure", ""),
    )


def _text_of(outputs: Sequence[JsonObject], files: Sequence[str]) -> str:
    """What came of some code, as its model reads it."""
    parts = [output["logs"] if output["type"] == "logs" else DRAWN for output in outputs]
    if files:
        parts.append(_listed([path_of(name) for name in files]))
    return "\n".join(part.rstrip("\n") for part in parts) or NO_OUTPUT


def _shortened(text: str, most: int) -> str:
    """So many characters of a text, from its beginning and its end."""
    if len(text) <= most:
        return text
    tail = text[len(text) - most // 2 :] if most > 1 else ""
    return f"{text[: most - len(tail)]}\n[{len(text) - most} characters left out]\n{tail}"


async def _fitting(text: str, room: int, count_tokens: Count) -> int:
    """How many characters of a text can be shown, in so many tokens."""
    return await longest(len(text), room, lambda most: count_tokens(_shortened(text, most)))


class _Running:
    """A call while its code runs: what has come of it. Text that follows text is one output."""

    def __init__(self, call: ToolCall) -> None:
        self.code = code_in(call.arguments)
        self._call = call
        self._outputs: list[JsonObject] = []

    def printed(self, text: str) -> Answer:
        readable = text.encode("utf-8", "replace").decode()
        before = self._outputs[-1:]
        if before and before[0]["type"] == "logs":
            self._outputs[-1] = _logs(before[0]["logs"] + readable)
        else:
            self._outputs.append(_logs(readable))
        return self._told(_logs(readable))

    def drawn(self, file_id: str) -> Answer:
        self._outputs.append({"type": "image", "image": {"file_id": file_id}})
        return self._told(self._outputs[-1])

    async def over(
        self, scene: Scene, files: Sequence[str] = (), *, problem: str = "", failure: str = ""
    ) -> Answer:
        """The whole answer. A problem is all that the model is told."""
        text = _text_of(self._outputs, files)
        asked = {
            "arguments": self._call.arguments,
            "files": list(files),
            "shown": await _fitting(text, max(scene.room, LEAST_ROOM), scene.count),
            "problem": problem,
            "failure": failure,
        }
        return Answer(self._call.id, {**self._stored, "asked": asked})

    def _told(self, output: JsonObject) -> Answer:
        more = _more(outputs=[{"index": len(self._outputs) - 1, **output}])
        return Answer(self._call.id, self._stored, more)

    @property
    def _stored(self) -> JsonObject:
        return _call(self._call.id, self.code, list(self._outputs))


class CodeInterpreter:
    """Answers calls of the tool. Owned by the event loop."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        library: Library,
        sandbox: Sandbox,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._db = db
        self._blobs = blobs
        self._library = library
        self._sandbox = sandbox
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def problem(self) -> str | None:
        """Why no code can be run; None: it can."""
        return self._sandbox.problem

    async def answer(
        self, calls: Sequence[ToolCall], tool: JsonObject, scene: Scene
    ) -> AsyncGenerator[Answer, None]:
        failures = scene.failures
        for call in calls:
            async with aclosing(self._answered(_Running(call), scene)) as answers:
                async for answer in answers:
                    yield answer
                    failures += bool(answer.stored.get("asked", {}).get("failure"))
            if failures >= MOST_FAILURES:
                raise ToolFailed(f"{FAILURE} It was tried {failures} times.")

    async def _answered(self, running: _Running, scene: Scene) -> AsyncGenerator[Answer, None]:
        if not running.code.strip():
            yield await running.over(scene, problem=NO_CODE)
            return
        files: list[str] = []
        try:
            async with aclosing(self._run(scene.run, running.code)) as events:
                async for event in events:
                    if isinstance(event, Result):
                        files = [written.name for written in event.written]
                    elif isinstance(event, Image):
                        figure = await self._figure(scene.run, event)
                        try:
                            yield running.drawn(figure) if figure else running.printed(NOT_KEPT)
                        except GeneratorExit:
                            if figure:
                                self.drop(scene.run, figure)
                            raise
                    else:
                        yield running.printed(event.text)
        except SandboxUnavailable as error:
            raise ToolFailed(str(error)) from error
        except SandboxCrashed as error:
            log.warning("sandbox_crashed", extra={"reason": str(error)})
            yield running.printed(CRASHED)
            yield await running.over(scene, failure=FAILURE)
        else:
            yield await running.over(scene, files)

    async def _run(self, run: Record, code: str) -> AsyncGenerator[Output | Result, None]:
        """Outputs as they come, then the result. To close it stops the code, and waits for nobody.

        Raises SandboxUnavailable, SandboxCrashed.
        """
        files, has_run = await self._db.read(
            lambda tx: (self._files(tx, run), tx.steps.any_code_run(run.thread_id))
        )
        outputs = asyncio.Queue[Output | None]()
        work = self._sandbox.run(_session_of(run), code, files, outputs.put_nowait, has_run=has_run)
        task = asyncio.create_task(self._counted(work))
        self._tasks.add(task)
        task.add_done_callback(lambda _: outputs.put_nowait(None))
        task.add_done_callback(self._settled)
        try:
            while (output := await outputs.get()) is not None:
                yield output
            yield await task
        finally:
            task.cancel()

    async def _counted(self, work: Coroutine[None, None, Result]) -> Result:
        try:
            with self._metrics.code_seconds.time():
                result = await work
        except BaseException as error:
            self._metrics.code_calls.labels(OUTCOMES.get(type(error), "failed")).inc()
            raise
        self._metrics.code_calls.labels("limit" if result.limit else "completed").inc()
        if result.limit is not None:
            self._metrics.code_limits.labels(result.limit).inc()
        return result

    def _files(self, tx: Tx, run: Record) -> list[FileIn]:
        named = in_folder(tx, run).items()
        return [FileIn(name, self._blobs.path(file.sha256), file.id) for name, file in named]

    async def _figure(self, run: Record, image: Image) -> str | None:
        """The id of a new file that is the figure; None if there is no room for it."""
        name = f"{uuid4()}.{image.format}"
        try:
            file = await self._made(run, name, lambda incoming: incoming.write(image.data))
        except REFUSED:
            return None
        return str(file.id)

    async def keep(self, run: Record, name: str) -> str | None:
        """The id of a new file that is what code has left under a name; None if it is gone."""
        try:
            with TemporaryDirectory(prefix="assistants-") as folder:
                path = Path(folder, "file")
                await self._sandbox.read(_session_of(run), name, path)
                file = await self._made(
                    run, path_of(name), lambda incoming: incoming.write_file(path)
                )
        except (*REFUSED, *GONE, OSError) as error:
            log.info("file_not_kept", extra={"reason": type(error).__name__})
            return None
        return str(file.id)

    def drop(self, run: Record, file_id: str) -> None:
        """Delete a file that was kept, since nobody was told of it."""
        self._begin(self._library.delete(run.project_id, file_id))

    def forget(self, project: str, thread_id: str) -> None:
        """A thread was deleted: end its session."""
        self._begin(self._sandbox.close_session((project, thread_id)))

    async def stop(self) -> None:
        """Return when no code is being stopped and no file made or deleted any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _made(self, run: Record, name: str, write: Write) -> Record:
        """A new file. It goes again if nobody waits for it any more, and never only half of it.

        Raises REFUSED, OSError.
        """
        making = self._begin(self._added(run, name, write))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._begin(self._unmade(run, making))
            raise

    async def _added(self, run: Record, name: str, write: Write) -> Record:
        async with self._library.receive() as incoming:
            await write(incoming)
            return await self._library.add(run.project_id, incoming, name, PURPOSE, None)

    async def _unmade(self, run: Record, making: asyncio.Task[Record]) -> None:
        await self._library.delete(run.project_id, (await making).id)

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """In a task that nobody cancels."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settled)
        return task

    def _settled(self, task: asyncio.Task[Any]) -> None:
        """Whoever gave up does not ask how it ended."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("code_task_failed", extra={"reason": type(error).__name__})


def _session_of(run: Record) -> SessionKey:
    return run.project_id, run.thread_id


def _logs(text: str) -> JsonObject:
    return {"type": "logs", "logs": text}


def _call(call_id: str, code: str, outputs: list[JsonObject]) -> JsonObject:
    return {"id": call_id, **_more(input=code, outputs=outputs)}


def _more(**told: Any) -> JsonObject:
    return {"type": NAME, NAME: told}
