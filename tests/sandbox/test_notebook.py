"""What a session does as a notebook, and goes on doing whatever its code has done to it."""

from __future__ import annotations

import pytest

from server.sandbox.pool import SessionPool
from tests.sandbox.support import Calls, text_of

LOWEST = """
import sys
for depth in range(5, 500):
    try:
        sys.setrecursionlimit(depth)
        break
    except RecursionError:
        continue
"""
ODD = {
    "closes its output": "import sys; sys.stdout.close()",
    "closes all streams": "import sys; sys.stdin.close(), sys.stdout.close(), sys.stderr.close()",
    "closes what it began with": "import sys; sys.__stdout__.close(), sys.__stderr__.close()",
    "has no output": "import sys; sys.stdout = sys.__stdout__ = sys.stderr = None",
    "deletes its output": "import sys; del sys.stdout",
    "keeps its output to itself": "import io, sys; sys.stdout = sys.stderr = io.StringIO()",
    "wraps its output": "import io, sys; sys.stdout = io.TextIOWrapper(sys.stdout.buffer)",
    "takes its output apart": "import sys; sys.stdout.detach()",
    "opens its output twice": "import sys; sys.stdout = open(1, 'w')",
    "has an odd output": "class S:\n  def flush(self): 1 / 0\nimport sys; sys.stdout = S()",
    "closes its files": "import os; os.close(0); os.close(1); os.close(2)",
    "has other files": "import os; n = os.open('/dev/null', 2); os.dup2(n, 1); os.dup2(n, 2)",
    "traces all that is called": "import sys; sys.settrace(lambda *_: print(1))",
    "measures all that is called": "import sys; sys.setprofile(lambda *_: print(1))",
    "has hardly any stack": LOWEST,
    "sets an alarm": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.2)",
    "ends": "import sys; sys.exit(3)",
    "ends as at a prompt": "quit()",
    "asks": "input('your name? ')",
    "stops to be looked at": "breakpoint()",
    "calls itself": "def f(): f()\nf()",
    "waits for the garbage": "import gc; gc.callbacks.append(lambda *_: 1 / 0); gc.collect()",
    "has a last will": "import atexit; atexit.register(print, 'bye')",
}


@pytest.mark.parametrize("code", ODD.values(), ids=ODD)
async def test_no_call_silences_the_next(calls: Calls, code: str) -> None:
    """Nor ends the session."""
    await calls.run("x = 5")
    await calls.run(code)
    again = (
        "import time; time.sleep(0.3)\nimport sys; print('on', file=sys.stderr); print('and on'); x"
    )
    assert await calls.text(again) == "on\nand on\n5\n"
    assert await calls.text("open('/mnt/data/f', 'w').write('abc')") == "3\n"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("import sys\nsys.stdout.close(); sys.__stderr__.close()\n1 / 0", "division by zero\n"),
        ("import sys\nsys.stdout = None\n6 * 7", "42\n"),
        ("import os\nos.close(1); os.close(2)\n6 * 7", "42\n"),
        ("import io, sys\nsys.stdout = io.StringIO()\nprint('lost')\n6 * 7", "42\n"),
        ("class Odd:\n  def __repr__(self): raise ValueError('odd')\nOdd()", "ValueError: odd\n"),
        ("class Odd(Exception):\n  def __str__(self): raise self\nraise Odd", "Odd"),
    ],
)
async def test_a_call_tells_what_came_of_it(calls: Calls, code: str, shown: str) -> None:
    """Its value or its error, also where its own streams are gone."""
    told = await calls.text(code)
    assert shown in told
    assert "lost" not in told


@pytest.mark.parametrize(
    "code",
    [
        "print('a', end=''); print('b', file=sys.stderr); print('c')",
        "sys.stderr.write('a'); print('b'); print('c', file=sys.stderr)",
        "print('a', end=''); os.system('echo b'); print('c')",
        "print('a', end='')\n!echo b\nprint('c')",
        "print('a', end='')\nif os.fork() == 0: print('b'); os._exit(0)\nos.wait(); print('c')",
        "sys.stdout.buffer.write(b'a'); print('b'); sys.stdout.buffer.write(b'c\\n'); None",
    ],
)
async def test_what_is_printed_stays_in_order(calls: Calls, code: str) -> None:
    """Whoever prints it, and whether its line is ended or not."""
    assert await calls.text(f"import os, sys\n{code}") == "ab\nc\n"


async def test_what_is_printed_is_whole(pool: SessionPool, calls: Calls) -> None:
    """Whatever signals come meanwhile."""
    code = """
import signal
ticks = []
signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while len(ticks) < 20: print('x' * 99_999)
_ = signal.setitimer(signal.ITIMER_REAL, 0)
"""
    await calls.run("1")
    [session] = [each.session for each in pool._places.values() if each.session is not None]
    heard: list[bytes] = []
    session._process.heard = heard.append  # more than a call keeps
    await calls.run(code)
    assert {len(line) for line in b"".join(heard).split()} == {99_999}


