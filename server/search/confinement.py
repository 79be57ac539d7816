"""What a process that reads a stranger's document gives up first, for good.

Its memory and its time are limited. On Linux it can then ask the kernel for no more than memory and
for what it has open: no file, no network, no process. Imports nothing but the standard library.
"""

from __future__ import annotations

import resource
from typing import Final

from server.confinement import ALLOW, column, if_equal, install, lower, refuse

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


def limit(*, memory: int, seconds: int) -> None:
    """Take no more than this: bytes of memory, seconds of processor time. Write no file.

    Nor start processes, if this one is not root's.
    """
    lower(resource.RLIMIT_AS, memory)
    lower(resource.RLIMIT_CPU, seconds, grace=1)  # SIGXCPU tells why, SIGKILL would not
    lower(resource.RLIMIT_FSIZE, 0)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_NPROC, 0)
    lower(resource.RLIMIT_NOFILE, _FILES)


def confine() -> bool:
    """Keep what is open and give up all else. Returns whether the system could do that."""
    here = column()
    if here is None:
        return False
    return install([if_equal(numbers[here], [ALLOW]) for numbers in _ALLOWED.values()], refuse())
