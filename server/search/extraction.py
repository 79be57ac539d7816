"""The text of documents, each read by a child of its own that a hostile one can only waste.

The child has no network, no files and no secrets, and is ended when it takes too much. What it says
is not believed before it is looked at. Owned by one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

from server.config import ExtractionSettings
from server.engine.machine import child_environment
from server.search.formats import SUPPORTED

log = logging.getLogger(__name__)

Code = Literal["unsupported_file", "invalid_file", "server_error"]

_READ_SIZE: Final = 2**16
_LONGEST_REASON: Final = 200  # characters
_HEADER_BYTES: Final = 2**24  # for what is said beside the text: where pages begin
# By the clock a child may take longer than it computes, so that a busy machine refuses nothing.
_PATIENCE: Final = 2
# What Python needs to be found, and libraries; nothing else of ours is the child's business.
_ENVIRONMENT: Final = frozenset({"PYTHONPATH", "LD_LIBRARY_PATH"})
_DIED: Final = "The file is broken: its reader died of it."
_SUPPORTED_FILES: Final = (
    "https://platform.openai.com/docs/assistants/tools/file-search/supported-files"
)


class NotExtracted(Exception):
    """There is no text, and why; `server_error` says that it may be there the next time."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Document:
    """A document's text, and the character of it at which each page or slide begins, if any do."""

    text: str
    pages: Sequence[int] = ()


class Extractor:
    """Reads documents, each in a child; how many at once is the caller's to say."""

    def __init__(self, settings: ExtractionSettings) -> None:
        self._settings = settings
        self._has_warned = False

    async def extract(self, path: Path, filename: str) -> Document:
        """The text of the file at `path`, of the format that its name says. Raises NotExtracted."""
        if not supported(filename):
            raise NotExtracted("unsupported_file", unsupported([filename]))
        try:
            said, status = await self._ask_child(path, extension_of(filename))
        except OSError as error:  # no process, no file handle; or the file was deleted meanwhile
            reason = f"The file was not read: {error.strerror}."
            raise NotExtracted("server_error", reason) from error
        try:
            header, document = await asyncio.to_thread(_parsed, said)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._silent(status) from None
        self._log(header)
        if document is None:
            raise NotExtracted("invalid_file", str(header["refused"])[:_LONGEST_REASON])
        return document

    async def _ask_child(self, path: Path, extension: str) -> tuple[bytes, int]:
        """What the child said, and how it ended. Raises OSError, NotExtracted."""
        child = await self._start(path, extension)
        seconds = _PATIENCE * self._settings.seconds
        try:
            async with asyncio.timeout(seconds):
                said = await self._heard(child)
                return said, await child.wait()
        except TimeoutError:
            text = f"The file was not read within {seconds} seconds."
            raise NotExtracted("server_error", text) from None
        finally:
            await _end(child)

    async def _start(self, path: Path, extension: str) -> asyncio.subprocess.Process:
        settings = self._settings
        limits = (settings.memory, settings.seconds, settings.text_bytes)
        module = ("-P", "-B", "-X", "utf8", "-m", "server.search.extracting")
        file = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, *module, extension, *map(str, (os.getpid(), *limits))),
                stdin=file,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env={k: v for k, v in child_environment().items() if k in _ENVIRONMENT},
                cwd="/",
            )
        finally:
            os.close(file)

    async def _heard(self, child: asyncio.subprocess.Process) -> bytes:
        """All that it says. Raises NotExtracted if that is more than it may."""
        assert child.stdout is not None, "it was started with a pipe"
        said = bytearray()
        while data := await child.stdout.read(_READ_SIZE):
            said += data
            if len(said) > self._settings.text_bytes + _HEADER_BYTES:
                raise NotExtracted("invalid_file", _DIED)
        return bytes(said)

    def _log(self, header: dict[str, Any]) -> None:
        if not header["confined"] and not self._has_warned:
            log.warning("extraction_unconfined")
            self._has_warned = True
        if "fault" in header:
            log.info("extraction_fault", extra={"fault": ascii(header["fault"])[:_LONGEST_REASON]})

    def _silent(self, status: int) -> NotExtracted:
        """What a child died of that said nothing to be understood."""
        log.warning("extraction_died", extra={"status": status})
        if status == -signal.SIGXCPU:
            text = f"The file takes more than {self._settings.seconds} seconds to read."
            return NotExtracted("invalid_file", text)
        if status == -signal.SIGKILL:  # not by us, so the machine may have no memory left
            return NotExtracted("server_error", "The file was not read: its reader was killed.")
        return NotExtracted("invalid_file", _DIED)


def extension_of(filename: str) -> str:
    """The last one, in small letters and with its dot; empty where there is none."""
    stem, _, last = filename.rpartition("/")[2].rpartition(".")
    return f".{last.lower()}" if stem and last else ""


def supported(filename: str) -> bool:
    """Whether files of that name are documents that can be read."""
    return extension_of(filename) in SUPPORTED


def unsupported(filenames: Iterable[str]) -> str:
    """What the hosted service says of files that are none."""
    extensions = sorted({extension_of(name) or "none" for name in filenames if not supported(name)})
    return (
        f"Files with extensions [{', '.join(extensions)}] are not supported for retrieval. "
        f"See {_SUPPORTED_FILES}"
    )


def _parsed(said: bytes) -> tuple[dict[str, Any], Document | None]:
    """What a child said. If it makes no sense, that is some error of parsing."""
    line, _, text = said.partition(b"\n")
    header = json.loads(line)
    if not isinstance(header["confined"], bool) or header["bytes"] != len(text):
        raise ValueError("it is not whole")
    if "refused" in header:
        return header, None
    document = Document(text.decode(), tuple(header["pages"]))
    places = [0, *header["pages"], len(document.text)]
    if any(not isinstance(there, int) or here > there for here, there in pairwise(places)):
        raise ValueError("pages in no order")
    return header, document


async def _end(child: asyncio.subprocess.Process) -> None:
    """The child, and what it may have started. Returns when it is gone, cancelled or not."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    await asyncio.shield(child.communicate())  # else it is not gone while it was not heard
