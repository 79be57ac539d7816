"""Code that means harm, a line each: none of it reaches the host, and each ends as it should."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.sandbox.frames import MOST_NAMES
from server.sandbox.pool import SessionPool
from server.sandbox.values import FileIn, Limit, Logs, SandboxCrashed
from tests.sandbox.support import KEY, SETTINGS, Calls, alive, images_of, text_of

SECRET = "a-secret-of-the-host"
DENIED = r"(PermissionError|FileNotFoundError|OSError|BlockingIOError|ProcessLookupError)"
NO_NETWORK = r"(Address family not supported|Name or service|name resolution|unreachable|Errno -)"

LIBC = "import ctypes, os; l = ctypes.CDLL(None, use_errno=True)\n"


def refused(call: str) -> str:
    """Code that makes a system call by libc and prints its error."""
    return f"{LIBC}print('result', {call}, ctypes.get_errno())"


@dataclass(frozen=True, slots=True)
class Hostile:
    """Code, what is said of it, and whether its session stays.

    `ends`: "lives"; "stops", interrupted at a limit; "is ended", at one; "crashes", by its own
    doing; "any", where the backends differ or the machine's speed decides.
    """

    code: str
    said: str
    ends: str = "lives"


EPERM = r"result -1 1\b"
ENOSYS = r"result -1 38\b"
BOMB = "while True: x.append(bytearray(20 << 20))"

HOSTILE = {
    # network
    "a connection to the internet": Hostile(
        "import socket; socket.create_connection(('192.0.2.1', 53), 2)", NO_NETWORK
    ),
    "a name to resolve": Hostile(
        "import socket; socket.getaddrinfo('example.com', 80)", r"gaierror|" + NO_NETWORK
    ),
    "a connection to the server": Hostile(
        "import socket; socket.create_connection(('127.0.0.1', @PORT@), 2)", NO_NETWORK
    ),
    "a raw socket": Hostile("import socket; socket.socket(socket.AF_PACKET, 3)", NO_NETWORK),
    "a netlink socket": Hostile("import socket; socket.socket(16, 3)", NO_NETWORK),
    "an abstract socket of the host's": Hostile(
        "import socket; socket.socket(socket.AF_UNIX).connect('\\0@ABSTRACT@')",
        r"ConnectionRefusedError|" + NO_NETWORK,
    ),
    "a socket in a folder of the host's": Hostile(
        "import socket; socket.socket(socket.AF_UNIX).connect('@LOCAL@')", DENIED
    ),
    "a message to a socket of the host's": Hostile(
        "import socket\nfor a in ('\\0@ABSTRACT@-datagrams', '@LOCAL@-datagrams'):\n"
        "  try:\n    s, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "    s.connect(a); s.send(b'x'); print('SENT')\n  except OSError as e: print('kept')",
        r"^kept\nkept\n$",
    ),
    "a pair of sockets of another family": Hostile(
        "import socket\nfor family in (2, 16, 30, 38):\n"
        "  for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):\n"
        "    try: socket.socketpair(family, kind)\n    except OSError as e: print(e.errno)",
        r"^(97\n){12}$",
    ),
    "a socket of the hypervisor's": Hostile(
        "import socket; socket.socket(40, 1).connect((2, 1))", NO_NETWORK
    ),
    # files
    "the passwords": Hostile("print(open('/etc/shadow').read())", DENIED),
    "a file of the server's": Hostile("print(open('@FILE@').read())", DENIED),
    "a file of the server's by another way": Hostile(
        "print(open('/proc/self/root@FILE@').read())", DENIED
    ),
    "the modes, times and owners of the server's files": Hostile(
        "import os\nfor change in (lambda f: os.chmod(f, 0), lambda f: os.utime(f, (1, 1)),"
        " lambda f: os.chown(f, -1, os.getgid()), lambda f: os.setxattr(f, 'user.x', b'1')):\n"
        "  for path in ('@FILE@', os.path.dirname('@FILE@')):\n"
        "    try: change(path)\n    except OSError: pass\nprint('tried')",
        r"^tried\n$",
    ),
    "what is at the top": Hostile(
        "import os; print(os.path.exists('/work'), os.path.exists('/home'))\nos.listdir('/boot')",
        DENIED,
    ),
    "write into the system": Hostile("open('/usr/x', 'w')", DENIED),
    "write into the packages": Hostile(
        "import os; open(os.path.join(os.path.dirname(os.__file__), 'evil.pth'), 'w')", DENIED
    ),
    "write into what runs it": Hostile(
        "open('/opt/session/server/sandbox/driver.py', 'w')", DENIED
    ),
    "the kernel's settings": Hostile(
        "open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x')", DENIED
    ),
    "the kernel's keys": Hostile("open('/proc/sysrq-trigger', 'w').write('b')", DENIED),
    "the machine's memory": Hostile("open('/dev/mem', 'rb').read(1)", DENIED),
    "a shell that looks around": Hostile(
        "import subprocess; print(subprocess.run('cat /etc/shadow @FILE@; ls /root',"
        " shell=True, capture_output=True, text=True).stderr)",
        r"(No such file|Permission denied)",
    ),
    "a device of its own": Hostile(
        "import os; os.mknod('/mnt/data/d', 0o20666, os.makedev(1, 1))", DENIED
    ),
    "all of the machine's asynchronous reads": Hostile(
        refused("l.syscall(206, 60000, ctypes.byref(ctypes.c_ulong()))"), EPERM
    ),
    "attributes of files that nobody counts": Hostile(
        "import os\nos.mkdir('d')\n"
        "rights = b'\\2\\0\\0\\0'"
        " + b''.join(bytes([who, 0, 7, 0]) + b'\\xff' * 4 for who in (1, 4, 32))\n"
        "os.setxattr('d', 'system.posix_acl_default', rights)\nprint(os.listxattr('d'))",
        r"^\[\]\n$",
    ),
    "a file by its handle": Hostile(refused("l.syscall(304, -100, 0, 0)"), EPERM),
    # environment, other processes
    "secrets in the environment": Hostile(
        "import os; print(sorted(os.environ))\n"
        "try: print(open('/proc/1/environ').read())\nexcept OSError as e: print(e)",
        r"^\['HOME', 'LANG'",
    ),
    "processes of the host": Hostile(
        "import os\ntry: print(len([p for p in os.listdir('/proc') if p.isdigit()]))\n"
        "except OSError as e: print(e)",
        r"^(2\n|.*denied)",
    ),
    "kill the server": Hostile("import os; os.kill(@VICTIM@, 9)", DENIED),
    "kill everybody": Hostile("import os; os.kill(-1, 9)", DENIED + r"|^$"),
    "kill its parent": Hostile(
        "import os, signal\nfor s in (2, 9, 15):\n  try: os.kill(os.getppid(), s)\n"
        "  except OSError as e: print(e)",
        r"(permitted|^$)",
    ),
    "the server's limits": Hostile(
        "import resource; resource.prlimit(@VICTIM@, resource.RLIMIT_CPU, (1, 1))", DENIED
    ),
    "the server's priority": Hostile("import os; os.setpriority(os.PRIO_PROCESS, 0, 19)", DENIED),
    "the server's processors": Hostile("import os; os.sched_setaffinity(@VICTIM@, [0])", DENIED),
    "trace the server": Hostile(refused("l.ptrace(16, @VICTIM@, 0, 0)"), EPERM),
    "read the server's memory": Hostile(
        refused("l.process_vm_readv(@VICTIM@, 0, 0, 0, 0, 0)"), EPERM
    ),
    "write into the process above": Hostile(
        "import os; open(f'/proc/{os.getppid()}/mem', 'r+b')", DENIED
    ),
    "open the server's process": Hostile(refused("l.syscall(434, @VICTIM@, 0)"), EPERM),
    "signals by way of a file": Hostile(
        "import fcntl, os; r, w = os.pipe(); fcntl.fcntl(r, 8, @VICTIM@)", DENIED
    ),
    "signals by way of a socket": Hostile(
        "import fcntl, os, socket\nfor ask in (0x8901, 0x8902):\n"
        "  try: fcntl.ioctl(socket.socketpair()[0], ask, os.getpid().to_bytes(4, 'little'))\n"
        "  except PermissionError: print('kept')",
        r"^kept\nkept\n$",
    ),
    "type into the terminal": Hostile("import fcntl; fcntl.ioctl(0, 0x5412, b'x')", DENIED),
    # rights
    "watch what others do in a folder": Hostile(refused("l.inotify_init1(0)"), EPERM),
    "a namespace": Hostile(refused("l.unshare(0x10000000)"), EPERM),
    "a namespace by a program": Hostile(
        "import subprocess; print(subprocess.run(['unshare', '-Ur', 'id'],"
        " capture_output=True, text=True).stderr)",
        r"Operation not permitted",
    ),
    "a namespace by clone": Hostile(refused("l.syscall(56, 0x10000011, 0, 0, 0, 0)"), EPERM),
    "a namespace by clone3": Hostile(refused("l.syscall(435, 0, 0)"), ENOSYS),
    "a call in another convention": Hostile(refused("l.syscall(0x40000000 + 101, 0)"), ENOSYS),
    "another user": Hostile(
        "import subprocess; print(subprocess.run(['su', '-c', 'id'], capture_output=True,"
        " text=True, stdin=subprocess.DEVNULL).returncode)",
        r"^[1-9]|NotFound",
    ),
    "become root": Hostile("import os; os.setuid(0); open('/usr/x', 'w')", DENIED),
    "a mount": Hostile(
        "import subprocess; r = subprocess.run(['mount', '-t', 'tmpfs', 'x', '/mnt'],"
        " capture_output=True, text=True); print(r.returncode, r.stderr)",
        r"^[1-9]",
    ),
    "a filter of its own for the kernel": Hostile(refused("l.syscall(321, 0, 0, 0)"), EPERM),
    "work for the kernel in rings": Hostile(refused("l.syscall(425, 8, 0)"), EPERM),
    "the kernel's key ring": Hostile(refused("l.syscall(250, 0, -3, 1)"), EPERM),
    "more than its limits": Hostile(
        "import resource\nfor k in ('NPROC', 'AS', 'FSIZE', 'NOFILE'):\n"
        "  try: resource.setrlimit(getattr(resource, 'RLIMIT_' + k), (-1, -1)); print('got', k)\n"
        "  except (OSError, ValueError) as e: print('kept', k)",
        r"^(kept \w+\n){4}$",
    ),
    "a core for the system": Hostile(
        "import resource\ntry: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); print('got')\n"
        "except (OSError, ValueError): print('kept')",
        r"^kept\n$",
    ),
    "a core for the system by another call": Hostile(refused("l.syscall(160, 4, 0)"), EPERM),
    # processes, processor, memory
    "processes without end": Hostile(
        "import os, time\nn = 0\ntry:\n  while n < 500:\n    if os.fork() == 0: time.sleep(100)\n"
        "    n += 1\nexcept OSError as e: print('stopped', n < 40)",
        r"stopped True",
    ),
    "processes without end by a shell": Hostile(
        "import subprocess; subprocess.run(['bash', '-c', ':(){ :|:& };:; wait'],"
        " stderr=subprocess.DEVNULL); print('over')",
        r"over|ran for more than",
        "any",
    ),
    "threads without end": Hostile(
        "import threading, time\nn = 0\ntry:\n  while n < 5000:\n"
        "    threading.Thread(target=time.sleep, args=(100,), daemon=True).start(); n += 1\n"
        "except RuntimeError as e: print('stopped', n < 40)",
        r"stopped True",
    ),
    "memory without end": Hostile(f"x = []\n{BOMB}", r"took more memory than 256 MiB", "is ended"),
    "memory without end under a name that is no text": Hostile(
        f"import ctypes; ctypes.CDLL(None).prctl(15, b'\\xff\\xfe', 0, 0, 0); x = []\n{BOMB}",
        r"took more memory than 256 MiB",
        "is ended",
    ),
    "memory without end in children": Hostile(
        "import os, time\nfor i in range(10):\n  if os.fork() == 0:\n"
        "    x = bytearray(b'x' * (60 << 20)); time.sleep(100)\ntime.sleep(100)",
        r"took more memory than 256 MiB",
        "is ended",
    ),
    "memory without end in a process whose first thread has ended": Hostile(
        "import ctypes, os, threading, time\nx = []\n"
        "def eat():\n  time.sleep(0.05)\n  for n in range(40):\n"
        "    x.append(b'x' * (20 << 20)); time.sleep(0.02)\n"
        "if os.fork() == 0:\n  threading.Thread(target=eat).start()\n"
        "  ctypes.CDLL(None).syscall(60, 0)\ntime.sleep(100)",
        r"took more memory than 256 MiB",
        "is ended",
    ),
    "memory in the buffers of sockets": Hostile(
        "import os, socket, time\nfor n in range(10):\n  if os.fork() == 0:\n    s = []\n"
        "    try:\n      while True: s += socket.socketpair()\n    except OSError: pass\n"
        "    time.sleep(100)\ntime.sleep(100)",
        r"took more memory than 256 MiB",
        "is ended",
    ),
    "memory in connections that nobody takes": Hostile(
        "import socket, time\nat = socket.socket(socket.AF_UNIX)\n"
        "at.bind('/tmp/s'); at.listen(4096)\n"
        "for n in range(2000):\n  with socket.socket(socket.AF_UNIX) as s:\n"
        "    s.connect('/tmp/s'); s.send(b'x' * (100 << 10))\ntime.sleep(100)",
        r"took more memory than 256 MiB|" + NO_NETWORK,
        "any",
    ),
    "larger buffers of sockets": Hostile(
        "import socket; socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 9)",
        DENIED,
    ),
    "a thread with files of its own": Hostile(refused("l.syscall(56, 0x10900, 0, 0, 0, 0)"), EPERM),
    "a thread that parts from the others' files": Hostile(
        refused("l.syscall(436, 4000, 4001, 2)"), EPERM
    ),
    "a process that nobody may look at": Hostile(
        "import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); time.sleep(0.5)\n"
        "print('hidden, and seen')",
        r"hidden, and seen|nobody may look at",
        "any",
    ),
    "a piece of memory that is too large": Hostile("x = bytearray(8 << 30)", r"MemoryError"),
    "a file in memory": Hostile("import os; os.memfd_create('x')", DENIED),
    "shared memory that stays": Hostile(refused("l.shmget(0, 1 << 30, 0o1600)"), EPERM),
    "messages between processes": Hostile(refused("l.msgsnd(0, 0, 0, 0)"), EPERM),
    "shared memory that nobody counts": Hostile("import mmap; mmap.mmap(-1, 1 << 20)", DENIED),
    "zeros that nobody counts": Hostile(
        "import mmap; mmap.mmap(open('/dev/zero', 'r+b').fileno(), 1 << 20)", DENIED
    ),
    "a loop without end": Hostile(
        "while True: pass", r"ran for more than 1.5 s.* are kept", "stops"
    ),
    "a loop that is deaf": Hostile(
        "import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except Exception: pass\nwhile True: pass",
        r"did not stop when it was interrupted",
        "is ended",
    ),
    "a loop that masks signals": Hostile(
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: pass",
        r"did not stop when it was interrupted",
        "is ended",
    ),
    "a loop that catches everything": Hostile(
        "import time\nwhile True:\n  try: time.sleep(100)\n  except BaseException: pass",
        r"did not stop when it was interrupted",
        "is ended",
    ),
    "recursion without end": Hostile("def f(): return f()\nf()", r"RecursionError"),
    "children that nobody waits for": Hostile(
        "import os\nfor i in range(20):\n  if os.fork() == 0: os._exit(0)\nprint('left')", r"left"
    ),
    "a child that leaves its parents": Hostile(
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: time.sleep(99)\n"
        "  os._exit(0)\nprint('left')",
        r"left",
    ),
    "a child that comes back out of the code": Hostile(
        "import os\npid = os.fork()\nif pid: print('parent')", r"parent"
    ),
    # disk
    "a file without end": Hostile(
        "f = open('/mnt/data/big', 'wb')\ntry:\n  while True: f.write(b'x' * (1 << 20))\n"
        "except OSError as e: print(e.errno, f.tell() >> 20)",
        r"^27 1[0-9]\n",
    ),
    "files until nothing fits": Hostile(
        "try:\n  for n in range(1000): open(f'/mnt/data/f{n}', 'wb').write(b'x' * (8 << 20))\n"
        "except OSError as e: print(e.errno, n)",
        r"^28 4\n|wrote more than 32 MiB",
        "any",
    ),
    "files that are deleted and open": Hostile(
        "import os, time\nfiles = []\ntry:\n  for n in range(8):\n"
        "    files.append(open('x', 'wb')); os.unlink('x'); files[-1].write(b'x' * (8 << 20))\n"
        "  time.sleep(100)\nexcept OSError as e: print(e.errno)",
        r"^28\n|wrote more than 32 MiB",
        "any",
    ),
    "files that are deleted and mapped": Hostile(
        "import mmap, os, time\nmaps = []\ntry:\n  for n in range(8):\n"
        "    with open('x', 'w+b') as f:\n      f.write(b'x' * (8 << 20)); f.flush()\n"
        "      os.unlink('x'); maps.append(mmap.mmap(f.fileno(), 4096))\n"
        "  time.sleep(100)\nexcept OSError as e: print(e.errno)",
        r"^28\n|wrote more than 32 MiB",
        "any",
    ),
    "more files than may be": Hostile(
        "for n in range(10**6): open(f'/mnt/data/i{n}', 'wb').close()",
        r"made more than 2,000 files",
        "is ended",
    ),
    "locks of parts of files without end": Hostile(
        "import fcntl\nfiles = [open(f'/mnt/data/l{n}', 'wb') for n in range(50)]\n"
        "for n in range(10**6): fcntl.lockf(files[n % 50], fcntl.LOCK_EX, 1, n // 50 * 2)",
        r"more than 2,000 locks of parts of files",
        "is ended",
    ),
    "locks of parts of files in children": Hostile(
        "import fcntl, os, time\nfor child in range(10):\n  if os.fork() == 0:\n"
        "    f = open(f'/mnt/data/l{child}', 'wb')\n"
        "    for n in range(300): fcntl.lockf(f, fcntl.LOCK_EX, 1, n * 2)\n"
        "    time.sleep(100)\ntime.sleep(100)",
        r"more than 2,000 locks of parts of files",
        "is ended",
    ),
    "watches without end": Hostile(
        "import os, select, time\npolls = [select.epoll() for n in range(50)]\n"
        "files = [f for n in range(50) for f in os.pipe()]\n"
        "for p in polls:\n  for f in files: p.register(f, 1)\ntime.sleep(100)",
        r"watches more than 4,096 files",
        "is ended",
    ),
    "watches in children": Hostile(
        "import os, select, time\nfor child in range(10):\n  if os.fork() == 0:\n"
        "    polls = [select.epoll() for n in range(5)]\n"
        "    files = [f for n in range(50) for f in os.pipe()]\n"
        "    for p in polls:\n      for f in files: p.register(f, 1)\n"
        "    time.sleep(100)\ntime.sleep(100)",
        r"watches more than 4,096 files",
        "is ended",
    ),
    "locks of files that are on their way": Hostile(
        "import fcntl, struct\nwith open('/mnt/data/l', 'wb') as f:\n"
        "  fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 1, 0))",
        DENIED,
    ),
    "shared memory as files": Hostile(
        "f = open('/dev/shm/x', 'wb')\ntry:\n  while True: f.write(b'x' * (1 << 20)); f.flush()\n"
        "except OSError as e: print('stopped', f.tell() >> 20)",
        r"stopped [0-9]\n|" + DENIED,
    ),
    "the top of the file system": Hostile(
        "for p in ('/x', '/run/x', '/mnt/x', '/dev/x', '/opt/x', '/var/x', '/etc/x', '/proc/x'):\n"
        "  try: open(p, 'wb'); print('WROTE', p)\n  except OSError: pass\nprint('none')",
        r"^none\n$",
    ),
    "folders in folders": Hostile(
        "import os\nfor n in range(1500):\n  os.mkdir('dddddd'); os.chdir('dddddd')\n"
        "os.chdir('/mnt/data'); print('deep')",
        r"deep|made more than",
        "any",
    ),
    "folders that nobody may look into": Hostile(
        "import os, time\nos.makedirs('a/b'); open('a/b/c', 'w').close(); os.chmod('a/b', 0)\n"
        "os.chmod('a', 0); time.sleep(0.3); print('closed')",
        r"closed|made more than",
        "any",
    ),
    # what comes out
    "output without end": Hostile(
        "while True: print('A' * 100_000)",
        r"printed more than 47.7 MiB|ran for more than",  # whichever comes first on a busy machine
        "any",
    ),
    "much output": Hostile(
        "import sys\nfor i in range(20): sys.stdout.write('A' * 1_000_000)\nprint('end')",
        r"^A{200000}\n\[19,800,004 more bytes were printed and are left out.\]\n$",
    ),
    "links in place of files": Hostile(
        "import os; os.symlink('/etc/passwd', 'out.csv'); os.symlink('@FILE@', 'o2');"
        " os.mkfifo('pipe'); print('made')",
        r"made",
    ),
    "names that are traps": Hostile(
        "for name in ('..\\n<b>.txt', b'\\xff\\xfe', 'a' * 250): open(name, 'w')\nprint('made')",
        r"made",
    ),
    "an object that shows itself wickedly": Hostile(
        "class E:\n  def __repr__(self): raise SystemExit\nE()", r"SystemExit"
    ),
    "an error that tells itself wickedly": Hostile(
        "class E(Exception):\n  def __str__(self): raise SystemExit\nraise E", r"E"
    ),
    "something that is pickled": Hostile(
        "import os, pickle\nclass X:\n  def __reduce__(self): return os.kill, (@VICTIM@, 9)\n"
        "open('r.pkl', 'wb').write(pickle.dumps(X()))",
        r"^\d+\n$",
    ),
    "text for a terminal": Hostile(
        "print('\\x1b]52;c;ZXZpbA==\\x07 \\x00')", r"^\x1b\]52;c;ZXZpbA==\x07 \ufffd\n$"
    ),
    "an answer from the keyboard": Hostile("input()", r"EOFError"),
    "its open files": Hostile(
        "import os\nfor f in range(3, 4096):\n  try: print(os.readlink(f'/proc/self/fd/{f}'))\n"
        "  except OSError: pass\nprint('all')",
        r"^((socket|pipe):.*\n|/dev/null\n){0,3}all\n$",
    ),
    # how it ends, and what it says to the host
    "an end": Hostile("import sys; sys.exit(3)", r"SystemExit: 3"),
    "a hard end": Hostile("import os; os._exit(0)", r"", "crashes"),
    "a crash": Hostile("import ctypes; ctypes.string_at(0)", r"", "crashes"),
    "no more socket": Hostile("import os; os.closerange(3, 4096)", r"", "crashes"),
    "bytes that are no frame": Hostile(
        "import os\nfor f in range(3, 4096):\n  try: os.write(f, b'\\x7f\\xff\\xff\\xff garbage')\n"
        "  except OSError: pass",
        r"",
        "crashes",
    ),
    "a frame of a negative length": Hostile(
        "@FORGE@\nforge(dict(number={}, is_='done'), raw=-5)", r"", "crashes"
    ),
    "a frame of a huge length": Hostile("@FORGE@\nforge({}, raw=1 << 40)", r"", "crashes"),
    "a frame of the wrong call": Hostile(
        "@FORGE@\nforge({'number': 99, 'is': 'done'})", r"", "crashes"
    ),
    "a frame without sense": Hostile("@FORGE@\nforge([[[[]]]])", r"", "crashes"),
    "a frame deep in itself": Hostile("@FORGE@\nforge_text(b'[' * 100_000)", r"", "crashes"),
    "pictures without end": Hostile(
        "@FORGE@\nwhile True: forge({'number': 1, 'is': 'image'}, b'\\x89PNG' * 1000)",
        r"",
        "crashes",
    ),
    "pictures that are none without end": Hostile(
        "@FORGE@\nwhile True: forge({'number': 1, 'is': 'image'})", r"", "crashes"
    ),
    "parts of a file that nobody wants": Hostile(
        "@FORGE@\nwhile True: forge({'number': 1, 'is': 'chunk'})", r"", "crashes"
    ),
    "more names than can be told": Hostile(
        "@FORGE@\nforge({'number': 1, 'is': 'done', 'written': [['a', 1]] * 5000})\n"
        "import time; time.sleep(100)",
        r"^$",
        "any",
    ),
    "files that it never wrote": Hostile(
        "@FORGE@\nforge({'number': 1, 'is': 'done', 'written':"
        " [['../../etc/passwd', 1], ['/etc/passwd', 1], ['a', -1], ['b', 'c'], 'd', [1, 2, 3]]})\n"
        "import time; time.sleep(100)",
        r"^$",
        "any",
    ),
}
FORGE = """
import json, os, stat
def host():
    for f in range(3, 4096):
        try:
            if stat.S_ISSOCK(os.fstat(f).st_mode): return f
        except OSError: continue
