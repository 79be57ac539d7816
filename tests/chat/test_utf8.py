"""Bytes to text, whatever the tokens cut apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.chat.utf8 import Utf8Joiner


@given(st.text(), st.integers(1, 4))
def test_split_characters_are_joined(text: str, size: int) -> None:
    """Text cut into pieces of any size comes back exactly, and none of it too late."""
    data, joiner = text.encode(), Utf8Joiner()
    fed = ""
    for start in range(0, len(data), size):
        fed += joiner.feed(data[start : start + size])
        assert text.startswith(fed)
        assert len(data[: start + size]) - len(fed.encode()) < 4
    assert fed + joiner.finish() == text


@given(st.binary(), st.integers(1, 4))
def test_any_bytes_are_text_in_the_end(data: bytes, size: int) -> None:
    """Bytes that are no UTF-8 become the same replacement characters at every cut."""
    joiner = Utf8Joiner()
    pieces = [joiner.feed(data[start : start + size]) for start in range(0, len(data), size)]
    assert "".join(pieces) + joiner.finish() == data.decode("utf-8", "replace")


def test_an_invalid_byte_is_replaced_only_when_sure() -> None:
    """The beginning of a character waits for its rest; what cannot be one does not."""
    joiner = Utf8Joiner()
    assert joiner.feed(b"a\xe2\x82") == "a"
    assert joiner.feed(b"\xac\xff") == "€\ufffd"
    assert joiner.feed(b"\xf0\x9f") == ""
    assert joiner.finish() == "\ufffd"