async def test_a_value_that_is_shown_for_ever_is_interrupted(calls: Calls) -> None:
    """It is the code's, like any loop."""
    result = await calls.run(
        "class Odd:\n  def __repr__(self):\n    while True: pass\nx = 1\nOdd()"
    )
    assert "KeyboardInterrupt" in text_of(result)
    assert await calls.text("x") == "1\n"


async def test_what_a_thread_says_later_is_the_next_call_s(calls: Calls) -> None:
    """It is lost neither then nor while nobody listens."""
    await calls.run("import threading\nt = threading.Timer(0.1, print, ['late']); t.start()")
    assert await calls.text("t.join(); print('next')") == "late\nnext\n"


async def test_code_may_await(calls: Calls) -> None:
    """As in a notebook; tasks of one call go on while another one waits."""
    code = """
import asyncio
async def work():
    await asyncio.sleep(0.05)
    return 'done'
task = asyncio.create_task(work())
await asyncio.sleep(0, 'begun')
"""
    assert await calls.text(code) == "'begun'\n"
    assert await calls.text("print(task.done())\nawait task") == "False\n'done'\n"
    assert await calls.text("asyncio.run(work())") == "'done'\n"
    told = await calls.text("await asyncio.sleep(0)\nawait asyncio.gather(1 / 0)")
    assert told.startswith('Traceback (most recent call last):\n  File "<cell 4>", line 2')


async def test_what_awaits_too_long_is_interrupted(calls: Calls) -> None:
    """It is over then: nothing of it runs in the next call."""
    code = "import asyncio\ntry: await asyncio.sleep(60)\nfinally: print('given up')"
    result = await calls.run(code)
    assert result.problem is not None
    assert "are kept" in result.problem
    assert "given up" in text_of(result)
    assert await calls.text("await asyncio.sleep(0, 1)") == "1\n"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("%matplotlib inline\n%config X.y = 1\nprint(7 %2)\n6 * 7", "1\n42\n"),
        ("%%time\n6 * 7", "42\n"),
        ("%%capture out --no-stderr\n6 * 7", "42\n"),
        ("x = 6\nif x:\n    %time x = 7\nx", "7\n"),
        ("!echo $((6 * 7))", "42\n"),
        ("for n in range(2):\n    !echo again\nn", "again\nagain\n1\n"),
        ("s = '''\n!left\n%as it is\n'''\n!echo \"it's (here\"\nlen(s)", "it's (here\n17\n"),
        ("!pip install rich\nprint('goes on')", "goes on\n"),
    ],
)
async def test_lines_of_ipython_s_are_understood(calls: Calls, code: str, shown: str) -> None:
    """Those that change how things look do nothing; commands are run, in the sandbox."""
    told = await calls.text(code)
    assert told.endswith(shown)
    assert "SyntaxError" not in told


async def test_a_command_s_folder_is_the_code_s(calls: Calls) -> None:
    """Files of one are the other's."""
    assert await calls.text("!echo there > /mnt/data/a.txt\nopen('a.txt').read()") == "'there\\n'\n"
    assert await calls.text("!pwd; ls /mnt/data") == "/mnt/data\na.txt\n"


@pytest.mark.parametrize("code", ["print('ran')\n%run other.py", "%%bash\nls | wc -l", "%cd /tmp"])
async def test_other_magic_is_refused_in_words(calls: Calls, code: str) -> None:
    """And nothing of the code runs."""
    told = await calls.text(code)
    assert "SyntaxError" in told
    assert "write it in plain Python" in told
    assert "ran\n" not in told


async def test_installing_is_told_what_is_there(calls: Calls) -> None:
    """However it is asked for."""
    for code in ("!pip install rich", "%pip install rich", "!python3 -m pip list", "import rich"):
        assert "and none can be" in await calls.text(code)


MATPLOTLIB = """
import os
os.mkdir('matplotlib')
with open('matplotlib/__init__.py', 'w') as module:
    module.write("import os\\nrcParams = {'backend': os.environ['MPLBACKEND']}\\n")
"""


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("", "module://session_figures"),
        ("import os; os.environ['MPLBACKEND'] = 'pdf'", "pdf"),
        ("import matplotlib; matplotlib.rcParams['backend'] = 'agg'", "agg"),
    ],
)
async def test_only_the_session_s_own_figures_are_shown(
    calls: Calls, code: str, shown: str
) -> None:
    """Unless the code has named another backend; no program that it starts can import ours."""
    await calls.run(MATPLOTLIB)
    tell = "import matplotlib; print(matplotlib.rcParams['backend'])"
    assert await calls.text(f"{code}\n{tell}") == f"{shown}\n"
    other = shown if shown == "pdf" else "agg"
    assert await calls.text(f'!python3 -c "{tell}"') == f"{other}\n"


async def test_nothing_of_ours_is_in_the_code(calls: Calls) -> None:
    """Annotations are what they are, not texts."""
    assert await calls.text("def f(x: int): ...\nf.__annotations__") == "{'x': <class 'int'>}\n"
