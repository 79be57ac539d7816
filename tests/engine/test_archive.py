"""Snapshots as files: what is read is what was written, or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import resource
import shutil
import struct
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.engine import archive, worker
from server.engine.archive import SnapshotFiles, forget_files, owners_in, shrink
from server.engine.messages import Load
from server.engine.settings import EngineSettings
from server.engine.snapshots import SHARED, Fetched, Snapshot, Written

STATE = np.random.default_rng(1).integers(0, 256, 5000).astype(np.uint8)
PATIENCE = 10.0


class Folder:
    """The files of one model, and what its thread has delivered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.news = SimpleQueue[Written | Fetched]()
        self.files = SnapshotFiles(path, self.news.put)

    def write(self, owner: str, *, scope: str = "a", state: np.ndarray = STATE) -> Snapshot:
        """A snapshot whose file is there; its state has left the memory."""
        snapshot = Snapshot(scope, owner, array("i", range(100)), len(state), state)
        self.files.write(snapshot)
        written = self.news.get(timeout=PATIENCE)
        assert isinstance(written, Written)
        snapshot.state, snapshot.path = None, written.path
        return snapshot

    def read(self, snapshot: Snapshot) -> np.ndarray | None:
        self.files.fetch(snapshot)
        fetched = self.news.get(timeout=PATIENCE)
        assert isinstance(fetched, Fetched)
        assert fetched.snapshot is snapshot
        return fetched.state

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Folder]:
    """A model that is loaded."""
    folder = Folder(path)
    try:
        yield folder
    finally:
        folder.files.close(PATIENCE)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A model that is loaded."""
    with opened(tmp_path / "model") as folder:
        yield folder


def test_what_was_written_is_read_again_by_the_next_process(tmp_path: Path) -> None:
    """State, tokens, scope and owner; the longest unused first."""
    with opened(tmp_path / "model") as folder:
        for age, (owner, scope) in enumerate((("thread_1", "a"), (SHARED, "b"))):
            set_age(folder.write(owner, scope=scope), 2 - age)
    with opened(tmp_path / "model") as again:
        first, second = again.files.stored()
        assert [(s.scope, s.owner) for s in (first, second)] == [("a", "thread_1"), ("b", SHARED)]
        assert first.tokens == array("i", range(100))
        assert first.size == len(STATE)
        assert np.array_equal(again.read(first), STATE)
        assert [s.owner for s in again.files.stored()] == [SHARED, "thread_1"]


def test_only_their_owner_can_read_the_files(folder: Folder) -> None:
    """They are what users have said."""
    snapshot = folder.write("x")
    assert snapshot.path is not None
    assert snapshot.path.stat().st_mode & 0o077 == 0
    assert folder.path.stat().st_mode & 0o077 == 0


def offsets(size: int) -> list[int]:
    """One in each part of a file, and both sides of each border."""
    header = size - len(STATE) - 400
    borders = [0, 8, 12, header, header + 400, size]
    return sorted({b + d for b in borders for d in (-1, 0, 1, 60) if 0 <= b + d < size})


def test_a_file_that_was_cut_short_is_as_if_it_were_not_there(folder: Folder) -> None:
    """Anywhere, before it is listed or after; the listing removes it."""
    content = content_of(folder.write("x"))
    for length in offsets(len(content)):
        snapshot = folder.write("y")
        assert snapshot.path is not None
        snapshot.path.write_bytes(content[:length])
        assert folder.read(snapshot) is None
        assert [s.owner for s in folder.files.stored()] == ["x"]
        assert not snapshot.path.exists()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_byte_that_changed_anywhere_is_noticed(folder: Folder, data: st.DataObject) -> None:
    """Magic, header, tokens or state: nothing of it is used, and nothing breaks."""
    snapshot = folder.write("x")
    content = bytearray(content_of(snapshot))
    place = data.draw(st.sampled_from(offsets(len(content))) | st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    assert snapshot.path is not None
    snapshot.path.write_bytes(content)
    assert folder.read(snapshot) is None
    listed = [folder.read(s) for s in folder.files.stored()]
    assert all(state is None for state in listed)  # its state may be checked only when it is read
    snapshot.path.unlink(missing_ok=True)


def test_a_file_of_another_snapshot_is_not_taken_for_it(folder: Folder) -> None:
    """Each is whole, but not what was asked for."""
    mine, foreign = folder.write("x", scope="a"), folder.write("x", scope="b")
    assert mine.path is not None
    mine.path.write_bytes(content_of(foreign))
    assert folder.read(mine) is None


@pytest.mark.parametrize("content", [b"", b"ASSTKV99" + bytes(100), b"\xff" * 5000])
def test_files_of_another_version_are_removed(folder: Folder, content: bytes) -> None:
    """They are of no use to anyone."""
    (folder.path / "x.1.kv").write_bytes(content)
    assert folder.files.stored() == []
    assert folder.names() == []


def file_of(fields: dict[str, object]) -> bytes:
    """A file without tokens and state, whose header has these fields and the right check."""
    check = hashlib.sha256(orjson.dumps(fields)).hexdigest()[:32]
    header = orjson.dumps(fields | {"check": check})
    return struct.pack("<8sI", b"ASSTKV01", len(header)) + header


FIELDS: dict[str, object] = {"scope": "a", "owner": "x", "bytes": 0, "digest": "0"}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [None, 1.5, ["x"]])
def test_a_file_whose_fields_are_others_is_removed(
    folder: Folder, name: str, value: object
) -> None:
    """One that is missing or of another type; the right check does not make it readable."""
    path = folder.path / "x.1.kv"
    path.write_bytes(file_of(FIELDS))
    assert [s.path for s in folder.files.stored()] == [path]
    for fields in ({k: v for k, v in FIELDS.items() if k != name}, FIELDS | {name: value}):
        path.write_bytes(file_of(fields))
        assert folder.files.stored() == []
        assert folder.names() == []


def test_what_a_crash_left_unfinished_is_removed(folder: Folder) -> None:
    """A file gets its name when it is whole."""
    snapshot = folder.write("x")
    (folder.path / "y.1.part").write_bytes(content_of(snapshot)[:1000])
    assert [s.owner for s in folder.files.stored()] == ["x"]
    assert len(folder.names()) == 1


@contextlib.contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """As on a disk that is full: writing more than so much fails."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_costs_the_snapshot_and_nothing_else(folder: Folder) -> None:
    """No half a file stays, and the next one is written."""
    with files_end_at(2000):
        assert folder.write("x").path is None
    assert folder.names() == []
    assert np.array_equal(folder.read(folder.write("x")), STATE)


