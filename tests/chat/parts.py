"""Parts of a message, as a writer of citations gives them out."""

from __future__ import annotations

from server.chat.citations import Part


def joined(parts: list[Part]) -> list[Part]:
    """With neighbouring texts put together."""
    said: list[Part] = []
    for part in parts:
        if isinstance(part, str) and said and isinstance(said[-1], str):
            said[-1] += part
        else:
            said.append(part)
    return said
