"""From an endpoint's chunks to a turn's deltas, however the endpoint numbers its calls."""

from __future__ import annotations

from typing import Any

import pytest

from server.chat.values import CallArguments, CallStarted, TextDelta
from server.engine.chunks import Chunk
from server.runs.answer import AnswerReader
from tests.endpoint import Json, call, chunk, content, finished

ROME, OSLO = '{"city": "Rome"}', '{"city": "Oslo"}'


def read(*chunks: Json) -> tuple[str, list[tuple[str, str]]]:
    """The text and the calls of an answer, put together from its deltas."""
    reader = AnswerReader()
    deltas = [d for each in chunks for d in reader.read(Chunk.model_validate(each))]
    text, calls = "", dict[int, list[str]]()
    for delta in [*deltas, *reader.finish()]:
        match delta:
            case TextDelta(more):
                text += more
            case CallStarted(index, name):
                assert index == len(calls)
                calls[index] = [name, ""]
            case CallArguments(index, more):
                calls[index][1] += more
    return text, [(name, arguments) for name, arguments in calls.values()]


def test_text_comes_as_it_is_written() -> None:
    """A delta for each piece."""
    reader = AnswerReader()
    assert reader.read(Chunk.model_validate(content("Hel"))) == [TextDelta("Hel")]
    assert reader.read(Chunk.model_validate(content("lo"))) == [TextDelta("lo")]
    assert reader.finish() == []


def test_reasoning_is_kept_out() -> None:
    """Whether the endpoint tells it apart or leaves it in the text."""
    apart = chunk({"reasoning_content": "Let me think."})
    assert read(apart, content("Four.")) == ("Four.", [])
    assert read(content("<thi"), content("nk>2+2</think>\n\nFour.")) == ("Four.", [])


def test_a_refusal_is_what_was_said() -> None:
    """The answer is not empty."""
    assert read(chunk({"refusal": "I cannot do that."})) == ("I cannot do that.", [])


WHOLE: list[list[Json]] = [
    [
        call(0, id="a", name="get_weather", arguments=""),
        call(0, arguments='{"city":'),
        call(0, arguments=' "Rome"}'),
        call(1, id="b", name="get_weather", arguments=""),
        call(1, arguments=OSLO),
    ],
    [
        call(1, id="a", name="get_weather", arguments=ROME),
        call(2, id="b", name="get_weather", arguments=OSLO),
    ],
    [
        call(0, id="a", name="get_weather", arguments=ROME),
        call(0, id="b", name="get_weather", arguments=OSLO),
    ],
    [
        call(None, id="a", name="get_weather", arguments=ROME[:5]),
        call(None, arguments=ROME[5:]),
        call(None, id="b", name="get_weather", arguments=OSLO),
    ],
    [
        call(0, id="a", name="get_weather", arguments=ROME[:5]),
        call(1, id="b", name="get_weather", arguments=OSLO),
        call(0, arguments=ROME[5:]),
    ],
    [
        call(0, id="a", name="get_weather", arguments=ROME[:5]),
        call(0, id="a", name="get_weather", arguments=ROME[5:]),
        call(1, id="b", name="get_weather", arguments=OSLO),
    ],
    [
        call(0, id="a"),
        call(0, arguments=ROME),
        call(0, name="get_weather"),
        call(1, id="b", name="get_weather", arguments=OSLO),
    ],
    [
        call(None, name="get_weather", arguments=ROME),
        call(None, name="get_weather", arguments=OSLO),
    ],
    [
        call(0, id="", name="get_weather", arguments=ROME),
        call(0, id="", name="get_weather", arguments=OSLO),
    ],
    [
        call(None, name="get_weather", arguments=ROME[:5]),
        call(None, arguments=ROME[5:]),
        call(None, name="get_weather", arguments=""),
        call(None, arguments=OSLO),
    ],
    [
        call(0, name="get_weather", arguments=ROME[:5]),
        call(0, name="get_weather", arguments=ROME[5:]),
        call(0, name="get_weather", arguments=OSLO),
    ],
]
WAYS = ["hosted", "from one", "all alike", "no numbers", "by turns", "repeated", "name last"]
WITHOUT_IDS = ["nothing but names", "empty ids", "named first", "named again"]


@pytest.mark.parametrize("chunks", WHOLE, ids=[*WAYS, *WITHOUT_IDS])
def test_calls_are_put_together(chunks: list[Json]) -> None:
    """Two calls, numbered from 0 as they are announced, whatever the endpoint's own numbers."""
    expected = [("get_weather", ROME), ("get_weather", OSLO)]
    assert read(content("Let me see.\n\n"), *chunks) == ("Let me see.", expected)


def test_calls_without_ids_in_one_chunk() -> None:
    """Each is one of its own; arguments that are no object are not taken for whole ones."""
    both = [{"function": {"name": name, "arguments": ROME}} for name in ("here", "there")]
    assert read(chunk({"tool_calls": both})) == ("", [("here", ROME), ("there", ROME)])
    parts = [call(0, name="count", arguments=part) for part in ("1", "2")]
    assert read(*parts) == ("", [("count", "12")])
    bare = [call(None, name=name, arguments="") for name in ("here", "there")]
    assert read(*bare) == ("", [("here", "{}"), ("there", "{}")])


@pytest.mark.parametrize("arguments", ["", None], ids=["empty", "missing"])
def test_no_arguments_are_an_empty_object(arguments: str | None) -> None:
    """What is submitted to clients is always JSON, as far as we can help it."""
    more: dict[str, Any] = {} if arguments is None else {"arguments": arguments}
    assert read(call(0, id="a", name="get_time", **more)) == ("", [("get_time", "{}")])


def test_arguments_that_are_an_object_become_text() -> None:
    """Some endpoints forget to write them down."""
    delta = {"index": 0, "function": {"name": "get_time", "arguments": {"zone": "UTC"}}}
    assert read(chunk({"tool_calls": [delta]})) == ("", [("get_time", '{"zone": "UTC"}')])


def test_the_last_word_on_the_end_counts() -> None:
    """The reason and the fingerprint come in any chunk; usage in one of its own or in each."""
    reader = AnswerReader()
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    for each in (
        {**content("Hi"), "system_fingerprint": "fp", "usage": usage},
        {**finished("length"), "usage": {**usage, "completion_tokens": 2}},
        {"choices": []},
    ):
        reader.read(Chunk.model_validate(each))
    assert (reader.finish_reason, reader.fingerprint) == ("length", "fp")
    assert reader.usage is not None
    assert reader.usage.completion_tokens == 2
