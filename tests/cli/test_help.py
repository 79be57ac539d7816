"""What the command line says of itself."""

from __future__ import annotations

import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import server
from server.cli import main
from tests.process import COMMAND, PATIENCE, ROOT, environment


def test_version() -> None:
    """`assistants --version` is one line."""
    said = subprocess.check_output(
        (*COMMAND, "--version"), env=environment(), text=True, timeout=PATIENCE
    )
    assert said == f"assistants {server.__version__}\n"


def test_version_of_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that was never installed has the version of its project file."""

    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(server, "version", not_installed)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert server._version() == project["project"]["version"]


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        (
            ["--help"],
            ["serve", "start the server", "models", "list the models", "embeddings", "--version"],
        ),
        (
            ["serve", "--help"],
            ["--host", "--port", "--data-dir", "--config", "--model", "8000", "base_url"],
        ),
        (["models", "--help"], ["--model", "--config", "model files"]),
        (["keys", "--help"], ["create", "list", "revoke"]),
        (
            ["keys", "create", "--help"],
            [
                *("--project", "--name", "--scope", "--expires-in", "90d", "--data-dir"),
                *("--requests-per-minute", "--tokens-per-minute", "--concurrent-runs"),
            ],
        ),
        (["keys", "list", "--help"], ["--data-dir", "--config"]),
        (["keys", "revoke", "--help"], ["ID", "--data-dir", "--config"]),
        (["projects", "--help"], ["create", "set", "list"]),
        (["projects", "create", "--help"], ["NAME", "--busy-policy", "--data-dir", "--config"]),
        (
            ["projects", "set", "--help"],
            ["ID", "{error,queue,interrupt,server}", "runs.busy_policy", "--data-dir", "--config"],
        ),
        (["projects", "list", "--help"], ["--data-dir", "--config"]),
        (["backup", "--help"], ["TARGET", "--data-dir", "while a server works"]),
        (["restore", "--help"], ["SOURCE", "--data-dir", "empty"]),
        (["embeddings", "--help"], ["--config", "all-MiniLM-L6-v2", "pip"]),
    ],
    ids=" ".join,
)
def test_help(
    arguments: list[str], mentioned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each help names all that can be given, with defaults, and fits a terminal."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert [word for word in mentioned if word not in said] == []
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [[], ["sirve"], ["serve", "--prot", "1"]], ids=" ".join)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command that makes no sense ends with its usage and status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("usage: assistants")
    assert "error: " in said.splitlines()[-1]


def test_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`assistants models` lists files with their size, marks the one served, and the aliases."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "big.gguf").write_bytes(bytes(2_500_000))
    (tmp_path / "small.gguf").write_bytes(bytes(100_000))
    assert main(["models", "--model", "./small.gguf"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["*", "small", "0.1", "MB", "small.gguf"]
    assert ["big", "2.5", "MB", "models/big.gguf"] in lines
    assert ["gpt-4o", "->", "small"] in lines


def test_models_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are listed under their ids, also those whose file is missing; a split one once; an alias
    of none of them says so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for part in (1, 2):
        (tmp_path / "models" / f"split-0000{part}-of-00002.gguf").write_bytes(bytes(100_000))
    (tmp_path / "config.toml").write_text(
        '[models]\ndefault = "split"\n[model.gone]\nslots = 2\n[model.named]\npath = "x.gguf"\n'
        '[models.aliases]\nfirst = "default"\nlast = "named"\nlost = "nmaed"\n'
    )
    (tmp_path / "x.gguf").write_bytes(bytes(300_000))
    assert main(["models"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["*", "split", "0.1", "MB", "models/split-00001-of-00002.gguf"]
    assert ["gone", "missing", "models/gone.gguf"] in lines
    assert ["named", "0.3", "MB", "x.gguf"] in lines
    assert not any("00002-of" in line[-1] for line in lines)
    assert lines[-3:] == [
        ["first", "->", "split"],
        ["last", "->", "named"],
        ["lost", "->", "nmaed", "missing"],
    ]


def test_models_of_endpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are listed with their URL, without the password in it, and can be the one served."""
    config = tmp_path / "config.toml"
    config.write_text('[model.big]\nupstream = "http://me:secret@127.0.0.1:9/v1"')
    assert main(["models", "--config", str(config), "--model", "big"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["*", "big", "upstream", "http://127.0.0.1:9/v1"] in lines
    assert ["gpt-4o", "->", "big"] in lines


def test_models_without_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that is not there is an error here too."""
    assert main(["models", "--model", str(tmp_path / "gone.gguf")]) == 1
    assert capsys.readouterr().err == f"assistants: no model file at {tmp_path}/gone.gguf\n"
