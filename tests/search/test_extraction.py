"""What a reader's process may do, and what is believed of what it says."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server.config import ExtractionSettings
from server.engine.machine import child_environment
from server.search import extraction
from server.search.confinement import confine
from server.search.extraction import Document, Extractor, NotExtracted

SETTINGS = ExtractionSettings(memory=2**28, seconds=2, text_bytes=1000)
HEADER = {"confined": True, "bytes": 5, "pages": []}

Reader = Callable[[str], None]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reader:
    """Have documents read by a program of the test's own, in Python."""

    def replace(code: str) -> None:
        program = tmp_path / "reader"
        program.write_text(f"#!{sys.executable} -I\nimport json, os, signal, sys\n{code}")
        program.chmod(0o755)
        monkeypatch.setattr(extraction.sys, "executable", str(program))

    return replace


async def extract(tmp_path: Path, content: bytes = b"Hello", **changes: int) -> Document:
    """The text of a text file."""
    path = tmp_path / "blob"
    path.write_bytes(content)
    return await Extractor(SETTINGS.model_copy(update=changes)).extract(path, "a.txt")


def saying(text: str = "Hello", **header: object) -> str:
    """A program that says this."""
    return f"sys.stdout.write(json.dumps({HEADER | header!r}) + '\\n' + {text!r})"


