"""What happens to calls, and to the worker, when one of the two processes fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from server.engine.client import WorkerEngine
from server.engine.messages import Cancel, Forget, Load, Tokenize, Unsendable
from server.engine.process import WorkerProcess
from server.engine.protocol import (
    EngineCrashed,
    EngineUnavailable,
    Finished,
    Request,
    Span,
    Tokens,
    Unreadable,
)
from server.engine.settings import EngineSettings
from tests.engine.calls import GREEDY, Said, ask, endless, first_tokens, read
from tests.engine.models import write_model
from tests.gguf_files import write_llama

SETTINGS = EngineSettings(threads=1, slots=4)
UNSENDABLE = Request([1, 2, 3], 4, GREEDY, grammar="\ud83d")
HANG_TIMEOUT = 1.0
RECURSIVE = "tekken"  # its words are found by an expression that recurses with every letter
ENDLESS = "a" * 3_000_000
RECOVERY = 3 * HANG_TIMEOUT + 10  # a hang is noticed, and a model is loaded on a busy machine


@pytest.fixture
async def engine(model_path: Path) -> AsyncIterator[WorkerEngine]:
    """A worker of the test's own, to be harmed."""
    engine = WorkerEngine(model_path, name="tiny", settings=SETTINGS)
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def watched(model_path: Path) -> AsyncIterator[WorkerEngine]:
    """A worker that is soon taken for a hung one."""
    settings = replace(SETTINGS, hang_timeout=HANG_TIMEOUT)
    engine = WorkerEngine(model_path, name="tiny", settings=settings)
    await engine.start()
    yield engine
    await engine.stop()


async def kill(engine: WorkerEngine, how: signal.Signals = signal.SIGKILL) -> int:
    """Send the worker a signal; returns whose it was."""
    assert engine.pid is not None
    pid = engine.pid
    os.kill(pid, how)
    return pid


async def freeze(engine: WorkerEngine) -> int:
    """Stop the worker, all its threads; returns whose it was."""
    pid = await kill(engine, signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WSTOPPED)
    return pid


async def call_a_frozen_worker(engine: WorkerEngine) -> asyncio.Task[Said]:
    """A call that was sent, to a worker that will not get to answer it."""
    await freeze(engine)
    reader = asyncio.create_task(read(engine.generate(endless([1, 2, 3]))))
    await asyncio.sleep(0)
    return reader


async def outlast_patience() -> None:
    """Let so much time pass that a worker that owes something is taken for a hung one."""
    patience = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1.3 * HANG_TIMEOUT, patience.set_result, None)
    await patience


async def exhaust(events: AsyncIterator[Tokens | Finished]) -> None:
    """What is left of a generation that is being iterated."""
    async for _ in events:
        pass


async def begin(engine: WorkerEngine) -> None:
    """A call whose reader leaves after the first event."""
    async for _ in engine.generate(endless([1, 2, 3])):
        return


async def test_a_killed_worker_fails_its_calls_and_comes_back(engine: WorkerEngine) -> None:
    """The live generation raises EngineCrashed; the next one waits for the new worker."""
    await ask(engine, "Hello!")
    assert engine.stats.cells > 0
    reader = await call_a_frozen_worker(engine)
    pid = await kill(engine)
    with pytest.raises(EngineCrashed, match="SIGKILL"):
        await reader
    assert engine.trouble == "The model's worker died: SIGKILL."
    assert (engine.stats.live, engine.stats.cells) == (0, 0)
    assert (await ask(engine, "Hello!")).end.reason == "stop"
    assert engine.trouble is None
    assert engine.pid not in (None, pid)
    assert engine.stats.restarts == 1


