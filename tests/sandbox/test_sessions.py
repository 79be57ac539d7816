"""Sessions: what they remember, show and are told, and how they end."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from server.sandbox import backends, session, usage
from server.sandbox.pool import SessionPool
from server.sandbox.session import GRACE_ON_CANCEL
from server.sandbox.usage import at_work, processes
from server.sandbox.values import FileIn, Logs, SandboxCrashed, SandboxUnavailable, Written
from tests.sandbox.conftest import make_backend
from tests.sandbox.support import (
    KEY,
    SETTINGS,
    Calls,
    alive,
    command_of,
    images_of,
    states,
    text_of,
    until,
)
from tests.support import DEADLINE, ManualClock

RESTARTED = "The session was restarted"


def full(*_: object) -> None:
    """Whatever it stands for cannot be done."""
    raise OSError("there is no room")


async def test_a_session_remembers(calls: Calls) -> None:
    """Variables, imports, functions and files stay for the next call."""
    await calls.run("import math\nx = 2\ndef f(): return x * 21\nopen('a.txt', 'w').write('there')")
    assert await calls.text("print(f(), math.pi > 3, open('/mnt/data/a.txt').read())") == (
        "42 True there\n"
    )


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("6 * 7", "42\n"),
        ("x = 1\nx", "1\n"),
        ("None", ""),
        ("6 * 7;", ""),
        ("x = 1", ""),
        ("'a'\n'b'", "'b'\n"),
        ("print('é', end='')", "é"),
        ("", ""),
        ("import subprocess; _ = subprocess.run(['echo', 'from a child'])", "from a child\n"),
        ("import sys; print('a'); print('b', file=sys.stderr); print('c')", "a\nb\nc\n"),
        ("import os; os.write(1, b'\\xff\\0'); None", "\ufffd\ufffd"),
        ("print('\\ud800')", "\\ud800\n"),
    ],
)
async def test_what_a_notebook_shows_is_shown(calls: Calls, code: str, shown: str) -> None:
    """The last expression's value, and what was printed, in order, also by children."""
    assert await calls.text(code) == shown


async def test_a_traceback_is_the_code_s_own(calls: Calls) -> None:
    """Nothing of what runs the code is in it, and its lines are quoted."""
    await calls.run("def f():\n    return 1 / 0")
    told = await calls.text("f()")
    assert told.startswith('Traceback (most recent call last):\n  File "<cell 2>", line 1')
    assert "return 1 / 0" in told
    assert told.endswith("ZeroDivisionError: division by zero\n")
    assert "driver" not in told
    assert "notebook" not in told
    assert "SyntaxError" in await calls.text("x = ")
    assert await calls.text("1 + 1") == "2\n"


async def test_output_is_told_as_it_comes(calls: Calls) -> None:
    """What is printed before a pause is told before its end; the result has it as one."""
    code = "import time\nprint('first'); time.sleep(0.4); print('second')"
    running = asyncio.create_task(calls.run(code))
    await until(lambda: bool(calls.told))
    assert not running.done()
    result = await running
    assert calls.told == [Logs("first\n"), Logs("second\n")]
    assert result.outputs == [Logs("first\nsecond\n")]


async def test_files_come_in_once_and_go_out(calls: Calls, tmp_path: Path) -> None:
    """A file is there under its name; what code has done to it stays until its key changes."""
    path = tmp_path / "stored"
    path.write_bytes(b"a,b\n1,2\n" * 100_000)
    first = FileIn("in.csv", path, "file-1")
    assert await calls.text("len(open('/mnt/data/in.csv').read())", first) == "800000\n"
    assert await calls.text("open('in.csv', 'w').write('mine'); None", first) == ""
    assert await calls.text("open('in.csv').read()", first) == "'mine'\n"
    again = FileIn("in.csv", path, "file-2")
    assert await calls.text("len(open('in.csv').read())", again) == "800000\n"


