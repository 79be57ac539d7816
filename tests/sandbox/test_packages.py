"""What code does with the packages of `assistants packages`; skipped where these were not made."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server import fetching
from server.fetching import Unobtainable
from server.sandbox import packages
from server.sandbox.backends import FONTS, Backend, CannotStart, Python
from server.sandbox.choice import usual_environment
from server.sandbox.pool import SessionPool
from server.sandbox.values import Image, Logs, Written
from tests.sandbox.conftest import BACKENDS, SYSTEM
from tests.sandbox.support import KEY, SETTINGS, Calls, images_of, text_of, until
from tests.support import ManualClock
from tests.untested import not_tested

ROOMY = SETTINGS.model_copy(update={"memory": 2**30, "seconds": 60.0, "spare": 1})


def open_environment(folder: Path) -> Python:
    """The usual packages under the machine's own Python, for users who cannot read the tests'.

    Raises CannotStart if that is of another version.
    """
    usual = usual_environment()
    installed = usual / "lib" / SYSTEM.resolve().name / "site-packages"
    if not installed.is_dir():
        raise CannotStart(f"{SYSTEM} is of another version than {usual}")
    libraries = folder / installed.relative_to(usual)
    libraries.parent.mkdir(parents=True)
    libraries.symlink_to(installed)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(SYSTEM.resolve())
    (folder / "pyvenv.cfg").write_text(f"home = {SYSTEM.parent}\n")
    folder.chmod(0o755)
    found = Python.of(folder)
    return replace(found, folders=(*found.folders, usual), fonts=str(usual / FONTS))


def backend_with_packages(name: str, folder: Path) -> Backend:
    """Raises CannotStart."""
    kind = BACKENDS[name]
    try:
        return kind(ROOMY, Python.of(usual_environment()))
    except CannotStart:
        return kind(ROOMY, open_environment(folder))


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that everybody may read, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
async def stocked(backend: str, readable: Path) -> AsyncIterator[Calls]:
    """A session with packages, which was a spare one."""
    if not packages.is_made(usual_environment()):
        not_tested("code with packages", "there are none: make packages")
    try:
        made = backend_with_packages(backend, readable)
    except CannotStart as problem:
        not_tested(f"code with packages in {backend}", str(problem))
    pool = SessionPool(made, ROOMY, ManualClock())
    pool.start()
    await until(lambda: bool(pool.spares))
    yield Calls(pool)
    await pool.close()


def size_of(image: Image) -> tuple[int, int]:
    """Width and height, as the PNG's header has them."""
    assert image.data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", image.data[16:24])
    return width, height


async def test_figures_come_where_they_were_shown(stocked: Calls) -> None:
    """At `plt.show()`, between what was printed, and at the end of the call; each once."""
    code = """
import matplotlib.pyplot as plt
print("before")
plt.plot([1, 2, 3])
plt.show()
print("between")
fig, ax = plt.subplots(figsize=(2, 2))
ax.bar([1, 2], [3, 4])
print("after")
"""
    result = await stocked.run(code)
    first, picture, second, other = result.outputs
    assert (first, second) == (Logs("before\n"), Logs("between\nafter\n"))
    assert isinstance(picture, Image)
    assert isinstance(other, Image)
    assert size_of(picture) > size_of(other) > (50, 50)
    assert (await stocked.run("1")).outputs == [Logs("1\n")]


async def test_figures_beyond_the_limit_are_told_of(stocked: Calls) -> None:
    """They are not shown, and the next call has figures again."""
    result = await stocked.run(
        "import matplotlib.pyplot as plt\nfor n in range(5): plt.figure()\nplt.show()"
    )
    assert len(images_of(result)) == ROOMY.figures
    assert "[Only the first 3 figures are shown.]" in text_of(result)
    assert len(images_of(await stocked.run("plt.figure(); None"))) == 1


