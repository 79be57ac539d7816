"""What keeps a session in: how it is started by bubblewrap, and how by Landlock."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import server
from server.config import CodeInterpreterSettings
from server.sandbox.folders import new_folder
from server.sandbox.frames import Head
from server.sandbox.giving_up import landlock_version
from server.sandbox.notebook import MATPLOTLIB_BACKEND
from server.sandbox.orphans import CODE
from server.sandbox.places import DATA, TMP, Places, places_in
from server.sandbox.process import BOOT, Launch
from server.sandbox.usage import processes_of

_MODULES: Final = (
    "confinement.py",
    "sandbox/cell.py",
    "sandbox/driver.py",
    "sandbox/frames.py",
    "sandbox/giving_up.py",
    "sandbox/notebook.py",
    "sandbox/places.py",
    "sandbox/terminal.py",
)
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_SETTINGS: Final = (
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
)
_DEVICES: Final = ("/dev/null", "/dev/random", "/dev/urandom")  # to map /dev/zero is free memory
_TMP_BYTES: Final = 64 * 2**20
_SHARED_BYTES: Final = 8 * 2**20
FONTS: Final = "matplotlib"  # in an environment: what matplotlib knows of the fonts
_CPU_GRACE: Final = 5  # seconds that a look from outside has, which tells why
_WITH_SCOPES: Final = 6  # the first version of Landlock that keeps signals in


class CannotStart(Exception):
    """A backend lacks something on this machine; the text says what."""


@dataclass(frozen=True, slots=True)
class Python:
    """The interpreter that sessions run, and the folders that it needs."""

    executable: Path
    folders: tuple[Path, ...]
    fonts: str | None
    has_packages: bool

    @property
    def command(self) -> tuple[str, ...]:
        """Packages that an installation happens to have are not for sessions."""
        alone = () if self.has_packages else ("-S",)
        return (str(self.executable), "-I", *alone)

    @classmethod
    def of(cls, environment: Path | None) -> Python:
        """Of a virtual environment, or of the server's own interpreter. Raises CannotStart."""
        if environment is None:
            return cls.bare(Path(getattr(sys, "_base_executable", sys.executable)))
        environment = environment.absolute()
        executable = environment / "bin" / "python"
        if not executable.exists():
            raise CannotStart(f"{environment} is no environment with a Python")
        fonts = environment / FONTS
        return cls(
            executable,
            (environment, *_needed(executable)),
            str(fonts) if fonts.is_dir() else None,
            has_packages=True,
        )

    @classmethod
    def bare(cls, executable: Path) -> Python:
        """An interpreter with nothing but its standard library."""
        return cls(executable, _needed(executable), None, has_packages=False)


def _needed(executable: Path) -> tuple[Path, ...]:
    """The installations that an interpreter is of, each link to it on the way included."""
    folders = dict.fromkeys(path.parents[1] for path in _links(executable))
    installed = [f for f in folders if any(f.glob("lib/python3*/os.py"))]
    return tuple(f for f in installed if not f.is_relative_to("/usr"))


def _links(path: Path) -> Iterator[Path]:
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield path
    yield path
    yield path.resolve()


class Backend(Protocol):
    """A way to start sessions."""

    @property
    def name(self) -> str: ...

    def launch(self, slot: int) -> Launch:
        """How to start a session; no two that live have the same slot. Raises OSError."""
        ...


