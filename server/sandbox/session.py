"""One thread's session: its calls, one after the other, and the limits that they may hit.

Owned by one event loop.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from server.config import CodeInterpreterSettings
from server.sandbox.frames import CHUNK, MOST_NAMES, MOST_RAW, Frame, Head, can_be_told
from server.sandbox.places import DATA, TMP, Naming, Places, places_in
from server.sandbox.process import Lost, SandboxProcess
from server.sandbox.usage import (
    BUFFERED,
    Held,
    Meter,
    TooMuch,
    at_work,
    held_in_folder,
    held_in_namespace,
    without_shared,
)
from server.sandbox.values import (
    FileIn,
    Image,
    Limit,
    Logs,
    Output,
    Result,
    SandboxCrashed,
    Written,
)

_MODULES: Final = ("numpy", "pandas", "matplotlib.pyplot")
_GRACE: Final = 2.0  # seconds for code to end when it is interrupted at a limit
GRACE_ON_CANCEL: Final = 0.3
_HEARING: Final = 0.05  # seconds: what was said while the loop was held up is heard by then
_PATIENCE: Final = 60.0  # seconds, for what takes none: files in and out, imports
_BATCH: Final = 0.05  # seconds that printed text waits for more
_BATCH_BYTES: Final = 2**14
_ANSWERS: Final = ("done", "image", "chunk")
_SPARE_CHUNKS: Final = 2  # more of a file than its full ones
_FLOOD: Final = 250  # times what is kept of the output
_PLACES: Final = (DATA, TMP, "/dev/shm")
_WATCHES: Final = 4096  # of epoll: a user has so many, and may be the server's
_OURS: Final = 2  # processes that are there before the code starts any
_LOOKS: Final = 10  # at most, at whether it is at rest after an interrupt
_LOOKS_AT_REST: Final = 2  # in a row
_BETWEEN_LOOKS: Final = 0.01  # seconds
_DEAF: Final = "It did not stop when it was interrupted."
_KEPT: Final = "Variables and files are kept."
_GONE: Final = "The session was ended: its variables and files are gone."


# While it is in use a file's bytes are at its path. Raises OSError if they cannot be.
Fetch = Callable[[FileIn], contextlib.AbstractAsyncContextManager[None]]


def is_at_hand(_: FileIn) -> contextlib.AbstractAsyncContextManager[None]:
    """The files of a server on the same machine need not be fetched."""
    return contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that code is past, and what is said of it."""

    limit: Limit
    text: str


