"""Copies of a data folder: made beside a server that works on it, and put back when they are whole.

A copy is the database as it was at one moment, and the blobs that its rows name. There are no
indexes in it: a server makes them again out of the files. Blobs never change; where both folders
are on one file system, they are shared by hard links.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from server import __version__
from server.db.connection import copy_database, driver, open_engine
from server.db.folder import BLOBS, DATABASE, LOCK, DataFolder
from server.db.migrate import configuration, revisions
from server.db.queries import Queries
from server.db.stores import Stores
from server.files.blobs import path_of, sync_folder

ABOUT = "backup.json"
FORM = 1
STAYS = {LOCK, "models"}  # models are files of the user's, not the server's
ATTEMPTS = 20  # each shorter than the one before, but for what came and went meanwhile


class NoBackup(Exception):
    """It cannot be made, or not be put back; the text says why."""


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself."""

    form: int
    server: str  # the version of the one that made it
    taken_at: int  # Unix seconds
    database: str  # the SHA-256 of the file
    blobs: int
    bytes: int  # of the blobs


def back_up(data: Path, target: Path, now: int) -> About:
    """Copy a data folder, which a server may be working on. Raises NoBackup, OSError."""
    if not (data / DATABASE).is_file():
        raise NoBackup(f"there is no database in {data}")
    if target.exists():
        raise NoBackup(f"{target} is there already")
    with _appearing(target) as folder:
        blobs = _copy_together(data, folder)
        size = sum(path.stat().st_size for path in blobs)
        digest = _digest(folder / DATABASE)
        about = About(FORM, __version__, now, digest, len(blobs), size)
        _write(folder / ABOUT, json.dumps(asdict(about), indent=2))
    return about


def restore(source: Path, data: Path) -> About:
    """Put a backup into a data folder that is empty, or not there yet, if it has no faults.

    Raises NoBackup, FolderInUse, WrongVersion, OSError.
    """
    about = _about(source)
    _require_empty(data)
    folder = DataFolder(data)
    try:
        _require_empty(data)
        with TemporaryDirectory(prefix=".restore.", dir=data) as name:
            staged = Path(name)
            _bring(source, staged, about)
            (staged / BLOBS).rename(folder.blobs)
            (staged / DATABASE).rename(folder.database)  # the last, since it is what counts
        sync_folder(data)
    finally:
        folder.close()
    return about


def _copy_together(data: Path, folder: Path) -> list[Path]:
    """The database and its blobs. A file may be deleted between the two: then both are new."""
    (folder / BLOBS).mkdir(mode=0o700)
    shared: set[str] = set()
    for _ in range(ATTEMPTS):
        copy_database(data / DATABASE, folder / DATABASE)
        digests = _digests(folder / DATABASE)
        missing = {each for each in digests - shared if not _share(data, folder, each)}
        shared |= digests - missing
        if not missing:
            for deleted in shared - digests:
                path_of(folder / BLOBS, deleted).unlink()
            return [path_of(folder / BLOBS, each) for each in digests]
    raise NoBackup(f"{data} lacks the bytes of some files, such as {min(missing)}")


def _bring(source: Path, folder: Path, about: About) -> None:
    """The same in the other direction, looking at each byte."""
    _copy(source / DATABASE, folder / DATABASE)
    if _digest(folder / DATABASE) != about.database:
        raise NoBackup(f"the database in {source} is damaged")
    _require_whole(folder / DATABASE)
    (folder / BLOBS).mkdir(mode=0o700)
    for digest in _digests(folder / DATABASE):
        if not _share(source, folder, digest) or _digest(path_of(folder / BLOBS, digest)) != digest:
            raise NoBackup(f"the file {path_of(source / BLOBS, digest)} is missing or damaged")
    _sync_all(folder)


def _share(source: Path, folder: Path, digest: str) -> bool:
    """Have a blob in both folders; False if the first has it no more."""
    blob, target = path_of(source / BLOBS, digest), path_of(folder / BLOBS, digest)
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(blob, target)
    except FileNotFoundError:
        return False
    except OSError:  # another file system, or one without links
        try:
            _copy(blob, target)
        except FileNotFoundError:
            return False
    return True


def _copy(source: Path, target: Path) -> None:
    """A file that only we may read, in a folder that nobody else can enter yet."""
    shutil.copyfile(source, target)
    target.chmod(0o600)


def _digests(database: Path) -> set[str]:
    """The names of all blobs that its rows need."""
    with open_engine(database, busy_timeout=1.0).connect() as connection:
        return Stores(Queries(connection), most={}).files.blobs()


def _require_whole(database: Path) -> None:
    """Raises NoBackup, or WrongVersion for a later server's."""
    with open_engine(database, busy_timeout=1.0).connect() as connection:
        raw = driver(connection)
        faults = raw.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",)
        if faults or raw.execute("PRAGMA foreign_key_check").fetchone():
            raise NoBackup("the database in the backup is damaged")
        revisions(connection, configuration(connection))


def _about(source: Path) -> About:
    try:
        about = About(**json.loads((source / ABOUT).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        raise NoBackup(f"{source} is no backup: there is no {ABOUT} that can be read") from None
    if about.form != FORM:
        raise NoBackup(f"{source} was made by version {about.server}, which this one cannot read")
    return about


def _require_empty(data: Path) -> None:
    if data.exists() and {path.name for path in data.iterdir()} - STAYS:
        raise NoBackup(f"{data} is not empty; a backup is put into a folder of its own")


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder that only we may read, which gets its name once all in it is on the disk."""
    folder = Path(mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        _sync_all(folder)
        folder.rename(target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    path.write_text(f"{text}\n", encoding="utf-8")


def _sync_all(folder: Path) -> None:
    """All files in it, and their names."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
