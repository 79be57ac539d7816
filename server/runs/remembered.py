"""What was found out once and is asked for again: as much of it as was used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """The values of the `most` keys that were used last. Owned by one event loop."""

    def __init__(
        self,
        find: Callable[[Key], Awaitable[Value]],
        *,
        most: int,
        known_by: Callable[[Key], Hashable] = lambda key: key,
    ) -> None:
        """`known_by` gives what is kept of a key, where keys are large."""
        self._find = find
        self._most = most
        self._known_by = known_by
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    async def of(self, key: Key) -> Value:
        """The key's value, which is found out now unless it is remembered."""
        known = self._known_by(key)
        value = self._values[known] if known in self._values else await self._find(key)
        self._values[known] = value
        self._values.move_to_end(known)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
        return value