class Bubblewrap:
    """Sessions in namespaces of their own: of files, processes, networks, users.

    A server that is root needs no namespace of users: its sessions become a user of their own.
    """

    name = "bubblewrap"

    def __init__(self, settings: CodeInterpreterSettings, python: Python) -> None:
        """Raises CannotStart."""
        found = shutil.which("bwrap")
        if found is None:
            raise CannotStart("the program bwrap is not installed")
        self._program = found
        self._settings = settings
        self._python = python

    def launch(self, slot: int) -> Launch:
        is_root = os.geteuid() == 0
        uid = self._settings.first_uid + slot if is_root else None
        command = (
            *(self._program, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
            *(_ROOTS_WAY if is_root else _USERS_WAY),
            *("--as-pid-1", "--die-with-parent", "--new-session", "--hostname", "sandbox"),
            *("--perms", "1777", "--size", str(_TMP_BYTES), "--tmpfs", TMP),
            *self._visible(),
            *("--proc", "/proc", "--tmpfs", "/dev"),
            *(word for device in _DEVICES for word in ("--dev-bind", device, device)),
            *("--symlink", "/proc/self/fd", "/dev/fd"),
            *("--perms", "1777", "--size", str(_SHARED_BYTES), "--tmpfs", "/dev/shm"),
            *("--perms", "1777", "--size", str(self._settings.disk), "--tmpfs", DATA),
            *("--chdir", DATA, "--remount-ro", "/", "--remount-ro", "/dev", "--"),
            *(*self._python.command, "-c", BOOT, CODE),
        )
        start = _start(self._settings, self._python, DATA, uid)
        environment = _environment(self._python, TMP)
        return Launch(command, environment, start)

    def _visible(self) -> Iterator[str]:
        for path in map(Path, _SYSTEM):
            if path.is_symlink():
                yield from ("--symlink", str(path.readlink()), str(path))
            elif path.is_dir():
                yield from ("--ro-bind", str(path), str(path))
        for settings in _SETTINGS:
            yield from ("--ro-bind-try", settings, settings)
        for folder in self._python.folders:
            for parent in reversed(folder.parents[:-1]):  # else they are as closed as they are here
                yield from ("--perms", "0755", "--dir", str(parent))
            yield from ("--ro-bind", str(folder), str(folder))
        here = Path(server.__file__).parent
        for module in _MODULES:
            yield from ("--ro-bind", str(here / module), f"{CODE}/server/{module}")


_ROOTS_WAY: Final = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
_USERS_WAY: Final = ("--unshare-user", "--disable-userns")


class Landlock:
    """Sessions that see the machine, and may touch nothing of it but a folder of their own.

    For where namespaces are not allowed, as in most containers. A server that is root gives each
    session a user id. /mnt/data and /tmp are names for folders in it, in the code's texts and
    in what it prints.
    """

    name = "landlock"

    def __init__(self, settings: CodeInterpreterSettings, python: Python) -> None:
        """Raises CannotStart."""
        version = landlock_version()
        if version == 0:
            raise CannotStart("this system has no Landlock")
        if version < _WITH_SCOPES and os.geteuid() != 0:
            raise CannotStart(
                "this system's Landlock does not keep signals in, so the server has to be root to "
                "give sessions users of their own"
            )
        closed = next((f for f in python.folders if not _is_open(f)), None)
        if os.geteuid() == 0 and closed is not None:
            raise CannotStart(f"the users that sessions have cannot read the Python in {closed}")
        self._settings = settings
        self._python = python

    def launch(self, slot: int) -> Launch:
        folder, lock = new_folder()
        places = places_in(str(folder))
        clear = partial(_remove, lock, *map(Path, places.values()), folder)
        try:
            return self._launch_in(folder, places, slot, clear)
        except BaseException:
            clear()
            raise

    def _launch_in(
        self, folder: Path, places: Places, slot: int, clear: Callable[[], None]
    ) -> Launch:
        uid = self._settings.first_uid + slot if os.geteuid() == 0 else None
        for each in (*map(Path, places.values()), folder):
            each.mkdir(mode=0o700, exist_ok=True)
            if uid is not None:
                os.chown(each, uid, uid)
        start = _start(self._settings, self._python, places[DATA], uid)
        start["keep"] = {"parent": os.getpid(), "folder": str(folder)}
        start["unix"] = False
        start["write"] = [*places.values(), "/dev/null"]
        start["read"] = [*_SYSTEM, *_SETTINGS, *map(str, self._python.folders), *_DEVICES]
        if uid is None:
            start["limits"]["NPROC"] += processes_of(os.getuid())
        command = (
            *(*self._python.command, "-c", BOOT),
            str(Path(server.__file__).parents[1]),
        )
        environment = _environment(self._python, places[TMP])
        return Launch(command, environment, start, folder, clear)


def _remove(lock: int, *folders: Path) -> None:
    """Of a session that had no keeper yet, so that nothing is in them; a keeper has done it."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
    os.close(lock)


def _is_open(folder: Path) -> bool:
    """Whether everybody may read in it."""
    return all(path.stat().st_mode & 0o005 == 0o005 for path in (folder, *folder.parents))


def _start(settings: CodeInterpreterSettings, python: Python, data: str, uid: int | None) -> Head:
    """What a session is told first."""
    return {
        "data": data,
        "fonts": python.fonts,
        "figures": settings.figures,
        "keep": None,
        "uid": uid,
        "unix": True,
        "read": None,
        "write": None,
        "limits": {
            "CORE": 1,  # byte: at 0 a program that the system has for cores would get one
            "CPU": settings.cpu_seconds + _CPU_GRACE,
            "AS": settings.process_memory,
            "FSIZE": settings.file_bytes,
            "NOFILE": settings.open_files,
            "NPROC": settings.processes,
        },
    }


def _environment(python: Python, home: str) -> dict[str, str]:
    """All that the code finds in its environment: nothing of the server's."""
    return {
        "PATH": f"{python.executable.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "MPLBACKEND": MATPLOTLIB_BACKEND,
        "MPLCONFIGDIR": f"{home}/.matplotlib",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


class Slots(Iterator[int]):
    """Numbers of sessions, in order, whose user ids nobody on this machine has.

    Nor does another server get them, until this is closed. The next one may raise OSError.
    """

    def __init__(self, settings: CodeInterpreterSettings) -> None:
        self._first_uid = settings.first_uid
        self._taken = {user.pw_uid for user in pwd.getpwall()}
        self._held = contextlib.ExitStack()
        self._next = 0

    def __next__(self) -> int:
        while not self._is_free(self._first_uid + self._next):
            self._next += 1
        self._next += 1
        return self._next - 1

    def close(self) -> None:
        self._held.close()

    def _is_free(self, uid: int) -> bool:
        return uid not in self._taken and (os.geteuid() != 0 or _reserved(uid, self._held))


def _reserved(uid: int, held: contextlib.ExitStack) -> bool:
    """By a name that is gone with whoever has it. Returns whether nobody had it."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0assistants-server-user-{uid}")
    except OSError:
        name.close()
        return False
    held.enter_context(name)
    return True
