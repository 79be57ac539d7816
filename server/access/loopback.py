"""Which names and addresses are this machine's own, and reached from nowhere else.

A server without keys is protected by its address alone. A web page gets around that: the browser
that shows it runs on this machine, and sends what the page likes, under a name that the page's
owner has pointed here, or from the page's own origin. Both are in the request's headers.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

LONGEST: Final = 300  # characters; names in the DNS have at most 253
_AUTHORITY: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d*)?", re.IGNORECASE)
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(.+)", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether a server that listens there is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_to_this_machine(host: str) -> bool:
    """By the header of that name. What ends in `.localhost` no browser looks up."""
    return len(host) <= LONGEST and _is_ours(host)


def is_from_this_machine(origin: str) -> bool:
    """By the header of that name. `null` is anybody's: a file's, or a frame's in a strange page."""
    found = _ORIGIN.fullmatch(origin) if len(origin) <= LONGEST else None
    return found is not None and _is_ours(found[1])


@lru_cache(maxsize=256)
def _is_ours(authority: str) -> bool:
    """Of a name or an address, with or without a port."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return False
    host = (found[1] or found[2]).lower().removesuffix(".")
    return is_loopback(host) or host.endswith(".localhost")