def forge_text(text, raw=b""):
    os.write(host(), len(text).to_bytes(4, "big") + text + raw)
def forge(head, raw=b""):
    if isinstance(head, dict):
        head["raw"] = len(raw) if isinstance(raw, bytes) else raw
    forge_text(json.dumps(head).encode(), raw if isinstance(raw, bytes) else b"")
"""


@dataclass(frozen=True, slots=True)
class Host:
    """What of the host code could reach for, if nothing kept it in: whoever it is may touch it."""

    folder: Path
    port: socket.socket
    abstract: socket.socket
    local: socket.socket
    datagrams: tuple[socket.socket, socket.socket]
    stats: list[tuple[int, int, int]]
    victim: subprocess.Popen[bytes]

    @property
    def values(self) -> dict[str, str]:
        """What stands in the codes for it."""
        return {
            "@FILE@": f"/{self.folder}/secret",  # of /tmp alone each session may have its own
            "@LOCAL@": f"/{self.folder}/local",
            "@ABSTRACT@": self.abstract.getsockname()[1:].decode(),
            "@VICTIM@": str(self.victim.pid),
            "@PORT@": str(self.port.getsockname()[1]),
            "@FORGE@": FORGE,
        }

    def check(self) -> None:
        """Nobody was here."""
        names = ["local", "local-datagrams", "secret"]
        assert sorted(each.name for each in self.folder.iterdir()) == names
        assert stats_of(self.folder) == self.stats
        assert (self.folder / "secret").read_text() == SECRET
        assert self.victim.poll() is None
        for listening in (self.port, self.abstract, self.local):
            listening.setblocking(False)
            with pytest.raises(BlockingIOError):
                listening.accept()
        for bound in self.datagrams:
            with pytest.raises(BlockingIOError):
                bound.recv(1)


def stats_of(folder: Path) -> list[tuple[int, int, int]]:
    """Of it and what is in it: what only the owner may change."""
    found = [path.stat() for path in (folder, *sorted(folder.iterdir()))]
    return [(each.st_mode, each.st_ctime_ns, each.st_mtime_ns) for each in found]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A folder that everybody may write in, sockets that everybody may connect to, a process."""
    monkeypatch.setenv("HOSTS_SECRET", SECRET)
    victim = subprocess.Popen(["sleep", "60"])
    with (
        tempfile.TemporaryDirectory(prefix="host-") as name,
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far,
    ):
        folder = Path(name)
        (folder / "secret").write_text(SECRET)
        abstract.bind(f"\0host-{os.getpid()}")
        local.bind(str(folder / "local"))
        near.bind(f"\0host-{os.getpid()}-datagrams")
        far.bind(str(folder / "local-datagrams"))
        for bound in (near, far):
            bound.setblocking(False)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o777)
        abstract.listen(1)
        local.listen(1)
        yield Host(folder, port, abstract, local, (near, far), stats_of(folder), victim)
    victim.kill()
    victim.wait()


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_code_reaches_nothing(calls: Calls, host: Host, name: str) -> None:
    """It says what it has to, its session ends as it should, and the host is as it was."""
    hostile, values = HOSTILE[name], host.values
    code = re.sub("@[A-Z]+@", lambda found: values[found[0]], hostile.code)
    said, ended = await outcome(calls, code)
    assert ended == hostile.ends or hostile.ends == "any", said
    assert re.search(hostile.said, said), said
    assert SECRET not in said
    if hostile.ends in ("lives", "stops"):
        assert await calls.text("print('still there')") == "still there\n"
    host.check()
    pids = calls.pids
    await calls.pool.close()
    assert not alive(pids)


