"""A session from inside: takes requests over one socket, runs code, says what came of it.

Started by the host as `python -c …`, with nothing of the server at hand but this module and those
that it imports. Whoever's code runs here can change all of it; nobody relies on it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import signal
import stat
import sys
from _thread import allocate_lock, get_ident  # threading takes longer
from collections.abc import Iterator
from typing import Any, Final

from server.confinement import die_with
from server.sandbox.frames import (
    CHUNK,
    LENGTH_BYTES,
    MOST_NAMES,
    MOST_RAW,
    Head,
    can_be_told,
    encode,
    parse,
    raw_length,
)
from server.sandbox.giving_up import be_first, give_up, keep
from server.sandbox.notebook import Notebook
from server.sandbox.places import DATA, TMP
from server.sandbox.terminal import Terminal

_MOST_LOOKED_AT: Final = 20_000
_LONGEST_NAME: Final = 240  # bytes
_TERMINALS: Final = (0, 1, 2)


class Channel:
    """The socket to the host. Ends the process when there is no host any more."""

    def __init__(self, file: int) -> None:
        self.file = file
        os.set_inheritable(file, False)

    def read(self) -> tuple[Head, bytes]:
        length = int.from_bytes(self._exactly(LENGTH_BYTES), "big")
        head = parse(self._exactly(length))
        return head, self._exactly(raw_length(head))

    def write(self, head: Head, raw: bytes = b"") -> None:
        left = memoryview(encode(head, raw))
        while left:
            left = left[os.write(self.file, left) :]

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self.file, min(size, CHUNK))
            if not part:
                os._exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class Driver:
    """Answers requests, each with its number, one after the other."""

    def __init__(self, channel: Channel, start: Head) -> None:
        self._channel = channel
        self._data = start["data"]
        self._terminal = Terminal()
        self._notebook = Notebook(
            self._terminal,
            {DATA: self._data, TMP: os.environ["TMPDIR"]},
            self._show,
            most_figures=start["figures"],
            figure_bytes=MOST_RAW,
        )
        self._most_figures = start["figures"]
        self._figures_left = 0  # that the host takes in this call
        self._late: list[bytes] = []  # figures that threads have shown between calls
        self._is_called = False
        self._speaking = allocate_lock()  # threads of the code's show figures, too
        self._pid = os.getpid()
        self._thread = get_ident()  # the one that signals reach
        self._number = 0
        self._runs = False
        self._was_interrupted = False
        self._is_whole = True  # the file that is being put

    def serve(self) -> None:
        while True:
            head, raw = self._channel.read()
            if head["do"] == "go on":  # for a figure that the code has sent by itself
                continue
            self._number = head["number"]
            answer = getattr(self, f"do_{head['do']}")(head, raw)
            with self._speaking:
                self._is_called = False
                self._channel.write({"number": self._number, "is": "done", **answer})

    def do_warm(self, head: Head, _: bytes) -> Head:
        """Import what most code imports, and draw once, which is slow the first time."""
        for name in head["modules"]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
            drawing: Any = pyplot
            drawing.figure().savefig(io.BytesIO(), format="png")
            drawing.close("all")
        return {}

    def do_run(self, _: Head, code: bytes) -> Head:
        """Run code; what it has done to files is in the answer."""
        before = dict(_files(self._data))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, self._interrupted)
        with self._speaking:
            self._is_called, self._figures_left = True, self._most_figures
        try:
            try:
                self._was_interrupted, self._runs = False, True
                late = self._show_late()
                self._notebook.run(code.decode("utf-8", "surrogatepass"), shown=late)
            finally:
                self._runs = False
        except BaseException:  # noqa: BLE001, behind the code's last line
            pass
        if os.getpid() != self._pid:  # a child of the code's came back out of it
            os._exit(0)
        after = dict(_files(self._data))
        changed = [[name, known[0]] for name, known in after.items() if before.get(name) != known]
        return {"written": changed[:MOST_NAMES]}

    def do_put(self, head: Head, _: bytes) -> Head:
        """Make a file of the frames that follow, in place of what has its name."""
        part = os.path.join(self._data, f".part-{self._number}")  # noqa: PTH118, as in restrict()
        problem, self._is_whole = None, False
        try:
            with open(part, "xb") as file:  # noqa: PTH123
                file.writelines(self._chunks())
            os.replace(part, os.path.join(self._data, head["name"]))  # noqa: PTH105, PTH118
        except OSError as error:
            problem = error.strerror or "it was not written"
            for _chunk in self._chunks():
                continue
            with contextlib.suppress(OSError):
                os.unlink(part)  # noqa: PTH108
        return {"problem": problem}

    def _chunks(self) -> Iterator[bytes]:
        """Up to the empty one."""
        while not self._is_whole:
            _, raw = self._channel.read()
            self._is_whole = not raw
            yield raw

    def do_get(self, head: Head, _: bytes) -> Head:
        """Send a file; nothing that only looks like one."""
        path = os.path.join(self._data, head["name"])  # noqa: PTH118
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(path, flags)
        except (OSError, ValueError):
            return {"gone": True}
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                return {"gone": True}
            left = found.st_size  # as it is now: a thread may write on
            while chunk := os.read(file, min(left, CHUNK)):
                self._channel.write({"number": self._number, "is": "chunk"}, chunk)
                left -= len(chunk)
        finally:
            os.close(file)
        return {"gone": False}

    def _show(self, picture: bytes) -> None:
        """Goes on only when the host has read it, and so all that was printed before.

        What a thread shows between two calls, the host reads in the second one.
        """
        if os.getpid() != self._pid:
            return
        self._terminal.flush()
        if get_ident() != self._thread:
            self._send(picture)
            return
        was_running, self._runs = self._runs, False
        self._send(picture)
        self._runs = was_running
        if self._was_interrupted:
            self._interrupted()

    def _send(self, picture: bytes) -> None:
        with self._speaking:
            if self._is_called and self._figures_left:
                self._figures_left -= 1
                self._channel.write({"number": self._number, "is": "image"}, picture)
                self._channel.read()
            elif not self._is_called and len(self._late) < self._most_figures:
                self._late.append(picture)

    def _show_late(self) -> int:
        """What was shown since the last call; returns how many figures that are."""
        late, self._late = self._late, []
        for picture in late:
            self._show(picture)
        return len(late)

    def _interrupted(self, *_: object) -> None:
        """In the middle of a frame it has to wait."""
        self._was_interrupted = not self._runs
        if self._runs:
            raise KeyboardInterrupt


def _files(root: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Names of regular files below, with what changes when one does; its size comes first."""
    folders, looked_at = [""], 0
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))  # noqa: PTH118
        except OSError:
            continue
        for entry in entries:
            looked_at += 1
            if looked_at > _MOST_LOOKED_AT:
                return
            name = folder + entry.name
            if entry.name.startswith((".", "__pycache__")) or not _is_told(name):
                continue
            with contextlib.suppress(OSError):
                known = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(known.st_mode):
                    folders.append(name + "/")
                elif stat.S_ISREG(known.st_mode):
                    yield name, (known.st_size, known.st_mtime_ns, known.st_ino)


def _is_told(name: str) -> bool:
    return can_be_told(name) and len(name.encode("utf-8", "replace")) <= _LONGEST_NAME


def _keep_fonts(source: str) -> None:
    """Put what matplotlib knows of the fonts where it looks for it: to find out takes a second."""
    target = os.environ["MPLCONFIGDIR"]
    with contextlib.suppress(OSError):
        shutil.copytree(source, target, dirs_exist_ok=True)


def main(file: int) -> None:
    channel = Channel(file)
    start, _ = channel.read()
    files = (file, *_TERMINALS)
    if start["keep"] is None:
        be_first(files)
    else:
        keep(**start["keep"], uid=start["uid"], files=files)
    above = os.getppid()
    give_up(start)
    os.chdir(start["data"])
    die_with(above)
    if start["fonts"]:
        _keep_fonts(start["fonts"])
    sys.argv = [""]
    sys.path.insert(0, "")
    for name in [name for name in sys.modules if name.partition(".")[0] == "server"]:
        del sys.modules[name]
    driver = Driver(channel, start)
    channel.write({"number": 0, "is": "done"})
    driver.serve()
