"""What is found out once, and what has to be found out again."""

from __future__ import annotations

import asyncio

from server.runs.remembered import Remembered


class Lengths:
    """Finds out how long texts are, and notes of which."""

    def __init__(self, most: int) -> None:
        self.found: list[str] = []
        self.may_find = asyncio.Event()
        self.may_find.set()
        self.remembered = Remembered(self.length, most=most)

    async def length(self, text: str) -> int:
        self.found.append(text)
        await self.may_find.wait()
        return len(text)


async def test_what_was_used_last_is_not_found_out_again() -> None:
    """The longest unused makes room, whether it was found out before the others or not."""
    lengths = Lengths(most=2)
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        assert await lengths.remembered.of(text) == len(text)
    assert lengths.found == ["a", "bb", "ccc", "bb"]


async def test_keys_are_told_apart_by_what_they_are_known_by() -> None:
    """So that large ones need not be kept."""
    lengths = Lengths(most=2)
    remembered = Remembered(lengths.length, most=2, known_by=lambda text: text[0])
    assert [await remembered.of(text) for text in ("a", "bb", "another")] == [1, 2, 1]
    assert lengths.found == ["a", "bb"]


async def test_many_may_ask_at_once() -> None:
    """Also where more is asked for together than is remembered."""
    lengths = Lengths(most=1)
    lengths.may_find.clear()
    asked = asyncio.gather(*map(lengths.remembered.of, ("a", "bb", "a")))
    lengths.may_find.set()
    assert await asked == [1, 2, 1]
    assert await lengths.remembered.of("a") == 1