async def test_a_machine_that_starts_no_process_is_asked_again(
    engine: WorkerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was out of memory, say, which is what the worker died of."""
    refusals = [OSError("Cannot allocate memory"), OSError("Too many open files")]
    launch = asyncio.create_subprocess_exec

    async def refuse(*command: str, **options: object) -> object:
        if refusals:
            raise refusals.pop(0)
        return await launch(*command, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    await kill(engine)
    assert (await ask(engine, "Hello!")).end.reason == "stop"
    assert not refusals
    assert engine.stats.restarts == 1


async def test_a_stream_that_is_cut_off_keeps_what_it_said(engine: WorkerEngine) -> None:
    """Tokens that arrived before the death are handed out before the error."""
    for seed in range(10):  # on a busy machine one may be over before its worker is
        generation = engine.generate(endless([1, 2, 3], seed=seed))
        said = 0
        try:
            async for event in generation:
                if isinstance(event, Tokens) and not said:
                    await kill(engine)
                said += isinstance(event, Tokens)
        except EngineCrashed:
            assert said
            return
    raise AssertionError("none of ten was cut off")


async def test_a_question_to_a_dead_worker_is_asked_again(engine: WorkerEngine) -> None:
    """Tokenizing has no state to lose: its caller notices nothing but the wait."""
    before = await engine.tokenize([Span("Hello!", False)])
    await kill(engine)
    assert await engine.tokenize([Span("Hello!", False)]) == before


@contextlib.asynccontextmanager
async def on(path: Path) -> AsyncIterator[WorkerEngine]:
    """A worker on another model."""
    engine = WorkerEngine(path, name=path.stem, settings=SETTINGS)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def test_a_word_without_end_kills_no_worker(tmp_path: Path, model_path: Path) -> None:
    """Not even where the vocabulary needs a stack that grows with it."""
    path = tmp_path / "recursive.gguf"
    write_model("llama", path, model_path, pre=RECURSIVE)
    async with on(path) as engine:
        ids = await engine.tokenize([Span(ENDLESS, False)])
        assert len(ids) > len(ENDLESS) // 100
        assert engine.stats.restarts == 0


async def test_a_word_without_end_kills_no_embedding_worker(tmp_path: Path) -> None:
    """It is refused like any text that is too long for the model."""
    pooled = {
        "llama.pooling_type": 1,
        "tokenizer.ggml.pre": RECURSIVE,
        "tokenizer.ggml.tokens": ["a", *(f"word{number}" for number in range(511))],
    }
    async with on(write_llama(tmp_path / "recursive.gguf", vocabulary=512, **pooled)) as engine:
        with pytest.raises(Unreadable, match=r"Text 0 has 30000\d\d tokens"):
            await engine.embed([ENDLESS])
        assert engine.stats.restarts == 0


async def test_a_worker_that_hangs_is_killed(watched: WorkerEngine) -> None:
    """Without a step for its patience while work is live, it counts as dead."""
    reader = await call_a_frozen_worker(watched)
    with pytest.raises(EngineCrashed, match="hung"):
        await reader
    assert (await ask(watched, "Hello!")).data


async def test_a_worker_that_froze_while_idle_is_killed(watched: WorkerEngine) -> None:
    """A question shows it, and is answered by the next worker."""
    await freeze(watched)
    async with asyncio.timeout(RECOVERY):
        assert await watched.tokenize([Span("Hello!", False)])
    assert watched.stats.restarts == 1


async def test_new_calls_do_not_hide_that_a_worker_froze(watched: WorkerEngine) -> None:
    """It is killed in the middle of a generation although more is asked of it all the time."""
    events = aiter(watched.generate(endless([1, 2, 3])))
    await first_tokens(events)
    await freeze(watched)
    broken = asyncio.create_task(exhaust(events))
    calls = [broken]
    async with asyncio.timeout(RECOVERY):
        while not broken.done():
            calls.append(asyncio.create_task(read(watched.generate(endless([1, 2, 3], most=2)))))
            await asyncio.wait((broken,), timeout=HANG_TIMEOUT / 5)
        with pytest.raises(EngineCrashed, match="hung"):
            await broken
        await asyncio.wait(calls)
        assert (await ask(watched, "Hello!")).data
    assert all(isinstance(call.exception(), EngineCrashed | None) for call in calls)


async def test_calls_given_up_do_not_hide_that_a_worker_froze(watched: WorkerEngine) -> None:
    """What nobody waits for any more is still owed by the worker."""
    frozen = await freeze(watched)
    async with asyncio.timeout(RECOVERY):
        while watched.pid == frozen:
            calls = asyncio.gather(watched.tokenize([Span("Hello!", False)]), begin(watched))
            with contextlib.suppress(TimeoutError, EngineCrashed):
                await asyncio.wait_for(calls, HANG_TIMEOUT / 5)
        assert (await ask(watched, "Hello!")).data
    assert watched.stats.restarts == 1


async def test_a_text_that_is_no_unicode_is_tokenized(engine: WorkerEngine) -> None:
    """A model may write half of a surrogate pair; it is replaced, as a tokenizer does it."""
    broken = await engine.tokenize([Span('{"city": "\ud83d"}', False)])
    assert broken == await engine.tokenize([Span('{"city": "?"}', False)])


async def test_what_cannot_be_sent_is_not_owed(watched: WorkerEngine) -> None:
    """It fails alone, and the worker that never got it is not taken for a hung one."""
    with pytest.raises(Unsendable):
        await read(watched.generate(UNSENDABLE))
    with pytest.raises(Unsendable):
        await watched.embed([[1 << 70]])
    await outlast_patience()
    assert (await ask(watched, "Hello!")).data
    assert watched.stats.restarts == 0


async def test_what_cannot_be_sent_does_not_harm_the_next_worker(engine: WorkerEngine) -> None:
    """It waits beside others for a worker, and fails when there is one."""
    reader = await call_a_frozen_worker(engine)
    await kill(engine)
    with pytest.raises(EngineCrashed):
        await reader
    assert engine.pid is None
    said, *failed = await asyncio.gather(
        ask(engine, "Hello!"),
        read(engine.generate(UNSENDABLE)),
        engine.embed([[1 << 70]]),
        return_exceptions=True,
    )
    assert isinstance(said, Said)
    assert [type(error) for error in failed] == [Unsendable, Unsendable]
    await kill(engine)
    assert (await ask(engine, "Hello!")).data
    assert engine.stats.restarts == 2


async def test_an_idle_worker_is_not_taken_for_a_hung_one(watched: WorkerEngine) -> None:
    """Silence is no fault while nothing was asked."""
    assert (await ask(watched, "Hello!", most=1)).ids
    await outlast_patience()
    assert watched.stats.restarts == 0


@pytest.mark.parametrize("how", ["closed", "left", "cancelled"])
async def test_a_call_to_a_frozen_worker_can_be_dropped_at_once(
    engine: WorkerEngine, how: str
) -> None:
    """Its reader does not wait for the worker, which frees the slot when it goes on."""
    generation = engine.generate(endless([1, 2, 3]))
    events = aiter(generation)
    await first_tokens(events)
    await freeze(engine)
    async with asyncio.timeout(1):
        match how:
            case "closed":
                await events.aclose()
            case "left":
                del events
            case _:
                reader = asyncio.create_task(exhaust(events))
                await asyncio.sleep(0)
                reader.cancel()
                await asyncio.wait((reader,))
    await kill(engine, signal.SIGCONT)
    await ask(engine, "Hello!", most=2)
    assert (engine.stats.live, engine.stats.restarts) == (0, 0)


async def test_a_dropped_call_is_not_taken_to_the_next_worker(watched: WorkerEngine) -> None:
    """A worker that froze on a call nobody waits for is replaced, and its slot is free again."""
    reader = await call_a_frozen_worker(watched)
    reader.cancel()
    await asyncio.wait((reader,))
    async with asyncio.timeout(RECOVERY):
        await ask(watched, "Hello!", most=2)
    assert (watched.stats.live, watched.stats.restarts) == (0, 1)


async def test_calls_wait_as_long_as_a_model_may_load(
    engine: WorkerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute passes before the new worker is there: what was asked meanwhile is answered."""
    reader = await call_a_frozen_worker(engine)
    await kill(engine)
    with pytest.raises(EngineCrashed):
        await reader
    assert engine.pid is None
    question = asyncio.create_task(engine.tokenize([Span("Hello!", False)]))
    answer = asyncio.create_task(read(engine.generate(Request([1, 2, 3], 4, GREEDY))))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + 60)
    assert await question
    assert (await answer).ids


