"""The child process that owns one model: `python -m server.engine.worker FD`.

Seven threads. The main one decodes and owns the context. A reader takes the parent's messages, a
vocabulary thread tokenizes, one reads grammars and one makes their masks beside a running decode,
one reads and writes snapshots, and a writer sends what the socket does not take at once, so that a
parent that is slow to read never holds up a decode step. Where there are cores to spare, some more
help the main one to choose the tokens of many sequences. The vocabulary thread has a large stack:
llama.cpp cuts text into words with regular expressions that, for many vocabularies, recurse with
every letter. So has the one for grammars, since llguidance recurses with every level.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from server import heap
from server.engine.archive import Deliver, SnapshotFiles, shrink
from server.engine.constraint import Compiled
from server.engine.decoder import Decoder
from server.engine.embedding import Embedder, Texts
from server.engine.grammars import Grammars, compile_all
from server.engine.machine import available_memory
from server.engine.messages import (
    Cancel,
    Dropped,
    Embed,
    Forget,
    FrameDecoder,
    FromWorker,
    Generate,
    Load,
    Loaded,
    Locate,
    Located,
    Message,
    Rank,
    Refused,
    Step,
    Stop,
    Tokenize,
    Tokenized,
    Unread,
    encode,
)
from server.engine.pairs import Pairs
from server.engine.settings import EngineSettings
from server.engine.sizing import affordable_snapshots
from server.engine.snapshots import Fetched, SnapshotStore, Written
from server.engine.vocabulary import Vocabulary
from server.logs import told

_PR_SET_PDEATHSIG: Final = 1
_READ_SIZE: Final = 1 << 16
# The decoding thread must get the interpreter back quickly when a step ends.
_SWITCH_INTERVAL: Final = 0.0005

_LAST_WRITES: Final = 10.0  # seconds that writing snapshots may take at the end
_LAST_REMOVALS: Final = 1.0

# A letter needs some hundred bytes. Memory is taken only as far as a stack is used, but it may be
# that so much cannot even be reserved.
_DEEP_STACKS: Final = (512 << 20, 128 << 20, 32 << 20)

# A steady stream's text may be later by a step, if that is a short one.
_LONGEST_HELD: Final = 0.1  # seconds

VocabularyMessage = Tokenize | Locate | Embed | Rank | Cancel
DecoderMessage = Generate | Cancel | Texts | Forget | Stop | Written | Fetched | Compiled


class Outbox:
    """Messages to the parent, in order, without ever making the sender wait.

    What the socket takes is sent at once, since to wake a thread for it costs more; the rest goes
    by a thread. It holds no more than the live generations' remaining tokens.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        self._rest = SimpleQueue[bytes | None]()
        self._left = 0  # pieces that are not sent yet
        self._thread = _start("outbox", self._run)

    def put(self, message: FromWorker) -> None:
        frame = encode(message)
        with self._turn:
            if not self._left:
                frame = frame[self._taken(frame) :]
            if frame:
                self._left += 1
                self._rest.put(frame)

    def close(self) -> None:
        """Send what is left, then return."""
        self._rest.put(None)
        self._thread.join()

    def _taken(self, frame: bytes) -> int:
        """How many of its bytes the socket takes."""
        try:
            return self._connection.send(frame, socket.MSG_DONTWAIT)
        except OSError:  # it is full; or the parent is gone, which others notice
            return 0

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the parent is gone; the reader notices too
            while (frame := self._rest.get()) is not None:
                self._connection.sendall(frame)
                with self._turn:
                    self._left -= 1


class Reports:
    """What each step has done, to the parent.

    Where decoding takes all cores, whoever reads a report takes one of them from the next step, all
    of whose threads wait for that one. So a report that can wait is sent when this step's sampling
    leaves a core free: some 2 % of the speed of one stream on two cores.
    """

    def __init__(self, send: Callable[[FromWorker], None], *, holds: bool) -> None:
        self._send = send
        self._holds = holds
        self._held: Step | None = None

    def put(self, step: Step, *, steady: bool) -> None:
        self.flush()
        if self._holds and steady and step.seconds < _LONGEST_HELD:
            self._held = step
        else:
            self._send(step)

    def flush(self) -> None:
        if self._held is not None:
            self._send(self._held)
            self._held = None