class Session:
    """A Python that remembers. One call at a time is the caller's to see to."""

    def __init__(self, process: SandboxProcess, settings: CodeInterpreterSettings) -> None:
        self._process = process
        self._settings = settings
        self._places: Places = {} if process.folder is None else places_in(str(process.folder))
        self._number = 0
        self._call: _Call | None = None
        self._meter = Meter()
        self._put = dict[str, str]()
        self._too_large = set[str]()  # keys of files
        self._heard = 0  # bytes of what was printed
        self._owes = False  # an answer
        self._may_come = dict[str, int]()  # frames of each kind before it has answered
        self._may_go_on = False  # what the last call has left behind
        self._ending: Excess | None = None  # what it is ended for
        process.heard = self._hear

    @property
    def is_over(self) -> bool:
        return self._process.is_over

    @property
    def was_killed(self) -> bool:
        """Whether it was ended for what it took."""
        return self._ending is not None

    @property
    def is_busy(self) -> bool:
        return self._call is not None

    @property
    def is_at_work(self) -> bool:
        """Whether a call is under way, or may have left processes behind."""
        return self.is_busy or self._may_go_on

    @property
    def pids(self) -> list[int]:
        """Its processes; none if it is over."""
        return self._process.pids()

    async def warm_up(self) -> None:
        """Import what most code needs. Raises SandboxCrashed."""
        async with self._talking(_Call(0, 0, lambda _: None)):
            await self._ask({"do": "warm", "modules": _MODULES})

    async def run(
        self,
        code: str,
        files: Iterable[FileIn],
        emit: Callable[[Output], None],
        *,
        note: str | None = None,
        fetch: Fetch = is_at_hand,
    ) -> Result:
        """As Sandbox.run; `note` is said behind what the code says. A missing file is fetched.

        Raises SandboxCrashed, and what `fetch` raises.
        """
        settings = self._settings
        call = _Call(settings.output_bytes, settings.figures, emit, self._places)
        async with self._talking(call):
            for file in files:
                if self._put.get(file.name) != file.key:
                    await self._put_file(file, call, fetch)
            try:
                written = await self._run(code, call)
            except SandboxCrashed:
                if self._ending is None:
                    raise
                call.hit(self._ending, _GONE)
                written = []
            for said in (note, call.problem):
                if said is not None:
                    call.say(said)
            call.flush(last=True)
            self._may_go_on = True  # until somebody has looked
            return Result(call.outputs, written, call.problem, call.limit)

    async def read(self, name: str, into: Path) -> int:
        """As Sandbox.read."""
        async with self._talking(_Call(0, 0, lambda _: None)), asyncio.timeout(_PATIENCE):
            chunks = self._settings.file_bytes // CHUNK + _SPARE_CHUNKS
            number = await self._send({"do": "get", "name": name}, chunks=chunks)
            with await asyncio.to_thread(into.open, "wb") as file:
                size = 0
                while self._owes:
                    head, raw = await self._next(number)
                    await asyncio.to_thread(file.write, raw)
                    size += len(raw)
                    if size > self._settings.file_bytes:
                        raise SandboxCrashed("A file is larger than one can be.")
            if head.get("gone"):
                raise LookupError(name)
            return size

    async def check(self, threads: Executor) -> None:
        """End it if it takes more than it may. Called often while it is busy."""
        pids = self.pids
        if not self.is_busy:  # a look that takes long may end behind a later call's end
            self._may_go_on = len(pids) > _OURS
        if not pids:
            return
        loop = asyncio.get_running_loop()
        try:
            excess = await loop.run_in_executor(threads, self._excess, pids)
        except TooMuch:
            excess = Excess("unseen", "The code has more memory and files than can be looked at.")
        except PermissionError:
            excess = Excess("unseen", "The code has a process that nobody may look at.")
        except OSError:  # it has just ended
            return
        if excess is not None:
            await self.end(excess)

    async def end(self, excess: Excess | None = None) -> None:
        """Returns when nothing of it is left."""
        self._ending = self._ending or excess
        await self._process.kill("it was ended" if excess is None else excess.text)

    def held(self, pids: Iterable[int]) -> Held:
        """What it holds. Raises OSError if nobody may look there, or it is over, TooMuch."""
        settings, folder = self._settings, self._process.folder
        if folder is None:
            return held_in_namespace(self._process.root, _PLACES, pids)
        return held_in_folder(folder, settings.inodes, pids, settings.file_bytes)

    def _excess(self, pids: list[int]) -> Excess | None:
        """The limit that it is past."""
        settings = self._settings
        taken, held = self._meter.read(pids), self.held(pids)
        room = settings.memory - held.sockets * BUFFERED
        if taken.memory > room and without_shared(pids) > room:
            return Excess("memory", f"The code took more memory than {_size(settings.memory)}.")
        if taken.seconds > settings.cpu_seconds:
            most = f"{settings.cpu_seconds} seconds of processor time"
            return Excess("processor", f"The session took more than {most}.")
        if taken.processes > settings.processes + _OURS:
            most = f"{settings.processes} processes"
            return Excess("processes", f"The code had more than {most}.")
        if held.files > settings.inodes:
            return Excess("files", f"The code made more than {settings.inodes:,} files.")
        if held.locks > settings.inodes:
            most = f"{settings.inodes:,} locks of parts of files"
            return Excess("locks", f"The code has more than {most}.")
        if held.watches > _WATCHES:
            return Excess("watches", f"The code watches more than {_WATCHES:,} files with epoll.")
        if held.size > settings.disk:
            return Excess("disk", f"The code wrote more than {_size(settings.disk)}.")
        return None

    async def _run(self, code: str, call: _Call) -> list[Written]:
        """Raises SandboxCrashed."""
        timer = asyncio.ensure_future(self._limit_time(call))
        flood = Excess("output", f"The code printed more than {_size(call.flood)}.")
        call.flooded = lambda: self._interrupt(call, flood)
        figures = self._settings.figures
        asking = asyncio.ensure_future(self._ask({"do": "run"}, _encoded(code), images=figures))
        try:
            answer = await asyncio.shield(asking)
            if call.excess is not None and not await self._comes_to_rest():
                await self.end(_deaf(call.excess))
                raise SandboxCrashed(_DEAF)
        except asyncio.CancelledError:
            await self._stop(asking)
            raise
        finally:
            timer.cancel()
        return _written(answer)

    async def _limit_time(self, call: _Call) -> None:
        await asyncio.sleep(self._settings.seconds)
        await asyncio.sleep(_HEARING)  # the code may have ended while the loop was held up
        late = f"The code ran for more than {self._settings.seconds:g} seconds."
        self._interrupt(call, Excess("time", late))

    def _interrupt(self, call: _Call, excess: Excess) -> None:
        """At a limit: ask the code to end, and see to it."""
        if call is not self._call or call.excess is not None:
            return
        call.hit(excess, _KEPT)
        self._process.interrupt()

        def insist() -> None:
            if call is self._call:
                call.killing = asyncio.ensure_future(self.end(_deaf(excess)))

        asyncio.get_running_loop().call_later(_GRACE, insist)

    async def _stop(self, asking: asyncio.Future[Head]) -> None:
        """After a cancel: returns when the session is idle, or over; whoever cancels again."""
        await to_its_end(self._stopped(asking))

    async def _stopped(self, asking: asyncio.Future[Head]) -> None:
        self._process.interrupt()
        await asyncio.wait((asking,), timeout=GRACE_ON_CANCEL)
        if not asking.done() or not await self._comes_to_rest():
            await self.end()
            await asyncio.wait((asking,))
        asking.exception()  # whatever it is, nobody asks any more

    async def _comes_to_rest(self) -> bool:
        """After an interrupt: whether nothing works or prints on.

        What the code has started is killed. Whoever prints mostly waits until that is heard.
        """
        still, heard = 0, self._heard
        for _ in range(_LOOKS):
            self._process.kill_children()
            works = await asyncio.to_thread(at_work, self.pids) or self._heard > heard
            still, heard = 0 if works else still + 1, self._heard
            if still == _LOOKS_AT_REST:
                return True
            await asyncio.sleep(_BETWEEN_LOOKS)
        return False

    async def _put_file(self, file: FileIn, call: _Call, fetch: Fetch) -> None:
        """Raises SandboxCrashed, and what `fetch` raises."""
        try:
            problem = await self._put_fetched(file, fetch)
        except OSError as error:  # it is gone, has no room on the way, or time is up
            if self._owes:
                raise SandboxCrashed("A file was not put to its end.") from error
            problem = error.strerror or "it cannot be read"
        if problem is None:
            self._put[file.name] = file.key
        else:
            call.say(f"{file.name} could not be put into {DATA}: {problem[:200]}.")

    async def _put_fetched(self, file: FileIn, fetch: Fetch) -> str | None:
        """Returns why it cannot be there. Raises SandboxCrashed, OSError, what `fetch` raises."""
        if file.key not in self._too_large:
            async with fetch(file):
                with await asyncio.to_thread(file.path.open, "rb") as source:
                    if os.fstat(source.fileno()).st_size <= self._settings.file_bytes:
                        async with asyncio.timeout(_PATIENCE):
                            return await self._put_bytes(file.name, source)
            self._too_large.add(file.key)
        return f"it is larger than {_size(self._settings.file_bytes)}"

    async def _put_bytes(self, name: str, source: BinaryIO) -> str | None:
        """Returns why it cannot be there. Raises SandboxCrashed, OSError."""
        number = await self._send({"do": "put", "name": name})
        while chunk := await asyncio.to_thread(source.read, CHUNK):
            await self._send_on({}, chunk)
        await self._send_on({})
        problem = (await self._answer(number)).get("problem")
        return None if problem is None else str(problem)

    async def _ask(self, head: Head, raw: bytes = b"", *, images: int = 0) -> Head:
        return await self._answer(await self._send(head, raw, images=images))

    async def _send(self, head: Head, raw: bytes = b"", *, images: int = 0, chunks: int = 0) -> int:
        """Ask for an answer, in which that many frames may come before its end."""
        self._number += 1
        self._owes = True
        self._may_come = {"done": 1, "image": images, "chunk": chunks}
        await self._send_on({**head, "number": self._number}, raw)
        return self._number

    async def _send_on(self, head: Head, raw: bytes = b"") -> None:
        try:
            await self._process.send(head, raw)
        except Lost as lost:
            raise SandboxCrashed(f"The session ended: {lost}.") from lost

    async def _answer(self, number: int) -> Head:
        """Raises SandboxCrashed."""
        while True:
            head, _ = await self._next(number)
            if not self._owes:
                return head

    async def _next(self, number: int) -> Frame:
        """A part of an answer, or its end; figures are the call's. Raises SandboxCrashed."""
        while True:
            try:
                head, raw = await self._process.next()
            except Lost as lost:
                raise SandboxCrashed(f"The session ended: {lost}.") from lost
            kind = head.get("is")
            if head.get("number") != number or kind not in _ANSWERS or not self._may_come[kind]:
                raise SandboxCrashed("The session broke the protocol.")
            self._may_come[kind] -= 1
            if kind == "image":
                self._show(raw)
                await self._send_on({"do": "go on"})
            else:
                self._owes = kind != "done"
                return head, raw

    def _show(self, picture: bytes) -> None:
        if self._call is not None and picture.startswith(b"\x89PNG") and len(picture) < MOST_RAW:
            self._call.show(picture)

    def _hear(self, data: bytes) -> None:
        self._heard += len(data)
        if self._call is not None:
            self._call.hear(data)

    @contextlib.asynccontextmanager
    async def _talking(self, call: _Call) -> AsyncIterator[None]:
        """While it is in use what it says is heard; else it is stopped by saying too much.

        Ends it if it is left in the middle of an exchange.
        """
        self._call = call
        self._process.listen()
        try:
            yield
        except TimeoutError as error:
            raise SandboxCrashed("The session did not answer.") from error
        finally:
            self._call = None
            call.flush()
            self._process.rest()
            if self._owes:
                await self.end()