async def test_a_worker_that_stays_away_makes_calls_unavailable(
    model_path: Path, tmp_path: Path
) -> None:
    """A model file that is gone at the restart: calls wait, but not for ever."""
    path = tmp_path / "model.gguf"
    path.symlink_to(model_path)
    engine = WorkerEngine(path, name="tiny", settings=SETTINGS)
    patience, engine.patience = engine.patience, 0.2
    await engine.start()
    try:
        path.unlink()
        await kill(engine)
        with pytest.raises((EngineUnavailable, EngineCrashed)):
            await read(engine.generate(endless([1, 2, 3])))
        with pytest.raises(EngineUnavailable):
            await engine.tokenize([Span("Hello!", False)])
        assert engine.trouble == f"There is no file {path}."
        path.symlink_to(model_path)
        engine.patience = patience
        assert (await ask(engine, "Hello!")).data
    finally:
        await engine.stop()


async def test_stop_ends_the_worker_and_the_calls(model_path: Path) -> None:
    """The process is gone when stop returns; who still reads is told."""
    engine = WorkerEngine(model_path, name="tiny", settings=SETTINGS)
    await engine.start()
    pid = engine.pid
    assert pid is not None
    await ask(engine, "Hello!")
    reader = asyncio.create_task(read(engine.generate(endless([1, 2, 3]))))
    await asyncio.sleep(0)
    assert engine.stats.cells > 0
    await engine.stop()
    assert engine.stats.cells == engine.stats.saved_bytes == 0
    with pytest.raises(EngineUnavailable, match="stopped"):
        await reader
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EngineUnavailable):
        await engine.tokenize([Span("Hello!", False)])


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_is_said_to_a_dead_worker_goes_nowhere(
    model_path: Path, run: Callable[[Coroutine[None, None, None]], None]
) -> None:
    """On any loop: who says it hears of the death soon enough."""

    async def speak_to_the_dead() -> None:
        load = Load(str(model_path), "tiny", "", SETTINGS)
        worker = await WorkerProcess.start(load, lambda _: None)
        await worker.stop()
        for message in (Tokenize(1, ()), Cancel(1), Forget("thread_1")):
            worker.send(message)

    run(speak_to_the_dead())


