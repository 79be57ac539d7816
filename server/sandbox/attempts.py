"""Code that wants out of its session: its text is run there, to see whether anything lets it.

An attempt that raises has reached nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

REACHED: Final = "reached: "
END: Final = "tried all"
_NEW_USER: Final = 0x10000000
_ATTACH: Final = 16


def try_all(target: dict[str, Any]) -> None:
    """Print what can be reached of the host; `target` says where that is."""
    library = ctypes.CDLL(None)
    file, pid, secret = target["file"], target["pid"], target["secret"]
    above = f"/proc/{os.getppid()}/mem"
    local = socket.socket(socket.AF_UNIX) if target["unix"] else None
    attempts: dict[str, Callable[[], object]] = {
        "read a file of the server's": lambda: open(file).read(),  # noqa: PTH123, SIM115
        "write a file beside it": lambda: open(f"{file}.new", "w"),  # noqa: PTH123, SIM115
        "write to the system": lambda: open("/usr/written", "w"),  # noqa: PTH123, SIM115
        "connect to a port": lambda: socket.create_connection(("127.0.0.1", target["port"]), 1),
        "connect to a socket": lambda: local and local.connect_ex("\0" + target["socket"]) == 0,
        "send to a socket": lambda: any(map(_sends, target["datagrams"])),
        "change a file of the server's": lambda: _changes(file),
        "kill a process of the server's": lambda: _kills(pid),
        "read the server's environment": lambda: any(map(_tells(secret), _environments())),
        "have the server's environment": lambda: secret in os.environ.values(),
        "make a namespace": lambda: library.unshare(_NEW_USER) == 0,
        "trace a process": lambda: library.ptrace(_ATTACH, pid, 0, 0) == 0,
        "write into the process above": lambda: open(above, "r+b"),  # noqa: PTH123, SIM115
        "have memory that nobody counts": lambda: os.memfd_create("x"),
        "start processes without end": lambda: _forks(target["processes"]),
    }
    for what, attempt in attempts.items():
        with contextlib.suppress(Exception):
            if attempt():
                print(REACHED + what)  # noqa: T201, the only way out
    print(END)  # noqa: T201


def _environments() -> list[str]:
    return glob.glob("/proc/[0-9]*/environ")  # noqa: PTH207


def _tells(secret: str) -> Callable[[str], bool]:
    def tells(path: str) -> bool:
        with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
            return secret.encode() in file.read()
        return False

    return tells


def _sends(address: str) -> bool:
    with contextlib.suppress(OSError):
        ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.connect(address)
        return ours.send(b"x") > 0
    return False


def _changes(path: str) -> bool:
    os.chmod(path, 0o604)  # noqa: PTH101
    return os.stat(path).st_mode & 0o777 == 0o604  # noqa: PTH116


def _kills(pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    return True


def _forks(most: int) -> bool:
    children: list[int] = []
    try:
        while len(children) <= most:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    except OSError:
        return False
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return True
