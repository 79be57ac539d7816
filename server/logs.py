"""Log lines: one event name, then facts as fields. Never a secret, a prompt or an answer.

What a line is about (a request, a run, a file) is said once, around the work. An exception is told
by its type and its place: its text may repeat what somebody wrote.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

OURS: Final = "server"
MUTE: Final = ("python_multipart",)  # what is wrong with a form is told to whoever sent it
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN: Final = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f-\x9f]+")

_about: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)


def configure(level: str, form: str) -> None:
    """Log to standard error from `level` up, as `text` or `json` lines.

    Of libraries, warnings only: what they say below that is of no use here, or repeats what
    passes through them.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(logging.WARNING, least), handlers=[handler], force=True)
    logging.getLogger(OURS).setLevel(least)
    for name in MUTE:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """Have every line that is logged within carry these facts, also those of tasks begun there."""
    token = _about.set({**(_about.get() or {}), **facts})
    try:
        yield
    finally:
        _about.reset(token)


def note(**facts: str) -> None:
    """What is known only now of what the lines are about."""
    known = _about.get()
    if known is not None:
        known.update(facts)


def loop_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler: asyncio's own would show what the exception says.

    Where there is none, the loop's message is all that tells what has happened, and of nobody's.
    """
    exception = context.get("exception")
    about = {} if exception else {"reason": context.get("message")}
    logging.getLogger(OURS).error("task_failed", exc_info=exception, extra=about)


class TextLines(logging.Formatter):
    """`12:30:01 info request method=GET status=200`."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = "".join(f" {name}={_one_word(value)}" for name, value in facts(record).items())
        line = f"{when} {record.levelname.lower()} {event(record)}{fields}"
        fault = _fault(record)
        return f"{line}\n{fault}" if fault else line


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": event(record),
            **facts(record),
        }
        if fault := _fault(record):
            entry["exception"] = fault
        return json.dumps(entry, default=str, ensure_ascii=False)


def event(record: logging.LogRecord) -> str:
    """Its name. A library's line may hold anything but a line's end."""
    return record.getMessage().strip().replace("\n", "\\n")


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What the work was about, and what was passed as `extra`."""
    more = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {**(_about.get() or {}), **more}


def told(error: BaseException) -> str:
    """Where an exception and those behind it came from, and their types, as tracebacks do."""
    parts = []
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if behind is not None:
        parts.append(f"{told(behind)}\n\nafter which")
    parts += ["".join(traceback.format_tb(error.__traceback__)) + _named(error)]
    if isinstance(error, BaseExceptionGroup):
        parts += [f"of which\n{told(each)}" for each in error.exceptions]
    return "\n".join(parts)


def _named(error: BaseException) -> str:
    """Its type, with the words of the database and the operating system, which quote nobody."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    said = str(error) if isinstance(error, sqlite3.Error) else ""
    if isinstance(error, OSError):
        said = error.strerror or ""
    return f"{name}: {said}" if said else name


def _fault(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return told(error) if error is not None else ""


def _one_word(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