class _Call:
    """What comes of one call: kept within limits, told in pieces."""

    def __init__(
        self,
        most_bytes: int,
        most_images: int,
        emit: Callable[[Output], None],
        places: Places = MappingProxyType({}),
    ) -> None:
        self.outputs: list[Output] = []
        self.excess: Excess | None = None
        self.problem: str | None = None
        self.killing: asyncio.Future[None] | None = None
        self.flood = most_bytes * _FLOOD
        self.flooded: Callable[[], None] = lambda: None
        self._emit = emit
        self._room = most_bytes
        self._images = most_images
        self._dropped = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._naming = Naming(places)
        self._text = ""
        self._timer: asyncio.TimerHandle | None = None

    def hit(self, excess: Excess, left: str) -> None:
        """It is past a limit, and this is what is left of the session."""
        self.excess, self.problem = excess, f"{excess.text} {left}"

    @property
    def limit(self) -> Limit | None:
        return None if self.excess is None else self.excess.limit

    def hear(self, data: bytes) -> None:
        """Something was printed."""
        kept = data[: self._room]
        self._room -= len(kept)
        if len(kept) < len(data):
            self._drop(len(data) - len(kept))
        self._add(self._naming.feed(self._decoder.decode(kept)))

    def say(self, text: str) -> None:
        """Something of our own, in lines of its own."""
        self._add(self._naming.rest())
        before = self._text or (self.outputs and _text_of(self.outputs[-1])) or "\n"
        self._add(f"{'' if before.endswith(chr(10)) else chr(10)}[{text}]\n")

    def show(self, picture: bytes) -> None:
        if self._images > 0:
            self._images -= 1
            self.flush()
            self._tell(Image(picture, "png"))

    def flush(self, *, last: bool = False) -> None:
        """Tell the text that waits."""
        if last:
            self._text += self._naming.feed(self._decoder.decode(b"", True)) + self._naming.rest()
            if self._dropped:
                self._text += f"\n[{self._dropped:,} more bytes were printed and are left out.]\n"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._text:
            text, self._text = self._text, ""
            self._tell(Logs(text))

    def _add(self, text: str) -> None:
        self._text += text.replace("\0", "\ufffd")
        if len(self._text) >= _BATCH_BYTES:
            self.flush()
        elif self._timer is None and self._text:
            self._timer = asyncio.get_running_loop().call_later(_BATCH, self.flush)

    def _tell(self, output: Output) -> None:
        self._emit(output)
        add(self.outputs, output)

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > self.flood:
            self.flooded()