async def test_what_a_call_wrote_is_told_and_can_be_read(calls: Calls, tmp_path: Path) -> None:
    """Files that were made or changed, in folders, too; nothing that was there before."""
    path = tmp_path / "stored"
    path.write_text("x")
    code = "import os\nos.makedirs('out')\nopen('out/b.bin', 'wb').write(b'z' * 600_000)\nNone"
    result = await calls.run(code, FileIn("in.csv", path, "file-1"))
    assert result.written == [Written("out/b.bin", 600_000)]
    assert await calls.pool.read(KEY, "out/b.bin", tmp_path / "b") == 600_000
    assert (tmp_path / "b").read_bytes() == b"z" * 600_000
    assert (await calls.run("open('in.csv', 'a').write('y')")).written == [Written("in.csv", 2)]
    with pytest.raises(LookupError):
        await calls.pool.read(KEY, "nothing", tmp_path / "c")
    with pytest.raises(LookupError):
        await calls.pool.read(("default", "other"), "in.csv", tmp_path / "c")


async def test_names_may_have_spaces_of_any_kind(calls: Calls, tmp_path: Path) -> None:
    """As those of screenshots do; what only moves the text is in none."""
    names = sorted(f"a{space}b" for space in " \xa0\u1680\u2000\u200a\u202f\u205f\u3000")
    made = [*names, "a\u2028b", "a\u200bb", "a\tb"]
    code = f"for name in {made}: open(name, 'w').write('x')"
    assert sorted(each.name for each in (await calls.run(code)).written) == names
    assert await calls.pool.read(KEY, "a\u202fb", tmp_path / "out") == 1


async def test_folders_are_told_by_their_names(calls: Calls) -> None:
    """Wherever they are: by code, its children and its errors."""
    code = """
import glob, os, subprocess, tempfile
open('/mnt/data/a', 'w').close(), open('/tmp/b', 'w').close()
print(os.getcwd() == '/mnt/data', os.getcwd(), glob.glob('/mnt/data/*'))
print(tempfile.gettempdir(), os.path.exists(tempfile.gettempdir() + '/b'), '/tmpfs', 'a/tmp')
subprocess.run(['pwd'])
os.path.dirname(os.path.abspath('x')) * 3
"""
    assert await calls.text(code) == (
        "True /mnt/data ['/mnt/data/a']\n/tmp True /tmpfs a/tmp\n/mnt/data\n"
        "'/mnt/data/mnt/data/mnt/data'\n"
    )
    assert "No such file or directory: '/mnt/data/none'" in await calls.text(
        "open('/mnt/data/none')"
    )


async def test_its_folder_stays(calls: Calls) -> None:
    """Whatever code removes of what is in it."""
    await calls.run("import shutil; shutil.rmtree('/mnt/data', ignore_errors=True)")
    assert await calls.text("open('/mnt/data/f', 'w').write('abc')") == "3\n"


async def test_a_file_that_is_too_large_is_told_of(calls: Calls, tmp_path: Path) -> None:
    """It is not put there, and the code runs all the same."""
    path = tmp_path / "stored"
    with path.open("wb") as file:
        file.truncate(SETTINGS.file_bytes + 1)
    told = await calls.text("print('ran')", FileIn("big.bin", path, "file-1"))
    assert "big.bin could not be put into /mnt/data: it is larger than 16 MiB" in told
    assert told.endswith("ran\n")


