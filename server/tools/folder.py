"""The folder in which code finds files: which files a run has there, and under which names."""

from __future__ import annotations

from itertools import count

from server.chat.links import FOLDER
from server.db.database import Tx
from server.db.stores import Record
from server.vector_stores.resources import at_hand

MOST_BYTES = 200  # of a name; file systems take 255


def path_of(name: str) -> str:
    """Where code finds a file."""
    return f"{FOLDER}/{name}"


def in_folder(tx: Tx, run: Record) -> dict[str, Record]:
    """The files by their names there: the run's own or its assistant's, then its thread's.

    A name depends on those before it alone, so that what comes later changes none.
    """
    assistant = tx.assistants.by_id(run.assistant_id)
    thread = tx.threads.by_id(run.thread_id)
    shared, own = at_hand("code_interpreter", run, assistant, thread)
    wanted = dict.fromkeys([*shared, *own])
    there = tx.files.among(run.project_id, wanted, tx.now)
    named: dict[str, Record] = {}
    for file in (there[file_id] for file_id in wanted if file_id in there):
        named[_free(plain(file.filename) or file.id, named)] = file
    return named


def plain(filename: str) -> str:
    """The last part of what a client called a file, as a name that any file system takes."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    name = "".join(character for character in last if character.isprintable()).strip()
    stem, dot, ending = name.rpartition(".")
    while len(name.encode()) > MOST_BYTES:
        stem, ending = (stem[:-1], ending) if stem else ("", ending[:-1])
        name = f"{stem}{dot}{ending}"
    return "" if name in (".", "..") else name


def _free(name: str, taken: dict[str, Record]) -> str:
    """The name, or one like it that no file has."""
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    others = (f"{stem}_{number}{dot}{ending}" for number in count(2))
    return name if name not in taken else next(other for other in others if other not in taken)
