"""Sessions on each backend that this machine has. One that it lacks is named loudly."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from server.config import CodeInterpreterSettings
from server.sandbox.backends import Backend, Bubblewrap, CannotStart, Landlock, Python
from server.sandbox.pool import SessionPool
from server.sandbox.probe import why_not
from tests.sandbox.support import SETTINGS, Calls
from tests.support import ManualClock
from tests.untested import not_tested

SYSTEM = Path("/usr/bin/python3")  # for where no other user can reach the tests' own Python
BACKENDS = {"bubblewrap": Bubblewrap, "landlock": Landlock}


def make_backend(name: str, settings: CodeInterpreterSettings) -> Backend:
    """Raises CannotStart."""
    try:
        return BACKENDS[name](settings, Python.of(None))
    except CannotStart:
        if name == "landlock" and SYSTEM.exists():
            return Landlock(settings, Python.bare(SYSTEM))
        raise


@pytest.fixture(scope="session")
def reasons() -> dict[str, str | None]:
    """Why a backend cannot be tested here; None: it can."""

    async def reason(name: str) -> str | None:
        try:
            backend = make_backend(name, SETTINGS)
        except CannotStart as problem:
            return str(problem)
        return await why_not(backend, SETTINGS)

    return {name: asyncio.run(reason(name)) for name in BACKENDS}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, reasons: dict[str, str | None]) -> str:
    """The name of each backend in turn."""
    name: str = request.param
    reason = reasons[name]
    if reason is not None:
        not_tested(f"the sandbox {name}", reason)
    return name


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still unless the test moves it."""
    return ManualClock()


@pytest.fixture
def settings() -> CodeInterpreterSettings:
    """Small limits, so that to hit one takes no time."""
    return SETTINGS


@pytest.fixture
def folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Where sessions have their folders, if they need any; none is left at the end."""
    tmp_path_factory.getbasetemp()  # before all that is temporary is elsewhere
    with tempfile.TemporaryDirectory(prefix="sessions-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield folder
        assert not list(folder.iterdir())


@pytest.fixture
async def pool(
    backend: str, settings: CodeInterpreterSettings, clock: ManualClock, folder: Path
) -> AsyncIterator[SessionPool]:
    """Sessions without spare ones."""
    made = SessionPool(make_backend(backend, settings), settings, clock)
    made.start()
    yield made
    await made.close()


@pytest.fixture
def calls(pool: SessionPool) -> Calls:
    """Calls in a thread's session."""
    return Calls(pool)
