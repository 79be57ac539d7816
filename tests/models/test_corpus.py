"""The conversations that the bundled model is trained on: their answers are right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TRAINING = Path(__file__).parents[2] / "models" / "training"
NUMBERS = [*range(60_000, 60_400), *range(100_000_000, 100_000_200)]  # of both mixes


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The generator."""
    monkeypatch.syspath_prepend(TRAINING)
    import corpus

    return corpus


def conversations(corpus: ModuleType) -> Iterator[Any]:
    """Some that training reads."""
    return (corpus.conversation(1, number) for number in NUMBERS)


def ways(corpus: ModuleType) -> Iterator[Any]:
    """The same, each branch as a conversation of its own."""
    for conversation in conversations(corpus):
        yield from conversation.ways()


def calling(conversation: Any) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Each place where functions are called, and the calls."""
    for place, message in enumerate(conversation.messages):
        if calls := message.get("tool_calls"):
            yield place, [call["function"] for call in calls]


def rounds(conversation: Any) -> Iterator[tuple[list[dict[str, Any]], list[str], str]]:
    """The calls of each request, their results, and what followed."""
    messages = conversation.messages
    for place, calls in calling(conversation):
        results = [m["content"] for m in messages[place + 1 : place + 1 + len(calls)]]
        answer = messages[place + 1 + len(calls)].get("content") or ""
        yield calls, results, answer


def test_calls_fit_the_listed_functions(corpus: ModuleType) -> None:
    """Every call names a listed function and gives it all that it needs and nothing else."""
    for conversation in ways(corpus):
        tools = {
            t["function"]["name"]: t["function"]["parameters"] for t in conversation.tools or ()
        }
        for _, calls in calling(conversation):
            for call in calls:
                schema = tools[call["name"]]
                assert (
                    set(schema["required"]) <= set(call["arguments"]) <= set(schema["properties"])
                )


def test_texts_in_calls_are_copied_from_what_the_user_wrote(corpus: ModuleType) -> None:
    """What is passed as text was written by the user, but for queries, programs and defaults.

    Now or, where the same is asked for once more with another value, before.
    """
    for conversation in ways(corpus):
        tools = {
            t["function"]["name"]: t["function"]["parameters"] for t in conversation.tools or ()
        }
        for place, calls in calling(conversation):
            before = conversation.messages[:place]
            said = "\n".join(m["content"] for m in before if m["role"] == "user")
            for call in (c for c in calls if c["name"] not in ("file_search", "code_interpreter")):
                properties = tools[call["name"]]["properties"]
                for name, value in call["arguments"].items():
                    default = properties[name].get("enum", [None])[0]
                    if isinstance(value, str) and value != default:
                        assert value.lower() in said.lower()


def test_answers_from_files_are_in_the_passage_that_they_cite(corpus: ModuleType) -> None:
    """An answer is a sentence or a cell of the passage whose number follows on it."""
    found = []
    for conversation in conversations(corpus):
        for calls, results, answer in rounds(conversation):
            if calls[0]["name"] == "file_search":
                found += cited(results[0], answer)
    assert len(found) > 50
    assert found.count(False) < len(found) / 20  # instructions may put words around a sentence


def cited(text: str, answer: str) -> list[bool]:
    """Whether each sentence of the answer is in the passage of the text that it names."""
    parts = re.findall(r"^\[(\d+)\] (.+?)(?=\n\n\[|\Z)", text, re.MULTILINE | re.DOTALL)
    passages = {number: " ".join(passage.casefold().split()) for number, passage in parts}
    return [
        all(part in passages[number] for part in sentence.casefold().split(": "))
        for sentence, number in re.findall(r"(\S.*?) \[(\d+)\](?= |$)", answer)
    ]


def test_answers_from_passages_that_the_user_shows_are_in_them(corpus: ModuleType) -> None:
    """Each names its passage, or says that there is none."""
    from corpus.build import reading
    from corpus.dice import Dice
    from corpus.retrieval import NOT_FOUND

    found, unfound = [], 0
    for number in range(60):
        messages = reading(Dice(f"test/{number}")).messages
        said = "\n".join(m["content"] for m in messages if m["role"] == "user")
        shown = re.sub(r"\n+(?=\[\d+\] )", "\n\n", said)
        for answer in (m["content"] for m in messages if m["role"] == "assistant"):
            good = cited(shown, answer)
            assert bool(good) == (answer != NOT_FOUND)
            unfound += answer == NOT_FOUND
            found += good
    assert all(found)
    assert len(found) > unfound > 5


def test_passages_of_a_conversation_are_numbered_on(corpus: ModuleType) -> None:
    """No number stands for two passages; not all conversations begin with the first."""
    firsts = []
    for conversation in conversations(corpus):
        results = [m["content"] for m in conversation.messages if m["role"] == "tool"]
        lines = [re.findall(r"^\[(\d+)\] \S", text, re.MULTILINE) for text in results]
        numbers = [int(number) for found in lines for number in found]
        if numbers:
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            firsts.append(numbers[0])
    assert 0 < len(firsts) - firsts.count(1) < firsts.count(1)


def test_passages_come_in_the_order_of_a_search(corpus: ModuleType) -> None:
    """The first mostly answers, and not always."""
    firsts = []
    for conversation in conversations(corpus):
        for calls, [found, *_], answer in rounds(conversation):
            named = re.findall(r"^\[(\d+)\] \S", found, re.MULTILINE)
            cited = re.findall(r" \[(\d+)\]", answer)
            if calls[0]["name"] == "file_search" and len(named) > 2 and len(set(cited)) == 1:
                firsts.append(cited[0] == named[0])
    assert len(firsts) > 50
    assert 0.65 < firsts.count(True) / len(firsts) < 0.95


def test_no_held_out_function_is_trained_on(corpus: ModuleType) -> None:
    """Training never lists a function that evaluation keeps for itself."""
    from corpus.functions import families

    held_out = {family.names[0] for family in families(held_out=True)}
    listed = {
        tool["function"]["name"]
        for conversation in conversations(corpus)
        for tool in conversation.tools or ()
    }
    assert len(listed) > 300
    assert not listed & held_out


def test_requests_speak_of_what_their_function_takes(corpus: ModuleType) -> None:
    """A request has each key that its function needs, and no other; no name stands for two."""
    from corpus.functions import KEY, families
    from corpus.slots import SLOTS

    names = [name for family in families() for name in family.names]
    assert len(names) == len(set(names)) > 700
    for family in families():
        needed = {key for key in family.keys if "enum" not in SLOTS[key].schema}
        for request in family.requests:
            assert needed <= set(KEY.findall(request)) <= set(family.keys), request


def test_a_query_has_no_word_from_between_two_questions(corpus: ModuleType) -> None:
    """What joins two questions in one message is not searched for."""
    from corpus.dice import Dice
    from corpus.retrieval import BETWEEN, WITHIN, query

    dice = Dice("test")
    for joint in [*WITHIN, *BETWEEN] * 5:
        assert query(f"lamp?{dice.expanded(joint)}river") == "lamp river"


def test_a_near_miss_is_nothing_that_a_listed_function_does(corpus: ModuleType) -> None:
    """It shares the deed or the thing with a listed function, and never both."""
    from corpus.dice import Dice
    from corpus.tool_use import near_miss, toolbox

    found = 0
    for number in range(300):
        dice = Dice(f"test/{number}")
        box = toolbox(dice)
        if near := near_miss(dice, box):
            found += 1
            assert near.family == "" or near.family not in {f.family for f in box.functions}
            if near.meaning:
                meanings = {f.meaning for f in box.functions if f.meaning}
                assert near.meaning not in meanings
                assert any(set(near.meaning) & set(meaning) for meaning in meanings)
    assert found > 50


def test_what_programs_print_is_what_is_told(corpus: ModuleType) -> None:
    """A program of the corpus that is run again prints what the conversation says it printed."""
    from corpus import coding
    from corpus.dice import Dice

    for number in range(300):
        task = coding.task(Dice(f"test/{number}"))
        if not task.makes:
            printed = coding.run(task.code, task.files)
            assert all(part in task.told(printed) for part in printed.split())


def test_documents_survive_their_template(corpus: ModuleType) -> None:
    """What is passed to a function stands in the text as JSON."""
    for conversation in ways(corpus):
        for called in re.findall(
            r"<tool_call>\n(.*?)\n</tool_call>", conversation.text(), re.DOTALL
        ):
            assert json.loads(called).keys() == {"name", "arguments"}


def test_what_is_known_is_held_to_in_the_documents_to_train_on_alone(corpus: ModuleType) -> None:
    """One in seven of those, and for each of two processes that share them."""
    assert not any(corpus.is_held(number) for number in range(60_000, 60_100))
    first = corpus.REFINING
    for rank in range(2):
        share = range(first + rank, first + 14 * 50, 2)
        assert sum(map(corpus.is_held, share)) == 50


def test_branches_go_on_from_the_same_opening(corpus: ModuleType) -> None:
    """Each is a request and what is answered at once; put behind the opening it is a document."""
    from corpus.build import computing, deciding
    from corpus.dice import Dice

    called = 0
    for make in (deciding, computing):
        for number in range(40):
            conversation = make(Dice(f"branches/{number}"))
            opening, *branches = conversation.texts()
            assert opening.endswith("</tools><|im_end|>\n")
            assert len(branches) == 8
            for way, branch in zip(conversation.ways(), branches, strict=True):
                roles = [message["role"] for message in way.messages]
                assert way.texts() == (opening + branch,)
                assert branch.startswith("<|im_start|>user\n")
                assert roles[-2:] == ["user", "assistant"]
                assert roles.count("assistant") == 1
                called += "<tool_call>" in branch
    assert 480 < called < 600  # of 640: some are served by no function
