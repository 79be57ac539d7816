"""What a process gives up for good before it does a stranger's work.

The system calls that a filter refuses, the kernel does neither for this process nor for any that it
starts. That needs no rights and works in a container. Imports nothing but the standard library, and
little of it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from struct import pack
from typing import Final

_NO_NEW_PRIVILEGES: Final = 38  # prctl's names for these are PR_…
_SET_SECCOMP: Final = 22
_SET_DEATH_SIGNAL: Final = 1
_FILTER: Final = 2

_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Berkeley packet filters: an instruction is its code, two jumps, and a number.
_LOAD: Final = 0x20  # a word of what is asked: the number of the call, or the architecture
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_AT_LEAST: Final = 0x35
_AND: Final = 0x54
_RETURN: Final = 0x06
_ERROR: Final = 0x00050000

Instructions = Sequence[bytes]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def lower(kind: int, most: int, *, grace: int = 0) -> None:
    """Take no more than `most` of a `resource.RLIMIT_…`, and `grace` more than that never."""
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or hard > most + grace:
        hard = most + grace
    with suppress(ValueError, OSError):  # not every system limits memory
        resource.setrlimit(kind, (min(most, hard), hard))


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Get the signal when the parent ends, however that ends."""
    if sys.platform == "linux":
        control(_SET_DEATH_SIGNAL, number)
    if os.getppid() != parent:  # it was quicker
        os._exit(1)


def gain_nothing() -> bool:
    """No program that is started from now on has more rights. Filters are taken only then."""
    return control(_NO_NEW_PRIVILEGES, 1)


def control(option: int, *given: int) -> bool:
    """prctl(2). Returns whether the system could do it."""
    arguments = [ctypes.c_ulong(value) for value in (*given, 0, 0, 0, 0)[:4]]
    return bool(ctypes.CDLL(None).prctl(option, *arguments) == 0)


def column() -> int | None:
    """Which of two numbers a system call has here: x86-64's or arm64's; None: neither."""
    known = _ARCHITECTURES.get(platform.machine())
    return known[1] if known is not None and sys.platform == "linux" else None


def install(checks: Iterable[Instructions], otherwise: bytes) -> bool:
    """Filter every later system call: the first check that returns decides, else `otherwise`.

    Returns whether the system could do that.
    """
    if column() is None:
        return False
    architecture, _ = _ARCHITECTURES[platform.machine()]
    instructions = b"".join(
        [
            _instruction(_LOAD, _ARCHITECTURE),
            *if_equal(architecture, [], otherwise=[KILL]),
            _instruction(_LOAD, _NUMBER),
            *(instruction for check in checks for instruction in check),
            otherwise,
        ]
    )
    program = _Program(len(instructions) // 8, instructions)
    return gain_nothing() and control(_SET_SECCOMP, _FILTER, ctypes.addressof(program))


def refuse(error: int = errno.EPERM) -> bytes:
    """The call fails with the error."""
    return _instruction(_RETURN, _ERROR | error)


def argument(place: int, *, mask: int = 0xFFFFFFFF) -> Instructions:
    """Look at the lower half of an argument, whose bits outside the mask do not count."""
    load = _instruction(_LOAD, _ARGUMENTS + 8 * place)
    return [load] if mask == 0xFFFFFFFF else [load, _instruction(_AND, mask)]


def if_equal(number: int, then: Instructions, otherwise: Instructions = ()) -> Instructions:
    """What to do if what was looked at is the number; after `then` it goes on behind both."""
    return _branch(_JUMP_IF_EQUAL, number, then, otherwise)


def if_at_least(number: int, then: Instructions) -> Instructions:
    return _branch(_JUMP_IF_AT_LEAST, number, then, ())


def _branch(code: int, number: int, then: Instructions, otherwise: Instructions) -> Instructions:
    """One of the two has to be empty or to end in a return."""
    if otherwise:
        return [_instruction(code, number, no=0, yes=len(otherwise)), *otherwise, *then]
    return [_instruction(code, number, no=len(then)), *then]


def _instruction(code: int, number: int, *, yes: int = 0, no: int = 0) -> bytes:
    return pack("=HBBI", code, yes, no, number)


ALLOW: Final = _instruction(_RETURN, 0x7FFF0000)
KILL: Final = _instruction(_RETURN, 0x80000000)