def test_a_folder_that_was_removed_is_made_again(folder: Folder) -> None:
    """Whoever empties a cache does not ask; what was in it is gone, no more."""
    snapshot = folder.write("x")
    assert snapshot.path is not None
    snapshot.path.unlink()
    folder.path.rmdir()
    assert folder.read(snapshot) is None
    again = folder.write("x")
    shrink(folder.path.parent, 0)
    assert np.array_equal(folder.read(again), STATE)


@pytest.mark.parametrize(
    "owner", ["../../evil", "a/b", "x" * 500, ".", "shared", "*", "[a-z]", "", "naïve\n", "a.b"]
)
def test_a_hostile_owner_stays_in_the_folder_and_is_forgotten(folder: Folder, owner: str) -> None:
    """Names of files say nothing that the file system, or a pattern, could take for more."""
    other = folder.write("thread_1")
    snapshot = folder.write(owner)
    assert snapshot.path is not None
    assert snapshot.path.parent == folder.path
    assert [s.owner for s in folder.files.stored()] == ["thread_1", owner]
    forget_files([folder.path], [owner])
    assert folder.names() == [other.path.name if other.path else ""]


def test_an_owner_is_forgotten_in_all_models(tmp_path: Path) -> None:
    """Whether they are loaded or not; owners whose names begin alike are others."""
    for name in ("one", "two"):
        with opened(tmp_path / name) as folder:
            for owner in ("thread_1", "thread_12", SHARED):
                folder.write(owner)
    assert owners_in(tmp_path) == {"thread_1", "thread_12"}
    forget_files(tmp_path.glob("*/"), ["thread_1"])
    assert owners_in(tmp_path) == {"thread_12"}
    assert sum(1 for _ in tmp_path.glob("*/*")) == 4