async def test_a_broken_figure_is_a_traceback(stocked: Calls) -> None:
    """And the session lives."""
    told = await stocked.text("import matplotlib.pyplot as plt\nplt.title('$\\\\frac{$'); None")
    assert "ValueError" in told
    assert await stocked.text("1") == "1\n"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("import numpy as np\nnp.arange(3) * 2", "array([0, 2, 4])"),
        ("import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})", "   a  b\n0  1  x"),
        ("import scipy.optimize as o\nround(o.brentq(lambda x: x * x - 2, 0, 2), 6)", "1.414214"),
        ("import sympy\nsympy.integrate(sympy.Symbol('x') ** 2)", "x**3/3"),
        ("from PIL import Image\nImage.new('RGB', (4, 5)).size", "(4, 5)"),
        (
            "import pandas as pd\npd.DataFrame({'a': [1]}).to_excel('t.xlsx')\n"
            "pd.read_excel('t.xlsx')['a'].sum()",
            "1",
        ),
        ("import numpy as np\n(np.ones((500, 500)) @ np.ones((500, 500))).sum()", "125000000.0"),
    ],
)
async def test_packages_do_their_work(stocked: Calls, code: str, shown: str) -> None:
    """Nothing that they need of the system is refused, and they warn of nothing."""
    told = await stocked.text(code)
    assert shown in told
    assert "Warning" not in told
    assert "Traceback" not in told


async def test_processes_share_work(stocked: Calls, backend: str) -> None:
    """Where there is a place for what they share, which landlock has not."""
    code = "import multiprocessing as m\nm.get_context('fork').Pool(2).map(abs, [-1, -2])"
    told = await stocked.text(code)
    assert ("PermissionError" if backend == "landlock" else "[1, 2]") in told


async def test_a_picture_that_is_saved_is_a_file(stocked: Calls, tmp_path: Path) -> None:
    """It can be read, and is shown only if its figure stays open."""
    code = "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.savefig('p.png')\nplt.close()"
    result = await stocked.run(code)
    assert result.outputs == []
    assert [each.name for each in result.written] == ["p.png"]
    assert isinstance(result.written[0], Written)
    await stocked.pool.read(KEY, "p.png", tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


async def test_scripts_draw_as_well(stocked: Calls) -> None:
    """What they save; and the session goes on to show its figures, also from the first import."""
    script = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('c.png')\n"
    code = f"with open('s.py', 'w') as file: file.write({script!r})\n!python s.py"
    result = await stocked.run(code)
    assert "Traceback" not in text_of(result)
    assert {each.name for each in result.written} == {"s.py", "c.png"}
    for key in (KEY, ("default", "thread_2")):
        shown = await Calls(stocked.pool, key).run(f"{script}plt.show()\nprint('behind')")
        assert isinstance(shown.outputs[-2], Image)
        assert shown.outputs[-1] == Logs("behind\n")


async def test_without_packages_an_import_says_so(calls: Calls) -> None:
    """So that the model does without."""
    told = await calls.text("import numpy")
    assert "ModuleNotFoundError: No module named 'numpy'\n" in told
    assert "No packages are installed here" in told


def test_what_is_made_is_known_by_its_lock(tmp_path: Path) -> None:
    """Another version of the lock has it made again."""
    assert not packages.is_made(tmp_path)
    (tmp_path / "code-interpreter.lock").write_text("numpy==1.0")
    assert not packages.is_made(tmp_path)


def test_without_pip_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is made."""
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Unobtainable, match="pip is not there"):
        packages.make(tmp_path / "environment")
    assert not list(tmp_path.iterdir())


def test_without_an_index_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that is there is taken for one with packages; the user's own stays."""
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    (tmp_path / "own").mkdir()
    for name in ("new", "own"):
        with pytest.raises(Unobtainable, match="pip failed"):
            packages.make(tmp_path / name)
    assert [each.name for each in tmp_path.iterdir()] == ["own"]
