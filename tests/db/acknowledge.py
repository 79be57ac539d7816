"""A process that is killed as it writes: `acknowledge.py DATABASE`, told what to do on stdin.

For each line `failpoint n` a child is forked that dies at the n-th passage of that failpoint. Until
then it adds messages to the database, a few at a time, and prints the id of each once it is
answered. `dead` follows when it is. Only fork, since starting Python anew costs seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from server import failpoints
from server.clock import SystemClock
from server.db.database import Database
from server.ids import RandomIds
from tests.db import rows

WRITERS = 6
PLENTY = 2000


async def write(path: Path) -> None:
    """Several writers at once, each waiting for its answer before it goes on."""
    db = Database(path, SystemClock(), RandomIds(), readers=1)
    thread = await db.write(rows.thread)

    async def go_on() -> None:
        for _ in range(PLENTY // WRITERS):
            row = await db.write(lambda tx: rows.message(tx, thread.id))
            os.write(1, f"{row.id}\n".encode())

    await asyncio.gather(*(go_on() for _ in range(WRITERS)))


def main() -> None:
    """Fork a child for each line."""
    for line in sys.stdin:
        point, passage = line.split()
        child = os.fork()
        if child == 0:
            failpoints.arm_from(f"{point}=kill:{passage}")
            asyncio.run(write(Path(sys.argv[1])))
            os._exit(0)
        os.waitpid(child, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
