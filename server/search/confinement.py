"""What a process that reads a stranger's document gives up first, for good.

Its memory and its time are limited. On Linux it can then ask the kernel for no more than memory and
for what it has open: no file, no network, no process. That needs no rights and works in a
container. Imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import sys
from contextlib import suppress
from struct import pack
from typing import Final

_NO_NEW_PRIVILEGES: Final = 38  # prctl's names for these are PR_…
_SET_SECCOMP: Final = 22
_SET_DEATH_SIGNAL: Final = 1
_FILTER: Final = 2

_FILES: Final = 64

# The system calls that are left: their numbers on x86-64 and on arm64.
_ALLOWED: Final = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "newfstatat": (262, 79),  # glibc's fstat
    "lseek": (8, 62),
    "pread64": (17, 67),
    "writev": (20, 66),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "futex": (202, 98),
    "clock_gettime": (228, 113),
    "getrandom": (318, 278),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Berkeley packet filters: an instruction is its code, two jumps, and a number.
_LOAD: Final = 0x20  # a word of what is asked: the number of the call, or the architecture
_NUMBER, _ARCHITECTURE = 0, 4
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_KILL: Final = 0x80000000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def limit(*, memory: int, seconds: int) -> None:
    """Take no more than this: bytes of memory, seconds of processor time. Write no file.

    Nor start processes, if this one is not root's.
    """
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CPU, seconds, grace=1)  # SIGXCPU tells why, SIGKILL would not
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_NOFILE, _FILES)


def die_with(parent: int) -> None:
    """End when the parent does, however that ends."""
    if sys.platform == "linux":
        _control(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it was quicker
        os._exit(1)


def confine() -> bool:
    """Keep what is open and give up all else. Returns whether the system could do that."""
    known = _ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or known is None:
        return False
    instructions = _instructions(*known)
    program = _Program(len(instructions) // 8, instructions)
    return _control(_NO_NEW_PRIVILEGES, 1) and _control(
        _SET_SECCOMP, _FILTER, ctypes.addressof(program)
    )


def _instructions(architecture: int, column: int) -> bytes:
    """Of a filter that lets the allowed calls pass and refuses all others."""
    allowed = [numbers[column] for numbers in _ALLOWED.values()]
    checks = [
        _instruction(_JUMP_IF_EQUAL, number, if_equal=len(allowed) - place)
        for place, number in enumerate(allowed)
    ]
    return b"".join(
        [
            _instruction(_LOAD, _ARCHITECTURE),
            _instruction(_JUMP_IF_EQUAL, architecture, if_equal=1),
            _instruction(_RETURN, _KILL),
            _instruction(_LOAD, _NUMBER),
            *checks,
            _instruction(_RETURN, _REFUSE),
            _instruction(_RETURN, _ALLOW),
        ]
    )


def _instruction(code: int, number: int, *, if_equal: int = 0) -> bytes:
    return pack("=HBBI", code, if_equal, 0, number)


def _limit(kind: int, most: int, *, grace: int = 0) -> None:
    """No more than is allowed already."""
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or hard > most + grace:
        hard = most + grace
    with suppress(ValueError, OSError):  # not every system limits memory
        resource.setrlimit(kind, (min(most, hard), hard))


def _control(option: int, *given: int) -> bool:
    arguments = [ctypes.c_ulong(value) for value in (*given, 0, 0, 0, 0)[:4]]
    return bool(ctypes.CDLL(None).prctl(option, *arguments) == 0)
