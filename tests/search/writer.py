"""Writes to an index until a failpoint ends the process; says each write that was done.

python -m tests.search.writer FOLDER FAILPOINTS
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from server import failpoints
from server.search import store
from tests.search.fakes import lines, opened

WRITES = (
    ("a", "apples one\napples two\n"),
    ("b", "bananas one\n"),
    ("a", "apples again\napples anew\napples too\n"),
    ("b", None),
    ("c", "cherries\n" * 5),
    ("a", None),
    ("c", "currants\n"),
)
STORE = "vs"


def after(writes: int) -> dict[str, list[str]]:
    """The chunks of each file after so many writes."""
    held = dict(WRITES[:writes])
    return {name: text.splitlines(keepends=True) for name, text in held.items() if text}


async def main(folder: Path) -> None:
    """All writes, in order."""
    store.FEWEST_UNUSED = 3  # type: ignore[misc]
    async with opened(folder) as indexes:
        for number, (name, text) in enumerate(WRITES, 1):
            if text is None:
                await indexes.remove(STORE, [name])
            else:
                await indexes.put(STORE, name, text, lines(text))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    failpoints.arm_from(sys.argv[2])
    asyncio.run(main(Path(sys.argv[1])))