async def test_stop_ends_a_worker_that_nobody_keeps_any_more(
    watched: WorkerEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in what watches over the worker is logged, and leaves no process behind."""
    broken = asyncio.Event()

    def fail(_: object) -> bool:
        broken.set()
        raise ZeroDivisionError

    monkeypatch.setattr(watched, "_hangs", fail)
    pid = watched.pid
    assert pid is not None
    await broken.wait()
    await watched.stop()
    assert "engine.keeper_died" in caplog.text
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "There is no file"),
        (b"", "not a GGUF file"),
        (b"%PDF-1.7 and so on", "not a GGUF file"),
        (b"GGUF" + bytes(64), "cannot load|died while it loaded"),
    ],
)
async def test_a_file_that_is_no_model_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """Each fault has its own sentence, and names the file."""
    path = tmp_path / "broken.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineUnavailable, match=reason) as refusal:
        await WorkerEngine(path, name="broken", settings=SETTINGS).start()
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_truncated_model_is_refused(tmp_path: Path, model_path: Path, share: float) -> None:
    """Cut off in its header or in its weights: llama.cpp's reason is in the sentence."""
    path = tmp_path / "half.gguf"
    content = model_path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EngineUnavailable, match=r"half\.gguf"):
        asyncio.run(WorkerEngine(path, name="half", settings=SETTINGS).start())


async def test_a_context_that_no_memory_can_hold_is_refused(model_path: Path) -> None:
    """The sentence says which settings to lower."""
    settings = EngineSettings(threads=1, kv_cells=1 << 30, context=1 << 30)
    with pytest.raises(EngineUnavailable, match="MiB are free"):
        await WorkerEngine(model_path, name="tiny", settings=settings).start()


PARENT = """
import asyncio, sys
from server.engine.client import WorkerEngine
from server.engine.settings import EngineSettings

async def main():
    settings = EngineSettings(threads=1, slots=2)
    engine = WorkerEngine(sys.argv[1], name="tiny", settings=settings)
    await engine.start()
    print(engine.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_worker_dies_with_its_parent(model_path: Path) -> None:
    """A parent that is killed leaves no process behind that would keep the memory."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(model_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        watch = os.pidfd_open(worker)
        try:
            parent.kill()
            ended, _, _ = select.select([watch], [], [], 10)
        finally:
            os.close(watch)
    assert ended