class Inbox:
    """Messages from the parent, to the thread they are for."""

    def __init__(self, connection: socket.socket) -> None:
        self.load = SimpleQueue[Load]()
        self.decoding = SimpleQueue[DecoderMessage]()
        self.tokenizing = SimpleQueue[VocabularyMessage]()
        self.compiling = SimpleQueue[tuple[int, str]]()  # numbers and grammars
        self.decoder: Decoder | None = None  # set once the model is loaded, unless it embeds
        self.unwanted = set[int]()  # numbers of texts whose cancellation is on its way behind them
        self._connection = connection
        _start("inbox", self._run)

    def _run(self) -> None:
        frames = FrameDecoder()
        try:
            while data := self._connection.recv(_READ_SIZE):
                for message in frames.feed(data):
                    self._deliver(message)
        finally:
            os._exit(0)  # whatever the other threads do, nobody wants it any more

    def _deliver(self, message: Message) -> None:
        match message:
            case Load():
                self.load.put(message)
            case Tokenize() | Locate() | Embed() | Rank():
                self.tokenizing.put(message)
            case Cancel(number):
                if self.decoder is None:
                    self.unwanted.add(number)
                    self.tokenizing.put(message)
                else:
                    self.decoder.interrupt(number)
                    self.decoding.put(message)
            case Generate(number, request):
                self.decoding.put(message)
                if request.grammar:
                    self.compiling.put((number, request.grammar))
                elif self.decoder is not None:
                    self.decoder.welcome()
            case Forget() | Stop():
                self.decoding.put(message)


