"""`assistants keys` and `assistants projects`, beside a running server and without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from server import administer
from server.cli import main
from server.db.folder import DataFolder
from tests.process import COMMAND, PATIENCE, ROOT, ServerProcess, beside, environment, started

Command = Callable[..., list[str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has the folder `data`."""
    command = (sys.executable, str(ROOT / "tests/sdk/scripted_server.py"), "data")
    with started(command, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def assistants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """A command in a folder where no server runs; the lines that it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> list[str]:
        assert main(arguments) == 0
        return capsys.readouterr().out.splitlines()

    return run


def status(server: ServerProcess, secret: str) -> int:
    """What becomes of a call with that key."""
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.get(f"{server.url}/models", headers=headers, trust_env=False).status_code


def test_life_of_a_key_without_a_server(assistants: Command) -> None:
    """It is made, listed and revoked; its secret is the only line on standard output."""
    (secret,) = assistants("keys", "create", "--name", "laptop", "--expires-in", "90d")
    assert secret.startswith("sk-")
    head, line = assistants("keys", "list")
    assert re.split(" {2,}", head) == [
        *("id", "key", "project", "scope", "created", "last used", "state", "limits", "name")
    ]
    key_id = line.split()[0]
    assert key_id.startswith("key_")
    assert f"  sk-…{secret[-4:]}  default  all" in line
    assert "  never  " in line
    assert "  good until 20" in line
    assert line.endswith("  laptop")
    assert secret not in line
    assert assistants("keys", "revoke", key_id) == [f"{key_id} is revoked."]
    assert "  revoked 20" in assistants("keys", "list")[1]


def test_limits_of_a_key(assistants: Command) -> None:
    """Those that it is given are listed with it; a limit may be none."""
    assistants("keys", "create")
    assistants("keys", "create", "--requests-per-minute", "60", "--concurrent-runs", "0")
    _, plain, own = assistants("keys", "list")
    assert plain.endswith("  good   -")
    assert own.endswith("  good   requests_per_minute=60 concurrent_runs=0")


def test_a_limit_beyond_all_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused by its name, and not by a database that cannot keep it."""
    monkeypatch.chdir(tmp_path)
    assert main(("keys", "create", "--tokens-per-minute", "9" * 23)) == 1
    said = capsys.readouterr().err
    assert said.startswith("assistants: limits.tokens_per_minute: ")
    assert len(said.splitlines()) == 1


def test_projects_without_a_server(assistants: Command) -> None:
    """A new project is told by its id, under which keys can be made for it."""
    (project,) = assistants("projects", "create", "Our shop")
    assert [re.split(" {2,}", line) for line in assistants("projects", "list")] == [
        ["id", "busy policy", "name"],
        ["default", "server", "Default project"],
        [project, "server", "Our shop"],
    ]
    assistants("keys", "create", "--project", project, "--scope", "runs")
    assert f"  {project}  runs  " in assistants("keys", "list")[1]


def test_busy_policies_of_projects(assistants: Command) -> None:
    """Given to a new project, and to those that there are; also the server's again."""

    def policies() -> list[str]:
        return [re.split(" {2,}", line)[1] for line in assistants("projects", "list")[1:]]

    (project,) = assistants("projects", "create", "Our shop", "--busy-policy", "queue")
    assert policies() == ["server", "queue"]
    for policy in ("interrupt", "server"):
        changed = assistants("projects", "set", project, "--busy-policy", policy)
        assert changed == [f"{project} is changed."]
        assert policies() == ["server", policy]
    assistants("projects", "set", "default", "--busy-policy", "error")
    assert policies() == ["error", "server"]


def test_names_that_are_no_text(assistants: Command) -> None:
    """What a terminal would obey, and what would end a line or turn it around, is escaped."""
    name = "über\n\x1b[2J\r\t\x00\x9b\u202e 日本"
    shown = r"über\n\x1b[2J\r\t\x00\x9b\u202e 日本"
    assistants("keys", "create", "--name", name)
    assistants("projects", "create", name)
    for what in ("keys", "projects"):
        *_, line = assistants(what, "list")
        assert line.endswith(f"  {shown}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "list"),
        ("keys", "revoke", "key_x"),
        ("projects", "list"),
        ("projects", "set", "proj_x", "--busy-policy", "queue"),
    ],
)
def test_folder_that_is_no_servers(
    assistants: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    """Who names another folder than the server's is told so, and none is made."""
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        "assistants: there is no database in data; --data-dir says where the server's is\n"
    )
    assert not (tmp_path / "data").exists()


