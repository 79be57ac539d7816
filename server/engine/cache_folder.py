"""The folder of all models' saved threads, for the process that has none of the models loaded.

What a worker has of a thread it forgets itself; what models that are not loaded have left is known
to nobody but the folder. Owned by one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from server.engine.archive import forget_files, owners_in


class CacheFolder:
    """Removes what owners have there, in one reading of the folder for all who came meanwhile."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._forgotten = set[str]()
        self._clearing: asyncio.Task[None] | None = None

    def forget(self, owner: str) -> None:
        """Begin to remove an owner's files of every model."""
        self._forgotten.add(owner)
        if self._clearing is None:
            self._clearing = asyncio.create_task(self._clear(), name="forget files")

    async def keep_only(self, known: Callable[[set[str]], Awaitable[set[str]]]) -> None:
        """Remove the files of owners that are not `known` any more, such as a crash has left."""
        owners = await asyncio.to_thread(owners_in, self._root)
        await self._remove(owners - await known(owners))

    async def close(self) -> None:
        """Return when all files are removed that were to be."""
        if self._clearing is not None:
            await self._clearing

    async def _clear(self) -> None:
        try:
            while self._forgotten:
                owners, self._forgotten = self._forgotten, set()
                await self._remove(owners)
        finally:
            self._clearing = None

    async def _remove(self, owners: set[str]) -> None:
        if owners:  # a folder of thousands of files is not read on the loop
            await asyncio.to_thread(forget_files, self._root.glob("*/"), owners)
