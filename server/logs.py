"""Log lines: one event name, then facts as fields. Never a secret, a prompt or an answer."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

# What they say below a warning is of no use here, or would repeat what is secret.
QUIET = ("sse_starlette", "alembic", "sqlalchemy", "uvicorn", "asyncio", "httpx2", "httpcore2")
MUTE = ("python_multipart",)  # what is wrong with a form is told to whoever sent it
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, form: str) -> None:
    """Log to standard error from `level` up, as `text` or `json` lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    for name in MUTE:
        logging.getLogger(name).setLevel(logging.ERROR)


class TextLines(logging.Formatter):
    """`12:30:01 info request method=GET status=200`."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = "".join(f" {name}={value}" for name, value in facts(record).items())
        line = f"{when} {record.levelname.lower()} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was passed as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