LIMITS: dict[Limit, str] = {
    "time": "ran for more than",
    "processor": "seconds of processor time",
    "memory": "took more memory",
    "processes": "more than .* processes",
    "files": "made more than .* files",
    "locks": "more than .* locks",
    "watches": "watches more than",
    "disk": "wrote more than",
    "output": "printed more than",
    "unseen": "look(ed)? at",
}


async def outcome(calls: Calls, code: str) -> tuple[str, str]:
    """What was said, and how it ended."""
    try:
        result = await calls.run(code)
    except SandboxCrashed:
        return "".join(each.text for each in calls.told if isinstance(each, Logs)), "crashes"
    assert len(images_of(result)) <= SETTINGS.figures
    assert len(result.written) <= MOST_NAMES
    assert all(re.fullmatch(r"[\w.-]+(/[\w.-]+)*", each.name) for each in result.written)
    if result.problem is None:
        assert result.limit is None
        return text_of(result), "lives"
    assert result.limit is not None
    assert re.search(LIMITS[result.limit], result.problem)
    return text_of(result), "stops" if "are kept" in result.problem else "is ended"


async def test_a_link_in_place_of_an_upload_is_replaced(calls: Calls, tmp_path: Path) -> None:
    """Code cannot have the host write through a link, nor read through one."""
    path = tmp_path / "stored"
    path.write_text("uploaded")
    await calls.run("import os\nopen('kept', 'w').write('mine'); os.symlink('kept', 'in.txt')")
    told = await calls.text(
        "print(open('in.txt').read(), open('kept').read(), os.path.islink('in.txt'))",
        FileIn("in.txt", path, "file-1"),
    )
    assert told == "uploaded mine False\n"
    await calls.run("os.symlink('/etc/passwd', 'link')")
    with pytest.raises(LookupError):
        await calls.pool.read(KEY, "link", tmp_path / "out")