async def test_a_file_that_is_not_taken_ends_the_session(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a file nothing else can be said to it; the next call has a new one."""
    monkeypatch.setattr(session, "_PATIENCE", 0.5)
    path = tmp_path / "stored"
    path.write_bytes(b"z" * 2_000_000)
    stop = "time.sleep(0.1); os.kill(os.getppid(), signal.SIGSTOP); os._exit(0)"
    await calls.run(f"import os, signal, time\nif os.fork() == 0:\n    {stop}")
    pids = calls.pids
    await until(lambda: "T" in states(pids))
    with pytest.raises(SandboxCrashed, match=r"^A file was not put to its end\.$"):
        await calls.run("print(1)", FileIn("in.bin", path, "file-1"))
    assert not alive(pids)
    assert RESTARTED in await calls.text("1")


async def test_a_file_that_breaks_off_is_no_code(calls: Calls) -> None:
    """One that the host cannot read to its end ends the session, which waits for the rest."""
    with pytest.raises(SandboxCrashed, match=r"^A file was not put to its end\.$"):
        await calls.run("print(1)", FileIn("in.bin", Path("/proc/self/mem"), "file-1"))
    assert RESTARTED in await calls.text("1")


async def test_code_that_takes_too_long_is_interrupted(calls: Calls) -> None:
    """It is told, and its session keeps what it has."""
    result = await calls.run("x = 7\nprint('begun')\nwhile True: pass")
    assert result.problem == (
        "The code ran for more than 1.5 seconds. Variables and files are kept."
    )
    told = text_of(result)
    assert told.startswith("begun\n")
    assert told.endswith(f"KeyboardInterrupt\n[{result.problem}]\n")
    assert await calls.text("x") == "7\n"


async def test_code_that_ends_while_the_server_is_held_up_has_not_taken_too_long(
    calls: Calls,
) -> None:
    """What it has said meanwhile counts."""
    await calls.run("import time")
    running = asyncio.create_task(calls.run("time.sleep(0.5); print('ended')"))
    await asyncio.sleep(0.1)
    time.sleep(SETTINGS.seconds + 0.5)  # noqa: ASYNC251
    result = await running
    assert (text_of(result), result.problem) == ("ended\n", None)


@pytest.fixture
async def hurried(backend: str, clock: ManualClock, folder: Path) -> AsyncIterator[Calls]:
    """Calls in a session that has a second of processor time."""
    settings = SETTINGS.model_copy(update={"cpu_seconds": 1, "seconds": 20.0})
    pool = SessionPool(make_backend(backend, settings), settings, clock)
    pool.start()
    yield Calls(pool)
    await pool.close()


async def test_a_session_has_its_processor_time(hurried: Calls) -> None:
    """Over all its calls and processes, also those that are gone; then it is ended."""
    child = "while time.process_time() < 0.6: pass\n  os._exit(0)"
    code = f"import os, time\nif os.fork() == 0:\n  {child}\nos.wait()"
    assert (await hurried.run(code)).problem is None
    result = await hurried.run("while True: pass")
    assert result.problem == (
        "The session took more than 1 seconds of processor time. "
        "The session was ended: its variables and files are gone."
    )


async def test_children_that_nobody_waits_for_have_processor_time(hurried: Calls) -> None:
    """As far as they were seen; one that was waited for as well counts once."""
    code = """
import os, signal, time
def child():
    if os.fork() == 0:
        while time.process_time() < 0.4: pass
        os._exit(0)
    try: os.wait()
    except ChildProcessError: pass
child()
"""
    assert (await hurried.run(code)).problem is None
    result = await hurried.run("signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: child()")
    assert result.problem is not None
    assert "more than 1 seconds of processor time" in result.problem


DRAWING = """
import sys, types
class Figure:
    def __init__(self, size): self.size = size
    def get_dpi(self): return 100
    def savefig(self, file, *, dpi=100, **_):
        file.write(b"\\x89PNG" + bytes(min(int(self.size * dpi**2), 9_000_000)))
sizes = [50, 2_000, 200_000, 50]
plt = sys.modules["matplotlib.pyplot"] = types.ModuleType("pyplot")
plt.get_fignums = lambda: range(len(sizes))
plt.figure = lambda number: Figure(sizes[number])
plt.close = lambda _: sizes.clear()
x = 5
"""


async def test_a_figure_that_is_too_large_is_drawn_more_coarsely(calls: Calls) -> None:
    """Or left out and told of; its session goes on."""
    result = await calls.run(DRAWING)
    assert [len(image.data) for image in images_of(result)] == [500_004, 5_000_004]
    told = "[The figure is too large to be shown.]\n[Only the first 3 figures are shown.]\n"
    assert text_of(result) == told
    assert await calls.text("x") == "5\n"


LATER = """
import threading
def later(sizes=sizes):
    sizes += [50, 60, 70, 80]
    sys.meta_path[0].show_all()
sizes.clear()
t = threading.Timer(0.3, later); t.start()
"""


async def test_what_a_thread_draws_later_is_the_next_call_s(calls: Calls) -> None:
    """As what it prints is; it counts among that one's figures."""
    assert (await calls.run(DRAWING + LATER)).outputs == []
    tasks = Path(f"/proc/{calls.pids[-1]}/task")
    await until(lambda: len(list(tasks.iterdir())) == 1)
    result = await calls.run("sizes.append(90); print('next')")
    assert [len(image.data) for image in images_of(result)] == [500_004, 600_004, 700_004]
    assert "next\n" in text_of(result)
    assert "[Only the first 3 figures are shown.]\n" in text_of(result)
    assert len(images_of(await calls.run("sizes.append(50); x"))) == 1


async def test_threads_that_draw_at_once_take_turns(calls: Calls) -> None:
    """Each figure comes whole, and no more of them than are shown."""
    show = "sys.meta_path[0]._show, [b'\\x89PNG' + bytes(3_000_000)]"
    code = f"""
import sys, threading
threads = [threading.Thread(target={show.replace(", [", ", args=[")}) for _ in range(5)]
for t in threads: t.start()
for t in threads: t.join()
"""
    assert [len(image.data) for image in images_of(await calls.run(code))] == [3_000_004] * 3
    assert await calls.text("6 * 7") == "42\n"


async def test_a_cancelled_call_leaves_an_idle_session(calls: Calls) -> None:
    """Within half a second; with its state, if it stopped at once, as on an idle machine."""
    for code in (
        "while True: pass",
        "import time; time.sleep(60)",
        "import os; os.system('sleep 60')",
    ):
        await calls.run("x = 3")
        running = asyncio.create_task(calls.run(f"print('begun')\n{code}"))
        calls.told.clear()
        await until(lambda: bool(calls.told))
        began = time.monotonic()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        took = time.monotonic() - began
        assert took < 0.5
        told = await calls.text("x")
        assert told == "3\n" if took < GRACE_ON_CANCEL else RESTARTED in told


async def test_a_cancelled_call_that_will_not_stop_is_ended(calls: Calls) -> None:
    """Within half a second, too; nothing is left of it, and the next call is told."""
    code = "import signal\nsignal.signal(2, signal.SIG_IGN)\nprint('begun')\nwhile True: pass"
    running = asyncio.create_task(calls.run(code))
    await until(lambda: bool(calls.told))
    pids, began = calls.pids, time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - began < 0.5
    assert len(pids) >= 2
    assert not alive(pids)
    assert RESTARTED in await calls.text("1")


DEAF_CHILD = """
import os, signal, time
if (child := os.fork()) == 0:
    signal.signal(2, signal.SIG_IGN)
    while True: pass
print('begun')
time.sleep(60)
"""
DEAF_THREAD = """
import threading
def work():
    while True: pass
threading.Thread(target=work, daemon=True).start()
print('begun')
threading.Event().wait()
"""
PRINTING_THREAD = """
import threading
def talk():
    while True: print('T' * 1000)
threading.Thread(target=talk, daemon=True).start()
threading.Event().wait()
"""


@pytest.mark.parametrize(("code", "stays"), [(DEAF_CHILD, True), (DEAF_THREAD, False)])
async def test_nothing_works_on_after_a_cancel(calls: Calls, code: str, stays: bool) -> None:
    """Children that did not hear the interrupt are killed; a thread's session ends."""
    await calls.run("x = 3")
    running = asyncio.create_task(calls.run(code))
    await until(lambda: Logs("begun\n") in calls.told)
    pids, began = calls.pids, time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    took = time.monotonic() - began
    assert took < 0.5
    assert not at_work(alive(pids))
    if took < GRACE_ON_CANCEL:
        assert len(alive(pids)) == (2 if stays else 0)
        told = await calls.text("x")
        assert told == "3\n" if stays else RESTARTED in told


@pytest.mark.parametrize(
    ("code", "stays"), [(DEAF_CHILD, True), (DEAF_THREAD, False), (PRINTING_THREAD, False)]
)
async def test_nothing_works_on_after_a_limit(calls: Calls, code: str, stays: bool) -> None:
    """It is the same there, and is told."""
    result = await calls.run(code)
    assert ("are kept" if stays else "did not stop when it was interrupted") in text_of(result)
    assert len(alive(calls.pids)) == (2 if stays else 0)


async def test_calls_of_a_session_queue(calls: Calls) -> None:
    """Each begins when the one before it ended, in their order."""
    codes = [f"import time; print('in {n}'); time.sleep(0.05); print('out {n}')" for n in range(4)]
    await asyncio.gather(*map(calls.run, codes))
    whole = "".join(each.text for each in calls.told if isinstance(each, Logs))
    assert whole == "".join(f"in {n}\nout {n}\n" for n in range(4))


async def test_a_crash_is_one_call_s_own(calls: Calls, tmp_path: Path) -> None:
    """The next call has a new session, is told so, and finds the files that were uploaded."""
    path = tmp_path / "stored"
    path.write_text("data")
    file = FileIn("in.txt", path, "file-1")
    await calls.run("x = 1", file)
    with pytest.raises(SandboxCrashed, match="ended"):
        await calls.run("print('last words'); import os; os._exit(3)", file)
    assert Logs("last words\n") in calls.told
    told = await calls.text("print(open('in.txt').read(), 'x' in globals())", file)
    assert told.startswith("data False\n")
    assert RESTARTED in told
    assert await calls.text("1", file) == "1\n"


async def test_a_session_that_died_unused_is_replaced(calls: Calls) -> None:
    """Its next call is told so, and runs."""
    await calls.run("import os, threading\nthreading.Timer(0.05, os._exit, [0]).start()")
    pids = calls.pids
    await until(lambda: not alive(pids))
    assert RESTARTED in await calls.text("1")


async def test_a_thread_whose_session_another_server_had_is_told(pool: SessionPool) -> None:
    """That it is gone, once, like any that is replaced; a thread's first session is no loss."""
    told = [
        text_of(await pool.run(key, "1", (), lambda _: None, has_run=has_run))
        for key, has_run in ((KEY, True), (KEY, True), (("p", "new"), False), (("p", "new"), True))
    ]
    assert [RESTARTED in each for each in told] == [True, False, False, False]


async def test_what_is_gone_is_told_until_somebody_was_told(calls: Calls) -> None:
    """A call that is cancelled says nothing of it, but the next one; nobody is told twice."""
    await calls.run("1")
    [place] = calls.pool._places.values()
    place.was_lost = True
    running = asyncio.create_task(calls.run("print('begun')\nwhile True: pass"))
    calls.told.clear()
    await until(lambda: bool(calls.told))
    running.cancel()
    await asyncio.wait((running,))
    told = [await calls.text("print('on')") for _ in range(2)]
    assert told[0].startswith("on\n[The session was restarted")
    assert told[1] == "on\n"


async def test_twenty_threads_at_once(pool: SessionPool) -> None:
    """Each has its own state and its own files."""

    async def use(number: int) -> None:
        calls = Calls(pool, ("default", f"thread_{number}"))
        await calls.run(f"x = {number}\nopen('/mnt/data/me', 'w').write(str(x))")
        await calls.run("import time; time.sleep(0.05)")
        assert await calls.text("print(x, open('me').read())") == f"{number} {number}\n"

    await asyncio.gather(*map(use, range(20)))
    assert pool.sessions == 20


async def test_an_unused_session_expires(calls: Calls, clock: ManualClock) -> None:
    """After the time that the settings give it; its thread is told when it comes back."""
    await calls.run("x = 1")
    pids = calls.pids
    clock.advance(SETTINGS.idle_after - 1)
    await calls.pool.expire()
    assert await calls.text("x") == "1\n"
    clock.advance(SETTINGS.idle_after)
    await calls.pool.expire()
    assert calls.pool.sessions == 0
    assert not alive(pids)
    assert RESTARTED in await calls.text("1")


async def test_a_deleted_thread_s_session_ends(calls: Calls, tmp_path: Path) -> None:
    """With its processes, at once, also in the middle of a call; nothing is said of it later."""
    running = asyncio.create_task(calls.run("print('begun')\nwhile True: pass"))
    await until(lambda: bool(calls.told))
    pids = calls.pids
    await calls.pool.close_session(KEY)
    with pytest.raises(SandboxCrashed):
        await running
    assert not alive(pids)
    assert await calls.text("1") == "1\n"


async def test_the_longest_unused_makes_room(backend: str, clock: ManualClock) -> None:
    """With all sessions taken, the one that is idle for longest goes; busy ones are waited for."""
    settings = SETTINGS.model_copy(update={"sessions": 2})
    pool = SessionPool(make_backend(backend, settings), settings, clock)
    first, second, third = (Calls(pool, ("p", str(n))) for n in range(3))
    try:
        await first.run("x = 1")
        await second.run("x = 2")
        await first.run("x")
        await third.run("x = 3")
        assert await first.text("x") == "1\n"
        assert RESTARTED in await second.text("1")
        slow = [asyncio.create_task(c.run("import time; time.sleep(0.3)")) for c in (first, second)]
        await asyncio.sleep(0.05)
        assert RESTARTED in await third.text("1")
        await asyncio.gather(*slow)
        assert pool.sessions == 2
    finally:
        await pool.close()


async def test_a_spare_session_is_ready(backend: str, clock: ManualClock) -> None:
    """It is taken by the first thread that has none, and another one is made."""
    settings = SETTINGS.model_copy(update={"spare": 1})
    pool = SessionPool(make_backend(backend, settings), settings, clock)
    pool.start()
    try:
        await until(lambda: bool(pool.spares))
        assert await Calls(pool).text("1") == "1\n"
        await until(lambda: bool(pool.spares))
    finally:
        await pool.close()


async def test_a_spare_session_comes_back(
    backend: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After none could be had for a while, and after one has died."""
    settings = SETTINGS.model_copy(update={"spare": 1})
    pool = SessionPool(make_backend(backend, settings), settings, clock)
    tried = asyncio.Event()

    def never(*_: object) -> None:
        tried.set()
        full()

    try:
        with monkeypatch.context() as patch:
            patch.setattr(backends, "_start", never)
            pool.start()
            await asyncio.wait_for(tried.wait(), DEADLINE)
        await until(lambda: not pool._filling)
        clock.advance(10)
        await until(lambda: bool(pool.spares))
        [spare] = pool._spares
        os.kill(spare.pids[-1], signal.SIGKILL)
        await until(lambda: pool._spares not in ([], [spare]))
    finally:
        await pool.close()


async def test_closing_ends_everything(backend: str, clock: ManualClock) -> None:
    """Sessions in use, idle ones, spare ones."""
    settings = SETTINGS.model_copy(update={"spare": 1})
    pool = SessionPool(make_backend(backend, settings), settings, clock)
    pool.start()
    calls = Calls(pool)
    await calls.run("import os\nif os.fork() == 0:\n    os.setsid(); __import__('time').sleep(100)")
    pids = calls.pids
    assert len(pids) >= 3
    await until(lambda: bool(pool.spares))
    pids += pool._spares[0].pids
    await pool.close()
    assert not alive(pids)


def limits_of(pid: int, name: str) -> list[str]:
    """The soft one and the hard one."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith(name))[len(name) :].split()[:2]


async def test_a_session_leaves_no_core(calls: Calls) -> None:
    """Nor does it start the program that the system may have for cores, as a limit of 0 would."""
    await calls.run("1")
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = "0" if hard == 0 else "1"
    assert limits_of(calls.pids[-1], "Max core file size") == [most, most]


async def test_one_that_is_slow_to_look_at_holds_up_nobody(
    pool: SessionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are looked at meanwhile."""
    slow, other = Calls(pool, ("p", "slow")), Calls(pool, ("p", "other"))
    await slow.run("import time")
    session = pool._places[slow.key].session
    begun, goes_on = threading.Event(), threading.Event()

    def look(_: list[int]) -> None:
        begun.set()
        goes_on.wait(DEADLINE)

    monkeypatch.setattr(session, "_excess", look)
    running = asyncio.create_task(slow.run("time.sleep(60)"))
    await until(begun.is_set)
    result = await other.run("x = []\nwhile True: x.append(bytearray(20 << 20))")
    goes_on.set()
    assert "took more memory than" in text_of(result)
    assert pool.kills == 1
    running.cancel()
    await asyncio.wait((running,))


async def test_one_that_takes_too_long_to_look_at_is_ended(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told."""
    monkeypatch.setattr(usage, "_LONGEST", -1.0)
    result = await calls.run("x = bytearray(b'x' * (300 << 20))\nimport time; time.sleep(60)")
    assert "more memory and files than can be looked at. The session was ended" in text_of(result)


@pytest.mark.parametrize("backend", ["landlock"], indirect=True)
async def test_files_on_their_way_are_nobody_s(backend: str, calls: Calls) -> None:
    """Where they are counted by who has them open, they cannot be sent."""
    code = "import socket; socket.send_fds(socket.socketpair()[0], [b'x'], [0])"
    assert "PermissionError" in await calls.text(code)


@pytest.mark.parametrize("after", [0.0, 0.01, 0.03, 0.06, 0.1])
async def test_closing_in_the_middle_of_a_start(
    backend: str, clock: ManualClock, folder: Path, after: float
) -> None:
    """However far it is, no process is left, and no folder."""
    settings = SETTINGS.model_copy(update={"spare": 2})
    pool = SessionPool(make_backend(backend, settings), settings, clock)
    pool.start()
    await asyncio.sleep(after)
    await pool.close()
    await until(lambda: not list(folder.iterdir()))
    assert not [pid for pid in processes(os.getpid()) if b"driver" in command_of(pid)]


async def test_a_backend_that_starts_nothing_says_why(clock: ManualClock) -> None:
    """As SandboxUnavailable, to the caller."""

    class Broken:
        name = "broken"

        def launch(self, slot: int) -> None:
            raise OSError("there is no room")

    pool = SessionPool(Broken(), SETTINGS, clock)  # type: ignore[arg-type]
    with pytest.raises(SandboxUnavailable, match="there is no room"):
        await Calls(pool).run("1")
    await pool.close()


@pytest.mark.parametrize(
    ("module", "name"),
    [(backends, "_start"), (socket, "socketpair"), (os, "pipe")],
)
async def test_a_start_that_fails_leaves_nothing(
    pool: SessionPool,
    calls: Calls,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
) -> None:
    """Neither a folder nor a number, and so a user id, that nobody uses again."""
    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        for _ in range(2):
            with pytest.raises(SandboxUnavailable, match="there is no room"):
                await calls.run("1")
    await until(lambda: not list(folder.iterdir()))
    assert len(pool._free_slots) == 1
    assert await calls.text("1") == "1\n"
    assert pool._free_slots == []


async def test_a_number_that_cannot_be_had_now_can_be_had_later(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To have one takes a socket, where the server is root."""
    if os.geteuid() != 0:
        pytest.skip("sessions have no users of their own without root")
    with monkeypatch.context() as patch:
        patch.setattr(backends, "_reserved", full)
        for _ in range(2):
            with pytest.raises(SandboxUnavailable, match="there is no room"):
                await calls.run("1")
    assert await calls.text("1") == "1\n"


async def test_what_a_call_leaves_behind_is_looked_at_as_a_call_is(
    pool: SessionPool, calls: Calls
) -> None:
    """A child goes on when its call has ended; a session without any is left alone."""
    await calls.run("1")
    [place] = [each for each in pool._places.values() if each.session is not None]
    session = place.session
    assert session is not None
    await until(lambda: not session.is_at_work)
    await calls.run("import subprocess; child = subprocess.Popen(['sleep', '60'])")
    await asyncio.sleep(0.5)
    assert session.is_at_work
    await calls.run("child.kill(); child.wait()")
    await until(lambda: not session.is_at_work)


async def test_a_look_that_ends_late_says_nothing_of_a_later_call(
    pool: SessionPool, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that has left behind is looked at all the same."""
    await calls.run("import subprocess")
    [session] = [each.session for each in pool._places.values() if each.session is not None]
    pool._looked_at.add(session)  # by nobody but this test
    look, begun, goes_on = session._excess, threading.Event(), threading.Event()

    def look_late(pids: list[int]) -> str | None:
        begun.set()
        goes_on.wait(DEADLINE)
        return look(pids)

    monkeypatch.setattr(session, "_excess", look_late)
    looking = asyncio.create_task(session.check(pool._threads))
    await until(begun.is_set)
    await calls.run("child = subprocess.Popen(['sleep', '60'])")
    goes_on.set()
    await looking
    assert session.is_at_work
    await calls.run("child.kill(); child.wait()")
    await session.check(pool._threads)
    assert not session.is_at_work


async def test_whoever_waits_no_more_takes_no_frame(pool: SessionPool, calls: Calls) -> None:
    """It is the next one's."""
    await calls.run("1")
    [session] = [each.session for each in pool._places.values() if each.session is not None]
    process = session._process
    waiting = asyncio.create_task(process.next())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    process.listen()
    await process.send({"do": "run", "number": 99})
    head, _ = await asyncio.wait_for(process.next(), DEADLINE)
    assert head["number"] == 99


async def test_a_session_goes_before_the_server_where_memory_runs_out(
    pool: SessionPool, calls: Calls
) -> None:
    """The system looks at its processes' scores."""
    await calls.run("1")
    [session] = [each.session for each in pool._places.values() if each.session is not None]
    assert "1000\n" in scores_of(session.pids)


def scores_of(pids: list[int]) -> list[str]:
    """How readily the system ends each of them."""
    return [Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in pids]


async def test_whoever_is_too_slow_is_not_signalled_later(calls: Calls) -> None:
    """The next call is not interrupted for what the one before it did."""
    await calls.run("while True: pass")
    assert (await calls.run("import time; time.sleep(1)")).problem is None
