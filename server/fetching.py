"""What pip fetches for the user, from wherever it is set up to fetch."""

from __future__ import annotations

import importlib.util
import sys


class Unobtainable(Exception):
    """Something is not to be had; the text says why, for the user."""


def pip_for(wanted: str) -> list[str]:
    """The command that pip's own words follow on. Raises Unobtainable where there is no pip."""
    if importlib.util.find_spec("pip") is None:
        raise Unobtainable(f"pip is not there to fetch {wanted}: {sys.executable} -m pip")
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
