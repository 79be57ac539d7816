"""Marks in an answer: citations of passages, and links to files that code has written.

Citations are numbers in brackets, as models write them, and the wire's markers with their files.

A model is shown numbered passages and cites one as `[2]`, some as `【2†source】`. That becomes a
marker such as `【0:1†returns.md】`, told together with the file that it points at. A number that
names no passage is left out. A sentence that is one of a passage's, word for word, is that
passage's, whatever number the model gave it, and also if it gave none: of several passages' of a
file the last one's, but of several files' nobody's. Code and formulas are left alone, and so are an
index (`items[1]`) and the text of a link (`[1](https://…)`). What is a link to a file is told in
`links`; its text stays as it is.

Knows nothing of rows and files: a passage brings what is said of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from server.chat.links import PREFIX, Link, Links
from server.chat.verbatim import Verbatim

NOTHING_FOUND: Final = "No results found."
LEAST_WORDS, LEAST_CHARACTERS = 4, 20  # of a sentence whose source can be told by its words

_NUMBERS = r"\d{1,4}(?:\s?,\s?\d{1,4}){0,9}"
_CITATION = re.compile(rf" ?(?:\[(?P<numbers>{_NUMBERS})\]|【(?P<label>[^【】\n]{{0,300}})】)")
# What may still become a citation when more is written, or be one or none by what follows.
_BEGUN = re.compile(r" ?(?:\[[\d ,]{0,60}\]{0,2}|【[^【】\n]{0,300})?$")
_LINKS = ("(", "](")  # behind brackets: where the link leads follows
# What a bracket behind it is an index of. Scripts after these have no spaces between words, or are
# hardly ever used for names in programs.
_INDEXED = re.compile(r"[^\W\u0590-\U0010ffff]|[)\]]")
# What brackets behind it hold are values: of a call, a name, a key.
_VALUES = re.compile(r"""(?:[^\W\u0590-\U0010ffff]\(|=\s?|["']:\s?)$""")
_LINE_BEGINS = re.compile(r"(?:.*\n)?\s*", re.DOTALL)
# Words whose lists of numbers are values. Behind others they are sources, which are told in order.
_LISTS = re.compile(
    r"\b(?:is|are|was|were|be|equals?|gives?|returns?|prints?|yields?|becomes?|lists?|arrays?|vectors?"
    r"|tuples?|sets?|sequences?|intervals?|ranges?|coordinates|values|numbers|rows?|columns?):?\s?$",
    re.IGNORECASE,
)
_OPENING = r" ?[\[【]"
_LABELLED = re.compile(r"(\d{1,4})(?:†|$)")
_MARKER = re.compile(r"【\d+:(\d+)†[^【】]*】")
# Signs in front of lines and around words. Others tell things apart: `C#`, `> 5`, `A-`, `5"`.
_LINE_MARKS = re.compile(r"^[ \t]*(?:(?:[>*+•-]|#{1,6}|\d{1,3}[.)])[ \t]+)+", re.MULTILINE)
_NOT_WORDS = re.compile(r"(?:[\s*_`]|(?<!\d)[\"'“”‘’])+")
# A text's own notes, which a model copies with what they stand behind; `items[3]` has none.
# The bracket comes first, so that few places are looked at.
_NOTES = re.compile(
    r"\[(?<![^\W\u0590-\U0010ffff]\[)(?<![=(:)\]]\[)(?<![=(:]\s\[)"
    r" ?\d{1,4}\](?:\[ ?\d{1,4}\])*(?!\()"
)
_NOTED = re.compile(r"\b(\w+)[ .,;!?)]{1,3}((?:\[ ?\d{1,4}\])+)")
_LAST_WORD = re.compile(r"(\w+)\W*$")
_ENDINGS = ".!?"
_CLOSINGS = "\"')*_”’ "
# Behind a sentence of a passage, and behind a line; but not behind a title or an initial
# (`Dr. Smith`).
_BORDER = re.compile(
    r"(?<!\b[A-Z]\.)(?<!\b[A-Z][a-z]\.)(?<!\bMrs\.)(?<!\bProf\.)"
    rf"(?:(?<=[{_ENDINGS}])[{re.escape(_CLOSINGS)}]*\s|\n)\s*"
)
_WRAPPED = 40  # characters of a line that may have been too long to go on
_ITEM_NUMBER = re.compile(r"\s*\d{1,3}\.")
# What stands in a list, in a table or above a text: what is said of it stands somewhere else.
_ITEM = re.compile(r"\s*(?:[-*+•]\s|[|#]|\d{1,3}[.)]\s)|[^\n]* \| ")
_LONGEST_BEGUN = 302  # characters of what may still become a citation
_LOOKED_BACK = 40  # characters that tell what a bracket behind them holds
_CLOSED = 16  # characters at the end of a sentence that tell whether it is over
_LARGEST_SLIP = 999  # a larger number in brackets that names no passage is something else


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that the model was shown, by its number; `search` counts its run's searches."""

    number: int
    search: int
    file_id: str
    filename: str
    text: str

    @property
    def marker(self) -> str:
        name = re.sub(r"[【】†\s]+", " ", self.filename)
        return f"【{self.search}:{self.number - 1}†{name}】"


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker in an answer, and the file that it points at."""

    text: str
    file_id: str


Part = str | Citation | Link
NO_LINKS: Final = Links(())


def passages(sources: Sequence[Source]) -> str:
    """What the model is told that a search found. Nothing in it can pass for a number of ours."""
    told = (
        f"[{s.number}] {_quoted(_in_one_line(s.filename))}\n{_quoted(s.text.rstrip())}"
        for s in sources
    )
    return "\n\n".join(told) or NOTHING_FOUND


def as_written(text: str) -> str:
    """A text with our markers, as a model would have written it: numbers are no indices."""

    def number(marker: re.Match[str]) -> str:
        before = text[max(0, marker.start() - 1) : marker.start()]
        return f"{' ' if _INDEXED.match(before) else ''}[{int(marker[1]) + 1}]"

    return _MARKER.sub(number, text)


class CitationWriter:
    """The text of one message, piece by piece, with its citations and links found.

    Where there are no passages each citation points nowhere; None is a text that cites nothing.
    """

    def __init__(self, sources: Sequence[Source] | None, links: Links = NO_LINKS) -> None:
        self._links = links
        self._cites = sources is not None
        sources = sources or ()
        looked_for = [_OPENING] * self._cites + [PREFIX] * bool(links)
        self._openings = re.compile("|".join(looked_for))
        self._sources = {source.number: source for source in sources}
        self._sentences = {source.number: _sentences(source.text) for source in sources}
        self._said = _of_one_file(sources, self._sentences.values())
        self._noted = _of_one_file(sources, (_notes(source.text) for source in sources))
        self._held = ""
        self._verbatim = Verbatim()
        self._sentence = ""  # as far as it is told, without citations
        self._cited: set[int] = set()  # what is cited where the text has come to
        self._after_one = False  # of them, left out or not, with nothing since
        self._lists = False  # whether the sentence has lists of numbers that are no passages'
        self._gap = False  # whether the space before one that was left out may be needed

    def feed(self, text: str) -> list[Part]:
        """More of the text: what can be told now, in order."""
        if not self._cites and not self._links:
            return [text] if text else []
        self._held += text
        return _joined(self._read())

    def finish(self) -> list[Part]:
        """What is left at the end of the text."""
        return _joined([*self._read(to_the_end=True), *self._recognised()])

    def _read(self, *, to_the_end: bool = False) -> Iterator[Part]:
        """All that is held, up to what may be the beginning of a mark while more can come."""
        while self._held:
            begun = len(self._held) if to_the_end else self._begun()
            opening = self._openings.search(self._held, 0, begun)
            start = opening.start() if opening else begun
            plain, self._held = self._held[:start], self._held[start:]
            yield from self._told(plain)
            if opening is None:
                return
            if opening[0] == PREFIX:
                yield from self._linked()
            else:
                yield from self._opened(len(opening[0]))

    def _begun(self) -> int:
        """Where in what is held something begins that may become a mark; else its end."""
        cited = None
        if self._cites:
            cited = _BEGUN.search(self._held, max(0, len(self._held) - _LONGEST_BEGUN))
        linked = self._links.begun(self._held) if self._links else len(self._held)
        return linked if cited is None else min(linked, cited.start())

    def _linked(self) -> Iterator[Part]:
        """What is held begins like a link; it takes at least that."""
        link = self._links.at(self._held)
        text = PREFIX if link is None else link.text
        self._held = self._held[len(text) :]
        if link is None:
            yield from self._told(text)
        else:
            yield from self._plain(" " if self._gap else "")
            self._gap = False
            self._pass(text)
            yield link

    def _opened(self, width: int) -> Iterator[Part]:
        """What is held begins with a bracket, after a space or not; it takes at least that."""
        found = self._found()
        numbers = _numbers_in(found) if found is not None else ()
        known = [self._sources[number] for number in numbers if number in self._sources]
        if found is None or not (known or self._is_slip(found, numbers)):
            plain, self._held = self._held[:width], self._held[width:]
            yield from self._told(plain)
            return
        self._held = self._held[found.end() :]
        is_apart = self._gap or found[0].startswith(" ")
        self._gap = is_apart and not known
        if known and is_apart:
            yield from self._plain(" ")
        for source in known:
            yield from self._cite(self._meant(source))
        self._after_one = True

    def _found(self) -> re.Match[str] | None:
        """The citation that what is held begins with."""
        if self._verbatim.holds(self._held):
            return None
        found = _CITATION.match(self._held)
        if found is None or found["label"] is not None:
            return found
        is_index = (
            not self._after_one
            and found[0].startswith("[")
            and _INDEXED.match(self._sentence[-1:]) is not None
        )
        is_link = self._held.startswith(_LINKS, found.end())
        return None if is_index or is_link or self._is_value(found) else found

    def _is_value(self, found: re.Match[str]) -> bool:
        """Whether it holds numbers of anything but passages, or says what one stands for."""
        before = self._sentence[-_LOOKED_BACK:] + " " * found[0].startswith(" ")
        follows = self._held[found.end() : found.end() + 1]
        numbers = _numbers_in(found)
        is_list = len(numbers) > 1 and (
            self._lists
            or not self._sources.keys() >= {*numbers}
            or [*numbers] != sorted({*numbers})
            or (before.endswith("[") and follows == ",")
            or _LISTS.search(before) is not None
        )
        self._lists = self._lists or is_list
        is_value = 0 in numbers or _VALUES.search(before) is not None
        is_label = follows == ":" and _LINE_BEGINS.fullmatch(before) is not None
        return is_list or is_value or is_label

    def _is_slip(self, found: re.Match[str], numbers: Sequence[int]) -> bool:
        """Whether one that names no passage was meant to, unlike `[2024]`."""
        if found["label"] is not None:
            return "†" in found["label"]
        return max(numbers) <= _LARGEST_SLIP

    def _meant(self, source: Source) -> Source:
        """The passage that the sentence was taken from, where its words show that.

        Or the number, which stands as a note behind the same word there, and the passage that
        has this number does not know the word.
        """
        sentence = _words(self._sentence)
        if _tells(sentence) and sentence in self._sentences[source.number]:
            return source
        if _tells(sentence) and sentence in self._said:
            return self._said[sentence]
        word = _LAST_WORD.search(self._sentence[-_LOOKED_BACK:])
        if word is None or word[1].casefold() in source.text.casefold():
            return source
        return self._noted.get(_note(word[1], source.number), source)

    def _cite(self, source: Source) -> Iterator[Part]:
        if source.number not in self._cited:
            self._cited.add(source.number)
            yield Citation(source.marker, source.file_id)

    def _told(self, text: str) -> Iterator[Part]:
        """Plain text, with a marker behind each sentence that repeats a passage."""
        if text and self._gap:
            self._gap = False
            yield from self._plain(" " if text[0].isalnum() else "")
        start = 0
        for place, character in enumerate(text):
            if character.isspace() and self._ends_sentence(text[start:place], character):
                yield from self._plain(text[start:place])
                yield from self._recognised()
                self._sentence, self._lists, start = "", False, place
        yield from self._plain(text[start:])

    def _ends_sentence(self, said: str, after: str) -> bool:
        end = (self._sentence[-_CLOSED:] + said[-_CLOSED:]).rstrip(_CLOSINGS)
        return bool(end) and (after == "\n" or end[-1] in _ENDINGS)

    def _plain(self, text: str) -> Iterator[Part]:
        if text:
            self._pass(text)
            yield text

    def _pass(self, text: str) -> None:
        """Look at text that is no citation, as it is told."""
        self._after_one = False
        self._verbatim.read(text)
        self._sentence += text
        if text.strip(_ENDINGS + _CLOSINGS):
            self._cited.clear()

    def _recognised(self) -> Iterator[Part]:
        """The source of the sentence that has just ended, unless it was cited or nobody's."""
        sentence = _words(self._sentence)
        if self._cited or self._verbatim.holds("\n") or not _tells(sentence):
            return
        source = self._said.get(sentence)
        if source is not None:
            yield from self._cite(source)


def _numbers_in(found: re.Match[str]) -> tuple[int, ...]:
    if found["numbers"] is not None:
        return tuple(int(number) for number in found["numbers"].split(","))
    label = _LABELLED.match(found["label"].strip())
    return (int(label[1]),) if label else ()


def _of_one_file(sources: Sequence[Source], told: Iterable[set[str]]) -> dict[str, Source]:
    """What each passage tells, with its source, but for what several files do."""
    found: dict[str, Source] = {}
    files: dict[str, set[str]] = {}
    for source, all_of_it in zip(sources, told, strict=True):
        for each in all_of_it:
            found[each] = source
            files.setdefault(each, set()).add(source.file_id)
    return {each: source for each, source in found.items() if len(files[each]) == 1}


def _note(word: str, number: int) -> str:
    return f"{word.casefold()} {number}"


def _notes(text: str) -> set[str]:
    """The numbers in brackets in it, each with the word before it."""
    return {
        _note(noted[1], int(number))
        for noted in _NOTED.finditer(text)
        for number in re.findall(r"\d+", noted[2])
    }


def _words(text: str) -> str:
    """What it says, without marks and case, with single spaces."""
    bare = _NOT_WORDS.sub(" ", _LINE_MARKS.sub("", _NOTES.sub("", text).strip()))
    return bare.casefold().strip().rstrip(" :.!")


def _sentences(text: str) -> set[str]:
    """The words of each sentence and line of a passage that says something by itself."""
    parts = _parts(_NOTES.sub("", text))
    return {words for part in parts if _states(part) and (words := _words(part))}


def _parts(text: str) -> Iterator[str]:
    """Its sentences and lines, but for those of which it may have only a part."""
    is_cut, start = text.lstrip()[:1].islower(), 0
    for border in _BORDER.finditer(text):
        if _goes_on(text, start, border):
            continue
        if not is_cut:
            yield text[start : border.start()]
        is_cut, start = False, border.end()
    if not is_cut and _is_over(text):
        yield text[start:]


def _goes_on(text: str, start: int, border: re.Match[str]) -> bool:
    """Whether what begins at `start` does not end at this border."""
    part, following = text[start : border.start()], text[border.end() : border.end() + 1]
    is_paragraph = border[0].count("\n") > 1
    if following.islower() and not (is_paragraph and _is_over(part)):
        return True
    if _ITEM_NUMBER.fullmatch(part):
        return True
    line = part.rpartition("\n")[2]
    is_long = len(line) >= _WRAPPED and not line.endswith(":") and not _is_over(line)
    return is_long and "\n" in border[0] and not is_paragraph and following.isalnum()


def _states(part: str) -> bool:
    """Whether it says something: it neither asks nor is an item, which its list may deny."""
    asks = part.rstrip(_CLOSINGS).endswith("?")
    return not asks and (_is_over(part) or _ITEM.match(part) is None)


def _is_over(text: str) -> bool:
    """Whether it ends as sentences do."""
    return text.rstrip(_CLOSINGS).endswith((*_ENDINGS,))


def _tells(sentence: str) -> bool:
    """Whether a sentence has enough words to be recognised by them."""
    return len(sentence) >= LEAST_CHARACTERS and sentence.count(" ") >= LEAST_WORDS - 1


def _quoted(text: str) -> str:
    """A text in which no brackets are citations: copied into an answer they would point at ours."""
    apart = re.sub(rf"\[(?={_NUMBERS}\])", "[ ", text)
    return apart.replace("【", "〔").replace("】", "〕")


def _in_one_line(name: str) -> str:
    return " ".join(name.split())


def _joined(parts: Sequence[Part] | Iterator[Part]) -> list[Part]:
    """The same with neighbouring texts put together."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part:
            joined.append(part)
    return joined
