"""Frames: whole ones come out, and what is none is refused before it is held."""

from __future__ import annotations

import json

import pytest

from server.sandbox.frames import (
    LENGTH_BYTES,
    MOST_HEAD,
    MOST_RAW,
    Forged,
    FrameReader,
    encode,
)


def head(text: bytes) -> bytes:
    """A frame's beginning, whatever its text is."""
    return len(text).to_bytes(LENGTH_BYTES, "big") + text


@pytest.mark.parametrize("size", [1, 3, 7, 64, 10_000])
def test_frames_come_whole_out_of_pieces(size: int) -> None:
    """Whatever the pieces are, the frames are those that were sent."""
    sent = [({"is": "a"}, b""), ({"is": "é"}, b"x" * 5000), ({"is": "b", "n": [1]}, b"\0")]
    data = b"".join(encode(*frame) for frame in sent)
    reader = FrameReader()
    got = [frame for at in range(0, len(data), size) for frame in reader.feed(data[at : at + size])]
    assert [({k: v for k, v in each.items() if k != "raw"}, raw) for each, raw in got] == sent


@pytest.mark.parametrize(
    "data",
    [
        (MOST_HEAD + 1).to_bytes(LENGTH_BYTES, "big"),
        b"\xff\xff\xff\xff",
        head(b""),
        head(b"{"),
        head(b"\xff\xfe"),
        head(b"[]"),
        head(b"null"),
        head(b"{}"),
        head(b'{"raw": -1}'),
        head(b'{"raw": true}'),
        head(b'{"raw": 1.0}'),
        head(b'{"raw": "1"}'),
        head(b'{"raw": NaN}'),
        head(b'{"raw": 1e999}'),
        head(json.dumps({"raw": MOST_RAW + 1}).encode()),
        head(b"[" * 100_000),
        head(b'{"raw": ' + b"9" * 10_000 + b"}"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    """At once, without waiting for what it announces."""
    with pytest.raises(Forged):
        list(FrameReader().feed(data))
