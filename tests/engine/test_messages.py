"""The two processes' messages, through their frames."""

from __future__ import annotations

import pytest

from server.engine.messages import (
    Cancel,
    Dropped,
    Embed,
    Embedded,
    End,
    Failure,
    Forget,
    FrameDecoder,
    Generate,
    Load,
    Loaded,
    Locate,
    Located,
    MalformedFrame,
    Message,
    Rank,
    Refused,
    Step,
    Stop,
    Token,
    Tokenize,
    Tokenized,
    Unread,
    Unsendable,
    encode,
)
from server.engine.protocol import Request, Sampling, Span
from server.engine.scripted import SCRIPTED_MODEL
from server.engine.settings import EngineSettings

MESSAGES: list[Message] = [
    Load("/models/x.gguf", "x", "A model.", EngineSettings(slots=4)),
    Generate(1, Request([1, 2, 3], 10, Sampling(seed=1), "project")),
    Generate(
        4,
        Request(
            [1, 2],
            10,
            Sampling(logit_bias=((3, -1.5), (7, 100.0)), presence_penalty=0.5),
            "project",
            cache_owner="thread_1",
            shared_tokens=1,
        ),
    ),
    Forget("thread_1"),
    Cancel(1),
    Tokenize(2, (Span("Grüße", True), Span("\x00 \n", False), Span("Hi", False, (5, 6)))),
    Stop(),
    Loaded(SCRIPTED_MODEL, 16, 0.5),
    Refused("It is no model."),
    Step(
        tokens=(Token(1, 5, "\xf0\x9f"), Token(2, 6, "a")),
        ends=(End(1, "stop", 3, 2, 0), End(2, "length", 3, 2, 0)),
        failures=(Failure(3, "too_long", "It is too long."),),
        live=2,
        waiting=1,
        seconds=0.01,
    ),
    Tokenized(2, [1, 2]),
    Locate(3, "Grüße"),
    Located(3, [2, 5]),
    Embed(4, ("Grüße", [1, 2]), cut=True, most=3, project="proj_1"),
    Rank(6, "Grüße?", ("Grüße", ""), "proj_1"),
    Embedded(4, 1, "AACAPw==", 3, last=True, pace=0.5),
    Unread(5, "Text 0 is empty."),
    Dropped(6),
]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_messages_survive_any_cut_of_the_stream(size: int) -> None:
    """However the bytes arrive, the same messages come out, in order."""
    sent = b"".join(map(encode, MESSAGES))
    decoder = FrameDecoder()
    received = []
    for start in range(0, len(sent), size):
        received += decoder.feed(sent[start : start + size])
    assert received == MESSAGES


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\xff",
        b"\x02\x00\x00\x00{}",
        b"\x01\x00\x00\x00[",
        b'\x0b\x00\x00\x00["Nope", 1]',
        b'\x0f\x00\x00\x00["Cancel", {}]  '[:19],
    ],
)
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    """A peer gone mad is noticed, not believed."""
    with pytest.raises(MalformedFrame):
        FrameDecoder().feed(frame)


@pytest.mark.parametrize(
    "message", [Tokenize(1, (Span("\ud83d", False),)), Embed(1, ([1 << 70],)), Forget("\udcff")]
)
def test_what_no_message_can_hold_is_refused(message: Message) -> None:
    """In words of the engine's own, before a byte is sent."""
    with pytest.raises(Unsendable):
        encode(message)