async def test_a_file_has_no_end_of_parts(calls: Calls, tmp_path: Path) -> None:
    """Whoever sends it in parts of a byte ends his session."""
    code = f"""{FORGE}
import gc
def send(*_):
    while True: forge({{'number': 2, 'is': 'chunk'}}, b'x')
for each in gc.get_objects():
    if type(each).__name__ == 'Driver': each.do_get = send
"""
    await calls.run(code)
    with pytest.raises(SandboxCrashed, match="broke the protocol"):
        await calls.pool.read(KEY, "endless", tmp_path / "out")
    assert (tmp_path / "out").stat().st_size < 1000


BYTES = {
    "to be printed": "while True: os.write(1, b'x')",
    "of a frame": "to = host(); os.write(to, b'\\0\\x10\\0\\0')\nwhile True: os.write(to, b'x')",
}


@pytest.mark.parametrize("code", BYTES.values(), ids=BYTES)
async def test_single_bytes_are_heard_together(
    pool: SessionPool, calls: Calls, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Whoever writes them as fast as he can leaves the event loop to others."""
    await calls.run("1")
    [session] = [each.session for each in pool._places.values() if each.session is not None]
    turns = []
    for name in ("_read_frames", "_read_output"):
        read = getattr(session._process, name)

        def counted(read: Callable[[], None] = read) -> None:
            turns.append(read)
            read()

        monkeypatch.setattr(session._process, name, counted)
    result = await calls.run(f"{FORGE}\n{code}")
    assert result.limit == "time"
    assert 10 < len(turns) < 1000
