"""What is installed is locked: every dependency, by version and hash, from no named place."""

from __future__ import annotations

import re
import tomllib

import pytest

from server.bundled import bundled_path

ROOT = bundled_path("pyproject.toml").parent
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PINNED = re.compile(r"^([a-z0-9-]+)==", re.MULTILINE)


def locked(name: str) -> set[str]:
    """The packages in a lock file."""
    return set(PINNED.findall((ROOT / "requirements" / f"{name}.lock").read_text()))


def named(requirements: list[str]) -> set[str]:
    """The packages of a list of requirements, by the names that lock files use."""
    names = (re.split(r"[^A-Za-z0-9_.-]", each)[0] for each in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_locked_package_has_a_version_and_a_hash(lock) -> None:  # type: ignore[no-untyped-def]
    """A line is a pinned package, a hash or a comment; nothing names a host."""
    packages = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert all(PINNED.match(each) and "--hash=sha256:" in each for each in packages)
    assert "://" not in lock.read_text()


def test_what_the_project_names_is_locked() -> None:
    """No dependency was added to pyproject.toml and left out of the locks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    metadata, groups = project["project"], project["dependency-groups"]
    extras = metadata["optional-dependencies"]
    runtime = named(metadata["dependencies"])
    assert runtime - {"llama-cpp-python"} <= locked("runtime")
    assert named(extras["test"]) | named(extras["dev"]) <= locked("dev")
    assert named(groups["build"]) <= locked("build")
    assert named(groups["llama-build"]) <= locked("llama-build")
    assert locked("llama") == {"llama-cpp-python"}


def test_the_oldest_versions_are_the_checked_ones() -> None:
    """Whoever installs the wheel gets nothing older than what the checks run on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements" / "runtime.lock").read_text()
    checked = re.findall(r"^([a-z0-9-]+)==([0-9.]+)", lock, re.MULTILINE)
    for requirement in project["dependencies"]:
        if found := re.match(r"([a-z0-9-]+)>=([0-9.]+)", requirement):
            name, oldest = found.groups()  # an older Python may have an older version of it
            versions = [version for package, version in checked if package == name]
            assert any(version.startswith(oldest) for version in versions), requirement


@pytest.mark.parametrize("path", ["Makefile", "tools/install_image.sh"])
def test_nothing_is_installed_without_its_hash(path: str) -> None:
    """But for what was made on the machine itself, and the one tool that makes the locks."""
    calls = re.findall(r"(?:\$\(PIP\)|\$install) (.*)", (ROOT / path).read_text())
    assert len(calls) >= 4
    for call in calls:
        assert call.startswith(("--require-hashes ", "'uv>=")) or "--no-index" in call, call


def test_checks_run_on_what_is_shipped() -> None:
    """What the server needs has the same versions in the image and in the checks."""
    shipped, checked = (
        (ROOT / "requirements" / f"{name}.lock").read_text().split("\n")
        for name in ("runtime", "dev")
    )
    assert {line for line in shipped if "==" in line} <= set(checked)


def test_llama_cpp_is_pinned_exactly_and_everywhere_alike() -> None:
    """The struct layouts that the engine relies on move with every release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pin,) = project["dependency-groups"]["llama"]
    assert pin in project["project"]["dependencies"]
    assert (ROOT / "requirements" / "llama.lock").read_text().startswith(pin)