def test_a_key_may_come_before_its_server(
    assistants: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said that there was no server's data, once."""
    for said in ("data had no database, and has one now.\n", ""):
        assert main(["keys", "create"]) == 0
        assert capsys.readouterr().err.startswith(f"{said}This is key_")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_who_has_seen_enough(assistants: Command, tmp_path: Path, unbuffered: str) -> None:
    """A list may be piped to whoever reads little of it, as `head` does: no complaint."""
    assistants("keys", "create")
    seen, ours = os.pipe()
    os.close(seen)
    with os.fdopen(ours, "wb") as pipe:
        done = subprocess.run(
            (*COMMAND, "keys", "list"),
            cwd=tmp_path,
            env=environment(PYTHONUNBUFFERED=unbuffered),
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", [("keys", "list"), ("models",)])
def test_output_that_takes_no_such_text(
    assistants: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """A locale that lacks a character has it escaped; an output that was closed gets nothing."""
    assistants("keys", "create")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "größe.gguf").touch()
    command = (*COMMAND, *arguments)
    env = environment(PYTHONIOENCODING="ascii")
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"sk-\u2026" in done.stdout or r"gr\xf6\xdfe" in done.stdout
    closed = ("sh", "-c", 'exec "$@" >&-', "sh", *command)
    done = subprocess.run(
        closed, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_life_of_a_key_beside_a_server(server: ServerProcess) -> None:
    """The server knows of each change before the command ends."""
    assert status(server, "anything") == 200
    made = beside(server, "keys", "create")
    secret = made.stdout.strip()
    assert status(server, "anything") == 401
    assert status(server, secret) == 200
    listed = beside(server, "keys", "list").stdout
    key_id = listed.splitlines()[1].split()[0]
    assert f"This is {key_id} of project default. It is shown only now." in made.stderr
    assert "never" not in listed
    beside(server, "keys", "revoke", key_id)
    assert status(server, secret) == 401


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["keys", "create", "--project", "proj_x"], "there is no project proj_x"),
        (["keys", "revoke", "key_x"], "there is no key key_x"),
        (["projects", "set", "proj_x", "--busy-policy", "queue"], "there is no project proj_x"),
        (["keys", "create", "--name", "x" * 300], "name: String should have at most 256"),
        (["keys", "create", "--tokens-per-minute", "-1"], "limits.tokens_per_minute: Input should"),
        (["keys", "create", "--project", "\udcff"], "project: Input should be a valid string"),
        (["keys", "revoke", "\udcff"], "id: Input should be a valid string"),
        (["projects", "create", "\udcff"], "name: Input should be a valid string"),
        (["projects", "set", "\udcff", "--busy-policy", "queue"], "id: Input should be a valid"),
    ],
)
def test_what_cannot_be_done(
    server: ServerProcess,
    assistants: Command,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """It is told in one line, whoever did not do it."""
    assistants("projects", "create", "any")
    there = beside(server, *arguments)
    assert (there.returncode, there.stdout) == (1, "")
    assert there.stderr.startswith(f"assistants: {said}")
    assert main(arguments) == 1
    assert capsys.readouterr().err == there.stderr


def test_server_that_does_not_answer(
    assistants: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that starts or stops has the folder and no channel: the command gives up in the end."""
    monkeypatch.setattr(administer, "PATIENCE", 0.3)
    folder = DataFolder(tmp_path / "data")
    assert main(["keys", "list"]) == 1
    folder.close()
    assert "which does not answer; try again in a moment" in capsys.readouterr().err


@pytest.mark.parametrize("time", ["0d", "90", "1y", "-1d", "d"])
def test_time_that_is_none(capsys: pytest.CaptureFixture[str], time: str) -> None:
    """Times have a unit, so that nobody makes a key for 90 seconds by mistake."""
    with pytest.raises(SystemExit):
        main(["keys", "create", f"--expires-in={time}"])
    assert "is no time such as 30m, 12h or 90d" in capsys.readouterr().err