async def to_its_end(work: Coroutine[Any, Any, object]) -> None:
    """Return when it is done, however often that is cancelled; only then is it cancelled."""
    ending = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _deaf(excess: Excess) -> Excess:
    return Excess(excess.limit, f"{excess.text} {_DEAF}")


def add(outputs: list[Output], output: Output) -> None:
    """Text that follows text is one output with it."""
    last = outputs[-1] if outputs else None
    if isinstance(output, Logs) and isinstance(last, Logs):
        outputs[-1] = Logs(last.text + output.text)
    else:
        outputs.append(output)


def _text_of(output: Output) -> str:
    return output.text if isinstance(output, Logs) else ""


def _written(answer: Head) -> list[Written]:
    """What the session says that it wrote, as far as it can be so."""
    found: Any = answer.get("written")
    if not isinstance(found, list):
        return []
    return [
        Written(name, size)
        for name, size in (
            each for each in found[:MOST_NAMES] if isinstance(each, list) and len(each) == 2
        )
        if isinstance(name, str) and _is_inside(name) and isinstance(size, int) and size >= 0
    ]


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return can_be_told(name) and not {"", ".", ".."} & {*parts}


def _encoded(code: str) -> bytes:
    return code.encode("utf-8", "surrogatepass")


def _size(size: int) -> str:
    """As people say it: 64 MiB."""
    for unit, bytes_of in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_of:
            return f"{size / bytes_of:.3g} {unit}"
    return f"{size} bytes"
