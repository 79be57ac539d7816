"""What the command line says when it cannot do what it is asked: one line, and status 1."""

from __future__ import annotations

import logging
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server import failpoints
from server.cli import main
from server.db.database import DatabaseFull
from server.db.folder import DataFolder
from server.sandbox import packages
from tests.process import COMMAND, MODEL, PATIENCE, environment

Refusal = Callable[..., str]

needs_model = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")


@pytest.fixture
def root_logger() -> Iterator[None]:
    """The command sets up logging for a process of its own; this one gets its own back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def refusal(
    tmp_path: Path,
    root_logger: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Refusal:
    """The one line with which a command in an empty folder ends."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert line.startswith("assistants: ")
        return line.removeprefix("assistants: ")

    return run


@pytest.fixture
def serving(refusal: Refusal) -> Refusal:
    """The same for `assistants serve` on a free port."""
    return lambda *flags: refusal("serve", "--port", "0", *flags)


def test_process(tmp_path: Path) -> None:
    """The process ends with the status, and with nothing on its streams but the line."""
    done = subprocess.run(
        (*COMMAND, "serve", "--model", "gone.gguf"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "assistants: no model file at gone.gguf\n"


def test_unknown_model(serving: Refusal) -> None:
    """An id without a file says where it was looked for."""
    said = serving("--model", "giant")
    assert said.startswith("no model 'giant': there is no giant.gguf in models, data/models, ")


def test_file_that_is_no_model(serving: Refusal, tmp_path: Path) -> None:
    """A file of another kind is told from a model that is broken."""
    (tmp_path / "poem.gguf").write_text("Roses are red")
    assert serving("--model", "./poem.gguf") == "poem.gguf is not a GGUF file."


@needs_model
def test_half_a_model(serving: Refusal, tmp_path: Path) -> None:
    """A download that broke off is said to be incomplete, without llama.cpp's own lines."""
    whole = MODEL.read_bytes()
    (tmp_path / "half.gguf").write_bytes(whole[: len(whole) // 2])
    said = serving("--model", "./half.gguf")
    assert said == "half.gguf is cut off: its last tensors are missing."


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is stopped says no more, as where pip fetches something large."""

    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packages, "is_made", interrupted)
    assert main(["packages"]) == 130
    assert capsys.readouterr() == ("", "")


def test_unknown_setting(serving: Refusal, tmp_path: Path) -> None:
    """A misspelt key names the file and the nearest key."""
    (tmp_path / "config.toml").write_text("[server]\nprot = 9000\n")
    said = serving()
    assert said == "config.toml: server.prot is not a setting; did you mean server.port."


def test_unknown_variable(serving: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable names itself and the nearest key."""
    monkeypatch.setenv("ASSISTANTS_SERVER__DATADIR", "x")
    said = serving()
    assert said.startswith("ASSISTANTS_SERVER__DATADIR: server.datadir is not a setting; ")
    assert "server.data_dir" in said


def test_unknown_failpoint(serving: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no failpoint is quoted, with the form of one."""
    monkeypatch.setenv("ASSISTANTS_FAILPOINTS", "bogus")
    said = serving()
    assert said == (
        "ASSISTANTS_FAILPOINTS: not a failpoint: bogus (name=kill[:n] or name=raise[:n])"
    )


def test_wrong_value(refusal: Refusal) -> None:
    """A value that cannot be is named with its flag."""
    said = refusal("serve", "--port", "70000")
    assert said.startswith("--port: server.port ")
    assert "65535" in said


def test_folder_whose_name_is_no_text(serving: Refusal) -> None:
    """The model's process is told where it keeps its threads, in JSON."""
    said = serving("--data-dir", "d\udcff")
    assert said == r"--data-dir: server.data_dir should be UTF-8, and not 'd\udcff'."


def test_endpoint_without_its_key(serving: Refusal, tmp_path: Path) -> None:
    """A key that is to be sent must be there; only the variable's name is told."""
    model = '[model.big]\nupstream = "http://127.0.0.1:9/v1"\nupstream_key = "NO_SUCH_KEY"\n'
    (tmp_path / "config.toml").write_text(model)
    said = serving("--model", "big")
    assert said == "model 'big': there is no key in the environment variable NO_SUCH_KEY"


def test_endpoint_with_a_file(serving: Refusal, tmp_path: Path) -> None:
    """A model is run by one of the two."""
    model = '[model.big]\nupstream = "http://127.0.0.1:9/v1"\npath = "big.gguf"\n'
    (tmp_path / "config.toml").write_text(model)
    said = serving("--model", "big")
    assert said == "model 'big' has both a path and an upstream; it can have one"


@pytest.mark.parametrize("host", ["ü" + "a" * 80, "a\0b"])
def test_host_that_cannot_be_one(serving: Refusal, tmp_path: Path, host: str) -> None:
    """A part of a name that is too long, and a zero."""
    (tmp_path / "config.toml").write_text("[server]\nallow_open = true\n")
    said = serving("--host", host)
    assert said == f"cannot listen on {host}:0: That is not the name of a host"


def test_missing_config_file(serving: Refusal) -> None:
    """A config file that was asked for must be there."""
    said = serving("--config", "other.toml")
    assert said == "other.toml cannot be read: No such file or directory."


def test_config_that_is_not_toml(serving: Refusal, tmp_path: Path) -> None:
    """A file that cannot be parsed says where."""
    (tmp_path / "config.toml").write_text("[server\n")
    said = serving()
    assert said.startswith("config.toml is not valid TOML: ")
    assert "line 1" in said


@needs_model
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other", "search.embedding_model: there is no file of a model 'other'"),
        (
            "tiny-assistant",
            "search.embedding_model: 'tiny-assistant' writes text; it makes no embeddings",
        ),
    ],
)
def test_search_by_what_makes_no_embeddings(
    serving: Refusal, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """A model that is not there, or that only writes, is named before anything is loaded."""
    monkeypatch.setenv("ASSISTANTS_SEARCH__EMBEDDING_MODEL", name)
    assert serving() == said


@needs_model
def test_open_door(serving: Refusal) -> None:
    """An address that others can reach is not served without being told so."""
    said = serving("--host", "0.0.0.0", "--model", str(MODEL))
    assert "0.0.0.0 can be reached from other machines" in said
    assert "server.allow_open = true" in said


@needs_model
def test_port_in_use(refusal: Refusal) -> None:
    """A taken port is named, with the way out, before a model is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal("serve", "--port", str(port), "--model", str(MODEL))
    assert said == f"port {port} on 127.0.0.1 is in use; choose another with --port"


@needs_model
def test_data_folder_in_use(serving: Refusal, tmp_path: Path) -> None:
    """A second server on one data folder names the first's process."""
    folder = DataFolder(tmp_path / "data")
    said = serving("--model", str(MODEL))
    folder.close()
    assert said.startswith("data is used by a running server (process ")


@needs_model
def test_data_folder_that_is_a_file(serving: Refusal, tmp_path: Path) -> None:
    """A data folder that cannot be made is named with the reason."""
    (tmp_path / "data").touch()
    assert serving("--model", str(MODEL)) == "data cannot be used: File exists"


@needs_model
def test_database_of_another_version(serving: Refusal, tmp_path: Path) -> None:
    """A newer server's database is left alone."""
    (tmp_path / "data").mkdir()
    database = sqlite3.connect(tmp_path / "data" / "assistants.db")
    database.execute("CREATE TABLE alembic_version (version_num TEXT)")
    database.execute("INSERT INTO alembic_version VALUES ('9999')")
    database.commit()
    database.close()
    said = serving("--model", str(MODEL))
    assert said.startswith("the database has schema version 9999, which this version of the server")
    assert "--data-dir" in said


@needs_model
def test_file_that_is_no_database(serving: Refusal, tmp_path: Path) -> None:
    """A database file that is something else is said to be."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "assistants.db").write_text("Roses are red\n" * 100)
    said = serving("--model", str(MODEL))
    assert said == "data/assistants.db is not a database; use another --data-dir"


@needs_model
def test_database_that_is_damaged(serving: Refusal, tmp_path: Path) -> None:
    """SQLite's own word for a damaged file is passed on."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "assistants.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE alembic_version (version_num TEXT)")
    database.commit()
    database.close()
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 9000)
    said = serving("--model", str(MODEL))
    assert said == "the database in data cannot be opened: database disk image is malformed"


def test_database_that_is_full(refusal: Refusal) -> None:
    """A command that finds no room for what it writes says so."""

    def fail() -> None:
        raise DatabaseFull("database or disk is full")

    failpoints.arm("commit.before", fail)
    try:
        said = refusal("keys", "create")
    finally:
        failpoints.disarm("commit.before")
    assert said == "the database in data cannot be written: database or disk is full"
