"""Code as a notebook runs it: one namespace, the last value shown, figures, tracebacks.

Runs inside the session. Imports nothing but the standard library; matplotlib is met when the code
imports it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import io
import linecache
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from types import CodeType, ModuleType
from typing import Any, Final

from server.sandbox.cell import compiled, packages
from server.sandbox.places import Places
from server.sandbox.terminal import Terminal

_BACKEND: Final = "session_figures"
_CELL: Final = "<cell "
_OURS: Final = __file__.rpartition("/")[0]
_AWAITS: Final = 0x80  # inspect.CO_COROUTINE; that module takes longer than all others here
_COARSER: Final = (2, 4)  # parts of its resolution in which a large figure may be shown
MATPLOTLIB_BACKEND: Final = "agg"  # of all but the session itself, whose figures are shown


class Notebook:
    """The cells of one session. `show` gets each figure as a PNG, in the order of the output.

    A PNG has less than `figure_bytes`.
    """

    def __init__(
        self,
        terminal: Terminal,
        places: Places,
        show: Callable[[bytes], None],
        *,
        most_figures: int,
        figure_bytes: int,
    ) -> None:
        self._module = ModuleType("__main__")
        self._cells = 0
        self._terminal = terminal
        self._places = places
        self._figures = Figures(show, most_figures, figure_bytes)
        self._loop: Any = None  # for what awaits; tasks of earlier cells go on in it
        sys.modules["__main__"] = self._module
        sys.meta_path.insert(0, self._figures)

    def run(self, code: str, *, shown: int) -> None:
        """Run a cell, for which that many figures are shown. What it raises is printed only."""
        self._figures.shown = shown
        self._terminal.restore()
        try:
            self._execute(code)
        except BaseException as error:  # noqa: BLE001, even SystemExit is the cell's affair
            self._tell(error)
        try:
            self._figures.show_all()
        except BaseException as error:  # noqa: BLE001, a figure may be of the code's own making
            self._tell(error)
        self._terminal.restore()

    def _execute(self, code: str) -> None:
        result = self._result(code)
        if result is not None:
            self._module.__dict__["_"] = result
            self._terminal.say(f"{result!r}\n")

    def _result(self, text: str) -> object:
        """The value to be shown, if there is one."""
        self._cells += 1
        name = f"{_CELL}{self._cells}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        codes = compiled(text, name, self._places)
        depth, value = sys.getrecursionlimit(), None
        try:
            if any(map(_awaits, codes)):
                return self._awaited(self._value_of(codes))
            for code in codes:
                value = eval(code, self._module.__dict__)
            return value
        finally:  # what would go on in code that is ours
            sys.settrace(None)
            sys.setprofile(None)
            sys.setrecursionlimit(max(depth, sys.getrecursionlimit()))
            signal.setitimer(signal.ITIMER_REAL, 0)

    async def _value_of(self, codes: list[CodeType]) -> Any:
        """Of the last one. All run within the loop, which they need to make tasks."""
        value: Any = None
        for code in codes:
            value = eval(code, self._module.__dict__)
            if _awaits(code):
                value = await value
        return value

    def _awaited(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._loop is None or self._loop.is_closed():
            asyncio: Any = importlib.import_module("asyncio")
            self._loop = asyncio.new_event_loop()
        task = self._loop.create_task(work)
        try:
            return self._loop.run_until_complete(task)
        finally:
            if task.cancel():  # it was interrupted while it waited
                with contextlib.suppress(BaseException):
                    self._loop.run_until_complete(task)

    def _tell(self, error: BaseException) -> None:
        """The traceback, without what of it is ours."""
        trace = error.__traceback__
        while trace and not trace.tb_frame.f_code.co_filename.startswith(_CELL):
            trace = trace.tb_next
        if isinstance(error, ModuleNotFoundError):
            error.add_note(packages())
        try:
            told = traceback.TracebackException(type(error), error, trace)
            while told.stack and told.stack[-1].filename.startswith(_OURS):  # what interrupted it
                told.stack.pop()
            text = "".join(told.format())
        except BaseException:  # noqa: BLE001, an exception may be as evil as any object
            text = f"{type(error).__name__}\n"
        self._terminal.say(text)


def _awaits(code: CodeType) -> bool:
    return bool(code.co_flags & _AWAITS)


class Figures(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """matplotlib's backend, in place of a window: shows figures, and closes them.

    Only in the session itself: programs that the code starts cannot import it.
    """

    def __init__(self, show: Callable[[bytes], None], most: int, most_bytes: int) -> None:
        self._show = show
        self._most = most
        self._most_bytes = most_bytes
        self.shown = 0

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == _BACKEND:
            return importlib.machinery.ModuleSpec(fullname, self)
        return _preset(fullname, path) if fullname == "matplotlib" else None

    def exec_module(self, module: ModuleType) -> None:
        agg: Any = importlib.import_module("matplotlib.backends.backend_agg")
        module.__dict__.update(FigureCanvas=agg.FigureCanvasAgg, show=self.show_all)

    def show_all(self, *_: object, **__: object) -> None:
        """All open figures, as `plt.show()` does."""
        pyplot: Any = sys.modules.get("matplotlib.pyplot")
        numbers = pyplot.get_fignums() if pyplot is not None else []
        try:
            for number in numbers:
                self._show_one(pyplot.figure(number))
        finally:
            if numbers:
                pyplot.close("all")

    def _show_one(self, figure: Any) -> None:
        self.shown += 1
        if self.shown > self._most:
            if self.shown == self._most + 1:
                print(f"[Only the first {self._most} figures are shown.]")  # noqa: T201, told so
            return
        for how in ({}, *({"dpi": figure.get_dpi() / part} for part in _COARSER)):
            picture = _drawn(figure, **how)
            if len(picture) < self._most_bytes:
                self._show(picture)
                return
        print("[The figure is too large to be shown.]")  # noqa: T201, the same


def _preset(fullname: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    """The module, with our backend once it is imported, unless the code has named one."""
    spec = importlib.machinery.PathFinder.find_spec(fullname, path)
    if spec is None or spec.loader is None:
        return None
    execute = spec.loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        settings = vars(module).get("rcParams")  # of a module that only has its name, none
        if settings is not None and os.environ.get("MPLBACKEND") == MATPLOTLIB_BACKEND:
            settings["backend"] = f"module://{_BACKEND}"

    vars(spec.loader)["exec_module"] = exec_module
    return spec


def _drawn(figure: Any, **how: float) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight", **how)
    return picture.getvalue()