async def test_a_reader_has_the_document_and_nothing_else(
    tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No secret of ours, no file that we have open, no folder of ours, a session of its own."""
    monkeypatch.setenv("CANARY", "secret")
    reader(
        "handles = sorted(map(int, os.listdir('/proc/self/fd')))\n"
        "said = [sys.stdin.read(), sorted(os.environ), handles, os.getcwd(), os.getsid(0)]\n"
        "said[-1] -= os.getpid()\n"
        "text = json.dumps(said)\n"
        "print(json.dumps({'confined': True, 'bytes': len(text), 'pages': []}))\n"
        "sys.stdout.write(text)"
    )
    with (tmp_path / "open").open("w"):
        said, environment, handles, folder, session = json.loads((await extract(tmp_path)).text)
    assert said == "Hello"
    assert set(environment) <= {"PYTHONPATH", "LD_LIBRARY_PATH", "LC_CTYPE"}
    assert handles == [0, 1, 2, 3]  # the last one is the listing itself
    assert folder == "/"
    assert session == 0  # it leads one of its own


@pytest.mark.parametrize(
    ("code", "expected", "said"),
    [
        ("", "invalid_file", "its reader died of it"),
        ("sys.exit(1)", "invalid_file", "its reader died of it"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "invalid_file", "its reader died of it"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "invalid_file", "more than 2 seconds"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "server_error", "its reader was killed"),
        ("print('no JSON')", "invalid_file", "died of it"),
        ("print('[' * 100000)", "invalid_file", "died of it"),
        ("print('[]')", "invalid_file", "died of it"),
        ("print('{}')", "invalid_file", "died of it"),
        (saying(bytes=6), "invalid_file", "died of it"),
        (saying(confined="yes"), "invalid_file", "died of it"),
        (saying(pages=[3, 2]), "invalid_file", "died of it"),
        (saying(pages=[-1]), "invalid_file", "died of it"),
        (saying(pages=[6]), "invalid_file", "died of it"),
        (saying(pages=["1"]), "invalid_file", "died of it"),
        (saying(pages=7), "invalid_file", "died of it"),
        (saying(text="", bytes=0, refused="It is no good."), "invalid_file", "It is no good."),
        ("sys.stdout.buffer.write(b'[' * (1 << 26))", "invalid_file", "died of it"),
        (
            """sys.stdout.buffer.write(b'{"confined": true, "bytes": 1, "pages": []}\\n\\xff')""",
            "invalid_file",
            "died of it",
        ),
    ],
)
async def test_what_makes_no_sense_is_not_believed(
    tmp_path: Path, reader: Reader, code: str, expected: str, said: str
) -> None:
    """A document that has taken over its reader can at most be refused."""
    reader(code)
    with pytest.raises(NotExtracted) as refused:
        await extract(tmp_path)
    assert refused.value.code == expected
    assert said in refused.value.message


async def test_a_reader_that_does_not_end_is_ended(tmp_path: Path, reader: Reader) -> None:
    """Whatever signals it ignores; it may be the machine that is slow, so it can be tried again."""
    reader("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()")
    with pytest.raises(NotExtracted, match="not read within 2 seconds") as refused:
        await extract(tmp_path, seconds=1)
    assert refused.value.code == "server_error"


async def test_a_file_that_is_gone_may_be_there_the_next_time(tmp_path: Path) -> None:
    """It is not the document's fault."""
    with pytest.raises(NotExtracted) as refused:
        await Extractor(SETTINGS).extract(tmp_path / "none", "a.txt")
    assert refused.value.code == "server_error"


async def test_a_reader_ends_with_who_asked(tmp_path: Path, reader: Reader) -> None:
    """A task that is cancelled leaves no process behind, and none that this one has started."""
    pids = tmp_path / "pids"
    reader(
        "child = os.fork()\n"
        f"if child: open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child}}')\n"
        "print('.', flush=True)\nwhile True: signal.pause()"
    )
    os.mkfifo(pids)
    task = asyncio.create_task(extract(tmp_path, seconds=60))
    said = await asyncio.to_thread(pids.read_text)
    handles = [os.pidfd_open(int(pid)) for pid in said.split()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for handle in handles:
        assert select.select([handle], [], [], 10)[0]
        os.close(handle)


def test_a_reader_dies_with_the_server() -> None:
    """However that ends, and whatever its reader is doing."""
    command = [sys.executable, "-P", "-m", "server.search.extracting", ".txt"]
    code = (
        "import os, subprocess, sys\n"
        "pipe, _ = os.pipe()\n"
        f"command = {command!r} + [str(os.getpid()), str(1 << 28), '60', '1000']\n"
        "child = subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "os._exit(1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
    ) as parent:
        assert parent.stdout is not None
        handle = os.pidfd_open(int(parent.stdout.readline()))
        assert not select.select([handle], [], [], 0)[0]
        parent.communicate()
    assert select.select([handle], [], [], 10)[0]
    os.close(handle)


async def test_faults_are_logged_without_the_document(
    tmp_path: Path, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a parser failed, in one line; and once, if the system cannot confine."""
    caplog.set_level(logging.INFO)
    reader(saying(text="", bytes=0, refused="no", fault="KeyError at x.py:1\n", confined=False))
    extractor, path = Extractor(SETTINGS), tmp_path / "blob"
    path.write_bytes(b"Hello")
    for _ in range(2):
        with pytest.raises(NotExtracted):
            await extractor.extract(path, "a.txt")
    events = [
        record.getMessage() for record in caplog.records if record.name == extraction.__name__
    ]
    assert events == ["extraction_unconfined", "extraction_fault", "extraction_fault"]
    assert caplog.records[-1].fault == r"'KeyError at x.py:1\n'"  # type: ignore[attr-defined]


ATTEMPTS = """
import ctypes, errno, os, signal, socket, subprocess, sys
from server.search.confinement import confine, limit

def attempts():
    yield "socket", lambda: socket.socket()
    yield "local socket", lambda: socket.socket(socket.AF_UNIX)
    yield "pair of sockets", lambda: socket.socketpair()
    yield "file", lambda: open("/etc/passwd")
    yield "environment of the parent", lambda: open(f"/proc/{os.getppid()}/environ")
    yield "new file", lambda: open("/tmp/confined", "w")
    yield "folder", lambda: os.listdir("/")
    yield "removed file", lambda: os.unlink(sys.argv[1])
    yield "child", os.fork
    yield "program", lambda: os.execv("/bin/true", ["true"])
    yield "signal to the parent", lambda: os.kill(os.getppid(), 0)
    yield "other limits", lambda: limit(memory=1 << 40, seconds=1000)
    yield "pipe", os.pipe
    yield "file in memory", lambda: os.memfd_create("a")
    yield "clock", lambda: os.nice(1)
    for name, number in {"ptrace": 101, "io_uring": 425, "userfaultfd": 323, "bpf": 321}.items():
        yield name, lambda number=number: system_call(number)

def system_call(number):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, 0, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "refused")

tried = list(attempts())
ctypes.CDLL(None, use_errno=True)
assert confine()
for name, attempt in tried:
    try:
        attempt()
        sys.stdout.write(f"{name} succeeded\\n")
    except OSError as error:
        if error.errno != errno.EPERM:
            sys.stdout.write(f"{name}: {error}\\n")
sys.stdout.write(sys.stdin.read())
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can confine a process so")
def test_who_is_confined_can_do_nothing_but_read_and_write(tmp_path: Path) -> None:
    """Every way out is refused by the kernel; what was open stays so."""
    kept = tmp_path / "kept"
    kept.write_text("kept")
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, str(kept)],
        input="the document",
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("the document", "", 0)
    assert kept.read_text() == "kept"


def test_an_unknown_machine_confines_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and leaves the process as it is."""
    monkeypatch.setattr("platform.machine", lambda: "vax")
    assert not confine()
