"""Public ids as OpenAI's: a prefix and 24 random letters and digits, or 32 hexadecimal ones."""

from __future__ import annotations

import random
import secrets
import string
from typing import Protocol

ALPHABET = string.ascii_letters + string.digits
LENGTH = 24
LETTERS = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))


class IdSource(Protocol):
    """Where new public ids come from."""

    def new(self, prefix: str) -> str:
        """A fresh id such as `run_…`; `prefix` has no underscore."""
        ...

    def new_hex(self, prefix: str, begin: str = "") -> str:
        """A fresh id of 32 hexadecimal digits, the first of which may be given."""
        ...


class RandomIds:
    """Ids that cannot be guessed: 24 characters of 62, some 140 bits."""

    def new(self, prefix: str) -> str:
        return f"{prefix}_{secrets.token_bytes(LENGTH).translate(LETTERS).decode()}"

    def new_hex(self, prefix: str, begin: str = "") -> str:
        return f"{prefix}_{begin}{secrets.token_hex(16)[len(begin) :]}"


def request_id() -> str:
    """The id of one HTTP request: `req_` and 32 hexadecimal digits. It protects nothing."""
    return f"req_{_request_ids.getrandbits(128):032x}"


_request_ids = random.Random(secrets.randbits(256))  # asking the kernel each time lets the GIL go
