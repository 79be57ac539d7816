"""Which Host and Origin headers name this machine."""

from __future__ import annotations

import pytest

from server.access.loopback import LONGEST, is_from_this_machine, is_to_this_machine

OURS = [
    "localhost",
    "LocalHost:8000",
    "localhost.",
    "app.localhost:3000",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.8.9.10:80",
    "[::1]",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]:8000",
]
OTHERS = [
    "",
    ":8000",
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "notlocalhost",
    "evil.example/.localhost",
    "localhost@evil.example",
    "evil.example\t.localhost",
    "0.0.0.0:8000",
    "192.168.1.5",
    "128.0.0.1",
    "127.0.0.1:8000:9",
    "127.0.0.1:x",
    "[::2]:8000",
    "[::]",
    "[]",
    "[evil.example]",
    "::1",
    "a" * LONGEST + ".localhost",
]


@pytest.mark.parametrize("authority", OURS)
def test_this_machine(authority: str) -> None:
    """By its name, what is below it, or any of its addresses, whatever the port and the scheme."""
    assert is_to_this_machine(authority)
    for scheme in ("http", "https", "tauri"):
        assert is_from_this_machine(f"{scheme}://{authority}")


@pytest.mark.parametrize("authority", OTHERS)
def test_another_machine(authority: str) -> None:
    """However much it looks like this one."""
    assert not is_to_this_machine(authority)
    assert not is_from_this_machine(f"http://{authority}")


@pytest.mark.parametrize("origin", ["null", "", "localhost", "file://", "http:localhost"])
def test_no_origin(origin: str) -> None:
    """What names no place is from anywhere."""
    assert not is_from_this_machine(origin)
