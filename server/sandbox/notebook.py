"""Code as a notebook runs it: one namespace, the last value shown, figures, tracebacks.

Runs inside the session. Imports nothing but the standard library; matplotlib is met when the code
imports it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import io
import linecache
import sys
import traceback
from collections.abc import Callable, Sequence
from types import CodeType, ModuleType
from typing import Any, Final

from server.sandbox.places import Places, placed

_BACKEND: Final = "session_figures"
_CELL: Final = "<cell "
_OURS: Final = __file__.rpartition("/")[0]
_NO_PACKAGES: Final = "No packages are installed here: there is Python's standard library alone."
_COARSER: Final = (2, 4)  # parts of its resolution in which a large figure may be shown
MATPLOTLIB_BACKEND: Final = f"module://{_BACKEND}"


class Notebook:
    """The cells of one session. `show` gets each figure as a PNG, in the order of the output.

    A PNG has less than `figure_bytes`.
    """

    def __init__(
        self,
        show: Callable[[bytes], None],
        places: Places,
        *,
        most_figures: int,
        figure_bytes: int,
        has_packages: bool,
    ) -> None:
        self._module = ModuleType("__main__")
        self._cells = 0
        self._places = places
        self._has_packages = has_packages
        self._figures = Figures(show, most_figures, figure_bytes)
        sys.modules["__main__"] = self._module
        sys.meta_path.insert(0, self._figures)

    def run(self, code: str) -> None:
        """Run a cell. What it raises is printed, and never raised."""
        self._figures.shown = 0
        try:
            self._execute(code)
        except BaseException as error:  # noqa: BLE001, even SystemExit is the cell's affair
            self._tell(error)
        try:
            self._figures.show_all()
        except BaseException as error:  # noqa: BLE001, a figure may be of the code's own making
            self._tell(error)
        self._flush()

    def _execute(self, code: str) -> None:
        self._cells += 1
        name = f"{_CELL}{self._cells}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        statements, value = self._compiled(code, name)
        names = self._module.__dict__
        exec(statements, names)
        if value is not None and (result := eval(value, names)) is not None:
            names["_"] = result
            print(repr(result))  # noqa: T201, this is where a notebook shows it

    def _compiled(self, code: str, name: str) -> tuple[CodeType, CodeType | None]:
        """All but the last expression, and this one, if it is to be shown."""
        tree = ast.parse(code, name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node.value = placed(node.value, self._places)
        value = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not code.rstrip().endswith(";"):
            last = tree.body.pop()
            assert isinstance(last, ast.Expr), "it was looked at"
            value = compile(ast.Expression(last.value), name, "eval")
        return compile(tree, name, "exec"), value

    def _tell(self, error: BaseException) -> None:
        """The traceback, without what of it is ours."""
        trace = error.__traceback__
        while trace and not trace.tb_frame.f_code.co_filename.startswith(_CELL):
            trace = trace.tb_next
        self._flush()
        if isinstance(error, ModuleNotFoundError) and not self._has_packages:
            error.add_note(_NO_PACKAGES)
        try:
            told = traceback.TracebackException(type(error), error, trace)
            while told.stack and told.stack[-1].filename.startswith(_OURS):  # what interrupted it
                told.stack.pop()
            lines = list(told.format())
        except BaseException:  # noqa: BLE001, an exception may be as evil as any object
            lines = [f"{type(error).__name__}\n"]
        sys.__stderr__ and sys.__stderr__.write("".join(lines))
        self._flush()

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            try:
                stream and stream.flush()
            except BaseException:  # noqa: BLE001, the code may have put anything there
                continue


class Figures(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """matplotlib's backend, in place of a window: shows figures, and closes them."""

    def __init__(self, show: Callable[[bytes], None], most: int, most_bytes: int) -> None:
        self._show = show
        self._most = most
        self._most_bytes = most_bytes
        self.shown = 0

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        wanted = fullname == _BACKEND
        return importlib.machinery.ModuleSpec(fullname, self) if wanted else None

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


def _drawn(figure: Any, **how: float) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight", **how)
    return picture.getvalue()