def test_a_file_that_cannot_be_removed_is_told_of(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    """The owner's other files are removed all the same."""
    stuck = [folder.path / f"thread_1.{name}.kv" for name in ("0", "g")]  # what unlink refuses
    for path in stuck:
        path.mkdir()
    for _ in range(3):
        folder.write("thread_1")
    forget_files([folder.path], ["thread_1"])
    assert folder.names() == [path.name for path in stuck]
    assert caplog.text.count("snapshot.not_removed") == len(stuck)


def test_removing_one_leaves_its_successor(folder: Folder) -> None:
    """Two snapshots of the same tokens never have the same file."""
    old, new = folder.write("x"), folder.write("x")
    folder.files.remove(old)
    assert np.array_equal(folder.read(new), STATE)
    assert len(folder.names()) == 1


def test_models_that_are_gone_give_up_their_oldest_files(tmp_path: Path) -> None:
    """Together they may take so much; a model that is loaded keeps what it has."""
    paths = []
    for age, name in enumerate(("old", "older", "old")):
        with opened(tmp_path / name) as folder:
            snapshot = folder.write("x")
            set_age(snapshot, age)
            paths.append(snapshot.path)
    with opened(tmp_path / "loaded") as folder:
        mine = folder.write("x").path
        shrink(tmp_path, 13_000)
        assert [path is not None and path.exists() for path in paths] == [True, True, False]
        shrink(tmp_path, 0)
        assert [path.name for path in tmp_path.iterdir()] == ["loaded"]
        assert mine is not None
        assert mine.exists()


@pytest.mark.parametrize(("module", "call"), [(os, "open"), (fcntl, "flock")])
def test_two_may_clean_up_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, call: str
) -> None:
    """What the other was faster to remove, before it is opened or read, is gone, and no fault."""
    real: Callable[..., object] = getattr(module, call)

    def late(*arguments: object) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(module, call, real)
            shutil.rmtree(tmp_path / "old")
        return real(*arguments)

    with opened(tmp_path / "old") as folder:
        folder.write("x")
    with monkeypatch.context() as patch:
        patch.setattr(module, call, late)
        shrink(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "call"), [(os, "open"), (fcntl, "flock")])
def test_a_model_that_is_loaded_while_others_clean_up_has_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, call: str
) -> None:
    """What it has made and not yet locked is removed; it locks the one that is there then."""
    real: Callable[..., object] = getattr(module, call)

    def late(*arguments: object) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(module, call, real)
            shrink(tmp_path, 0)
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setattr(module, call, real)
        return real(*arguments)

    monkeypatch.setattr(module, call, late)
    with opened(tmp_path / "loaded") as folder:
        shrink(tmp_path, 0)
        assert folder.path.is_dir()
        snapshot = folder.write("x")
        shrink(tmp_path, 0)
        assert np.array_equal(folder.read(snapshot), STATE)


def test_who_loads_a_model_waits_for_those_who_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would take up files that are gone a moment later."""
    with opened(tmp_path / "old") as folder:
        folder.write("x")
    real, asked = archive._files_in, []

    def look_at_locks(path: Path) -> list[Path]:
        with pytest.raises(BlockingIOError):
            archive._lock(path, fcntl.LOCK_SH | fcntl.LOCK_NB)
        asked.append(path.name)
        return real(path)

    monkeypatch.setattr(archive, "_files_in", look_at_locks)
    shrink(tmp_path, 0)
    assert asked == ["old"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_within_a_models_folder_is_passed_over(tmp_path: Path) -> None:
    """Whoever put it there; the files beside it are removed."""
    with opened(tmp_path / "old") as folder:
        folder.write("x")
    (tmp_path / "old" / "notes").mkdir()
    shrink(tmp_path, 0)
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["notes"]


def test_a_model_keeps_its_files_whatever_becomes_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be cleaned up costs nothing of its own."""

    def fail(root: Path, limit: int) -> None:
        raise PermissionError(f"{root} is locked, whatever fits {limit}")

    monkeypatch.setattr(worker, "shrink", fail)
    load = Load("model.gguf", "model", "", EngineSettings(), str(tmp_path))
    files = worker._archive(load, "fingerprint", SimpleQueue[Written | Fetched]().put)
    assert files is not None
    files.close(PATIENCE)
    assert "may hold too much" in capsys.readouterr().err


def set_age(snapshot: Snapshot, seconds: int) -> None:
    """Files that are written at once have the same time."""
    assert snapshot.path is not None
    os.utime(snapshot.path, (1_000_000 - seconds, 1_000_000 - seconds))


def content_of(snapshot: Snapshot) -> bytes:
    """Its file's."""
    assert snapshot.path is not None
    return snapshot.path.read_bytes()
