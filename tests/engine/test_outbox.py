"""What a worker sends: at once or by and by, whole, in order, and without waiting."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from server.engine.messages import (
    FrameDecoder,
    Locate,
    Message,
    Refused,
    Tokenize,
    Tokenized,
    Unread,
)
from server.engine.protocol import Span
from server.engine.vocabulary import Special, Vocabulary
from server.engine.worker import Outbox, VocabularyMessage, tokenize

LONG = "x" * 50_000  # some of these fill a socket


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's end of the connection, and its parent's."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def heard(connection: socket.socket, count: int) -> list[str]:
    """The first so many messages that arrive."""
    frames = FrameDecoder()
    found: list[str] = []
    while len(found) < count:
        found += [m.reason for m in frames.feed(connection.recv(1 << 16)) if isinstance(m, Refused)]
    return found


def test_a_parent_that_does_not_read_keeps_nobody_waiting(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """Far more than the socket holds can be put; all of it arrives, in order, once it is read."""
    ours, theirs = ends
    outbox = Outbox(ours)
    said = [f"{number} {LONG}" for number in range(100)]
    for text in said:
        outbox.put(Refused(text))
    assert heard(theirs, len(said)) == said
    outbox.close()


def test_what_comes_after_a_backlog_is_sent_after_it(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """Short messages that the socket could take again do not overtake long ones."""
    ours, theirs = ends
    outbox = Outbox(ours)
    said = [f"{number} {LONG if number % 3 else ''}" for number in range(60)]
    writing = threading.Thread(target=lambda: [outbox.put(Refused(text)) for text in said])
    writing.start()
    assert heard(theirs, len(said)) == said
    writing.join()
    outbox.close()


def test_several_threads_may_send(ends: tuple[socket.socket, socket.socket]) -> None:
    """Their messages do not mix, and each thread's stay in order."""
    ours, theirs = ends
    outbox = Outbox(ours)

    def send(name: str) -> None:
        for number in range(200):
            outbox.put(Refused(f"{name} {number} {LONG[: number * 50]}"))

    threads = [threading.Thread(target=send, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    words = [text.split()[:2] for text in heard(theirs, 400)]
    for name in "ab":
        assert [n for who, n in words if who == name] == [str(number) for number in range(200)]
    for thread in threads:
        thread.join()
    outbox.close()


def test_a_parent_that_is_gone_is_no_fault(ends: tuple[socket.socket, socket.socket]) -> None:
    """Others notice; nothing is raised, and the end is not waited for."""
    ours, theirs = ends
    outbox = Outbox(ours)
    theirs.close()
    for _ in range(3):
        outbox.put(Refused(LONG))
    outbox.close()


def test_closing_sends_what_is_left(ends: tuple[socket.socket, socket.socket]) -> None:
    """The last words of a worker are heard."""
    ours, theirs = ends
    outbox = Outbox(ours)
    said = [f"{number} {LONG}" for number in range(20)]
    found: list[str] = []
    reading = threading.Thread(target=lambda: found.extend(heard(theirs, len(said))))
    for text in said:
        outbox.put(Refused(text))
    reading.start()
    outbox.close()
    ours.close()
    reading.join()
    assert found == said


class Letters:
    """A vocabulary of small letters that fails at everything else."""

    bos = None
    adds_bos = False

    def specials(self) -> list[Special]:
        return []

    def tokenize(self, text: str) -> list[int]:
        return ["abcdefghijklmnopqrstuvwxyz".index(letter) for letter in text]

    def text(self, token: int) -> bytes:
        return bytes((97 + token,))


def test_a_text_that_cannot_be_read_is_told_to_who_asked(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """And the next one is read."""
    ours, theirs = ends
    inbox = SimpleQueue[VocabularyMessage]()
    arguments = (Vocabulary(Letters()), inbox, Outbox(ours))
    threading.Thread(target=tokenize, args=arguments, daemon=True).start()
    inbox.put(Tokenize(1, (Span("A", is_template=False),)))
    inbox.put(Locate(2, "B"))
    inbox.put(Tokenize(3, (Span("c", is_template=False),)))
    frames, told = FrameDecoder(), list[Message]()
    while len(told) < 3:
        told += frames.feed(theirs.recv(1 << 16))
    reason = "The model cannot read the text."
    assert told == [Unread(1, reason), Unread(2, reason), Tokenized(3, [2])]