def main(descriptor: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal's, an init's: meant for the parent
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    threading.excepthook, sys.excepthook = _exit_with, _tell
    _die_with_parent()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    connection = socket.socket(fileno=descriptor)
    inbox, outbox = Inbox(connection), Outbox(connection)
    serve(inbox.load.get(), inbox, outbox)
    outbox.close()
    os._exit(0)  # past the daemon threads, and past C++ destructors that would wait for them


def serve(load: Load, inbox: Inbox, outbox: Outbox) -> None:
    """Load the model and decode until told to stop."""
    # Imported here: the library's threads are not to exist before the reader does.
    from server.engine.llama import ErrorLog, LlamaBackend, LlamaEmbedder, Model, ModelRefused

    try:
        model = Model(load.path, load.settings, ErrorLog())
        if model.embeds:
            reader = LlamaEmbedder(model, load.settings)
            info = model.describe(load.name, load.description, reader.context)
            embedder = Embedder(reader)
            embedder.warm_up()
            words = Vocabulary(model.vocabulary)
            pairs = Pairs(words, model.pair_form, reader.context)
            _start_deep(
                "vocabulary", lambda: read_texts(reader.tokenize, pairs, words, inbox, outbox)
            )
            heap.settle()
            outbox.put(Loaded(replace(info, embedding=reader.size), reader.slots, embedder.pace))
            embed(embedder, inbox.decoding, outbox)
            return
        backend = LlamaBackend(model, load.settings)
    except ModelRefused as refusal:
        outbox.put(Refused(str(refusal)))
        return
    info = model.describe(load.name, load.description, backend.context)
    files = _archive(load, info.fingerprint, inbox.decoding.put)
    store = _store(load.settings, files, one_per_owner=backend.rolls_back)
    decoder = inbox.decoder = Decoder(backend, load.settings, store)
    decoder.warm_up()
    vocabulary = Vocabulary(model.vocabulary)
    _start_deep("vocabulary", lambda: tokenize(vocabulary, inbox.tokenizing, outbox))
    grammars = Grammars(model.vocabulary.for_grammars)
    _start_deep("grammars", lambda: compile_all(grammars, inbox.compiling, inbox.decoding.put))
    heap.settle()
    outbox.put(Loaded(info, backend.slots))
    reports = Reports(outbox.put, holds=backend.takes_all_cores)
    decode(decoder, inbox.decoding, reports)
    decoder.save_all()
    settle(decoder, inbox.decoding, _LAST_WRITES)
    if files is not None:
        files.close(_LAST_REMOVALS)
    backend.close()


def decode(decoder: Decoder, inbox: SimpleQueue[DecoderMessage], reports: Reports) -> None:
    while _receive(decoder, inbox, reports):
        if (news := decoder.news()) is not None:
            reports.put(news, steady=False)
            continue
        step = decoder.step(reports.flush)
        reports.put(step, steady=decoder.steady)
        decoder.tend()


def settle(decoder: Decoder, inbox: SimpleQueue[DecoderMessage], patience: float) -> None:
    """Hear what became of the last snapshots: some were to be forgotten, or were too many."""
    deadline = time.monotonic() + patience
    while decoder.saving and (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(Empty):
            message = inbox.get(timeout=left)
            if isinstance(message, Written | Fetched):
                decoder.receive(message)
            elif isinstance(message, Forget):
                decoder.forget(message.owner)


def embed(embedder: Embedder, inbox: SimpleQueue[DecoderMessage], outbox: Outbox) -> None:
    while True:
        while embedder.idle or not inbox.empty():
            match inbox.get():
                case Texts() as message:
                    if problem := embedder.submit(message):
                        outbox.put(problem)
                case Cancel(number):
                    embedder.cancel(number)
                    outbox.put(Dropped(number))
                case Stop():
                    return
        for embedded in embedder.step():
            outbox.put(embedded)


def _archive(load: Load, fingerprint: str, deliver: Deliver) -> SnapshotFiles | None:
    if load.cache is None or load.settings.cache_disk_bytes == 0:
        return None
    folder = Path(load.cache) / fingerprint
    try:
        files = SnapshotFiles(folder, deliver)
    except OSError as error:  # the model works without
        sys.stderr.write(f"no snapshots in {folder}: {error}\n")
        return None
    try:
        shrink(folder.parent, load.settings.cache_disk_bytes)
    except OSError as error:  # and this one's files with what others have left
        sys.stderr.write(f"{folder.parent} may hold too much: {error}\n")
    return files


def _store(
    settings: EngineSettings, files: SnapshotFiles | None, *, one_per_owner: bool
) -> SnapshotStore:
    memory = settings.cache_ram_bytes
    store = SnapshotStore(
        memory_limit=affordable_snapshots(available_memory()) if memory is None else memory,
        disk_limit=settings.cache_disk_bytes,
        archive=files,
        one_per_owner=one_per_owner,
    )
    for snapshot in files.stored() if files is not None else ():
        store.adopt(snapshot)
    return store


def tokenize(vocabulary: Vocabulary, inbox: SimpleQueue[VocabularyMessage], outbox: Outbox) -> None:
    while True:
        message = inbox.get()
        with _alone(message, outbox):
            match message:
                case Tokenize(number, spans):
                    outbox.put(Tokenized(number, vocabulary.tokenize(spans)))
                case Locate(number, text):
                    outbox.put(Located(number, vocabulary.token_ends(text)))


def read_texts(
    tokenize: Callable[[str, bool], list[int]],
    pairs: Pairs,
    vocabulary: Vocabulary,
    inbox: Inbox,
    outbox: Outbox,
) -> None:
    """Give the embedding thread ids where it was sent text."""
    while True:
        message = inbox.tokenizing.get()
        with _alone(message, outbox):
            match message:
                case Embed(number, texts, cut, most, project):
                    ids = (tokenize(text, cut) if isinstance(text, str) else text for text in texts)
                    if not _hand_on(number, ids, project, inbox, most):
                        reason = f"The texts have more than {most} tokens together."
                        outbox.put(Unread(number, reason))
                case Rank(number, query, passages, project):
                    ids = (pairs.tokenize(query, each) for each in passages)
                    _hand_on(number, ids, project, inbox)
                case Locate(number, text):
                    outbox.put(Located(number, vocabulary.token_ends(text)))
                case Cancel(number):
                    inbox.unwanted.discard(number)
                    inbox.decoding.put(message)


@contextlib.contextmanager
def _alone(message: VocabularyMessage, outbox: Outbox) -> Iterator[None]:
    """Whatever becomes of it, others' texts are read."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the edge: whoever asked must hear of it
        _tell(type(error), error, error.__traceback__)
        outbox.put(Unread(message.number, "The model cannot read the text."))


def _hand_on(
    number: int,
    texts: Iterator[list[int]],
    project: str,
    inbox: Inbox,
    most: int | None = None,
) -> bool:
    """To be embedded, if anybody still wants them then; false if they have too many tokens."""
    ids: list[list[int]] = []
    tokens = 0
    while number not in inbox.unwanted:
        if (text := next(texts, None)) is None:
            inbox.decoding.put(Texts(number, ids, project))
            break
        ids.append(text)
        tokens += len(text)
        if most is not None and tokens > most:
            return False
    return True


def _receive(decoder: Decoder, inbox: SimpleQueue[DecoderMessage], reports: Reports) -> bool:
    """Take all messages there are, waiting only if there is nothing to decode; false to stop."""
    while decoder.idle or decoder.blocked or not inbox.empty():
        reports.flush()  # what comes now may take long
        try:
            message = inbox.get(timeout=decoder.next_chore)
        except Empty:
            decoder.tend()
            continue
        match message:
            case Generate(number, request):
                decoder.submit(number, request)
            case Cancel(number):
                decoder.cancel(number)
            case Forget(owner):
                decoder.forget(owner)
            case Written() | Fetched():
                decoder.receive(message)
            case Compiled():
                decoder.constrain(message)
            case Stop():
                return False
    return True


def _exit_with(failure: threading.ExceptHookArgs) -> None:
    """A thread that died would leave its callers waiting; the parent knows how to restart us."""
    if failure.exc_value is not None:
        _tell(failure.exc_type, failure.exc_value, failure.exc_traceback)
    os._exit(1)


def _tell(_: object, error: BaseException, __: object) -> None:
    """To the parent's log, by the rules of that."""
    print(told(error), file=sys.stderr)  # noqa: T201


def _start(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _start_deep(name: str, target: Callable[[], None]) -> threading.Thread:
    """With the largest stack that there is room for."""
    for size in _DEEP_STACKS:
        with contextlib.suppress(RuntimeError, ValueError), _stack_of_threads(size):
            return _start(name, target)
    return _start(name, target)


@contextlib.contextmanager
def _stack_of_threads(size: int) -> Iterator[None]:
    """Of those that are started meanwhile."""
    before = threading.stack_size(size)
    try:
        yield
    finally:
        threading.stack_size(before)


def _die_with_parent() -> None:
    """End of file on the socket says the same, but not to a process stuck in a driver call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
