"""What was found out once and is asked for again: as much of it as was used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """The values of the `most` keys that were used last. Owned by one event loop."""

    def __init__(self, find: Callable[[Key], Awaitable[Value]], *, most: int) -> None:
        self._find = find
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()

    async def of(self, key: Key) -> Value:
        """The key's value, which is found out now unless it is remembered."""
        value = self._values[key] if key in self._values else await self._find(key)
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
        return value
