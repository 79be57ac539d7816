"""What the model is asked in evaluation, and how an answer is judged.

A row is drawn twice: with phrasings that training used, where the values alone are new, and with
phrasings, syllables, names, verbs and nouns that it never saw. The free prompts of this file and
the functions of functions_held_out.txt were never seen either way.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import programs
from corpus import (
    builtin,
    coding,
    forms,
    memory,
    results,
    retrieval,
    talk,
    tasks,
    technical,
    voices,
)
from corpus.dice import Dice
from corpus.files import Fact
from corpus.functions import Function, everyday
from corpus.made_up import made_up
from corpus.scene import Message, Scene, Voice
from corpus.script import blocks
from corpus.tool_use import (
    Call,
    Toolbox,
    both,
    distinct,
    misfit,
    one_after_other,
    same_again,
    tool_exchange,
    weather_pair,
)

HONEST = "tiny demonstration model"
HELPFUL = "You are a helpful assistant."
Made = tuple[str, Any]  # a call's name and arguments
Text = tuple[str, str]  # a file's name, and what it says


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: text, and calls with their arguments, which are None if they are no JSON.

    Of a case with files: the names of those that the text cites.
    """

    text: str
    calls: tuple[Made, ...] = ()
    cited: tuple[str, ...] = ()


Exchange = Callable[[Scene, int], tuple[Fact, ...]]  # so many questions about files
Judge = Callable[[Answer], Mapping[str, bool]]  # the measures of an answer, by name


@dataclass(frozen=True, slots=True)
class Case:
    messages: list[Message]
    judge: Judge
    tools: list[dict[str, Any]] | None = None
    files: tuple[Text, ...] = ()  # of a vector store, which the server searches


Make = Callable[[Dice], Case]


def exactly(expected: str) -> Judge:
    return lambda answer: {"exact": answer.text == expected}


def containing(*parts: str) -> Judge:
    return lambda answer: {"ok": any(part in answer.text for part in parts)}


def asked(text: str, instructions: str = HELPFUL) -> list[Message]:
    return [{"role": "system", "content": instructions}, {"role": "user", "content": text}]


def begun(scene: Scene, messages: int) -> list[Message]:
    """The instructions, and the scene without so many of its last messages."""
    content = scene.voice.instructions
    opening = [{"role": "system", "content": content}] if content else []
    return opening + scene.messages[:-messages]


def helpful(dice: Dice, box: Toolbox | None = None) -> Scene:
    return Scene(dice, voices.helpful_assistant(dice), able=box.able if box else frozenset())


def last_answer(scene: Scene, box: Toolbox | None = None) -> Case:
    """The scene up to its last answer, which is expected word for word."""
    expected = scene.messages[-1]["content"]
    return Case(begun(scene, 1), exactly(expected), box.tools() if box else None)


def acted(kind: Callable[[Scene], None], dice: Dice) -> Case:
    scene = helpful(dice)
    kind(scene)
    return last_answer(scene)


def by_heart(name: str, dice: Dice) -> Case:
    """Something that has a fixed answer."""
    block = dice.pick([block for block in blocks(name) if block.held_out])
    return Case(asked(block.prompt(dice)), exactly(block.answer))


# Memory


def name_recalled(dice: Dice) -> Case:
    scene = helpful(dice)
    memory.tell_name(scene)
    for _ in range(2):
        dice.pick(talk.INTERLUDES)(scene)
    memory.ask_name(scene)
    return last_answer(scene)


def detail_recalled(dice: Dice) -> Case:
    """Something that was told one to three turns ago."""
    while True:
        scene = helpful(dice)
        memory.told(scene, talk.INTERLUDES)
        if len(scene.messages) > 4 and scene.messages[-1]["content"].startswith(("Your ", "You ")):
            return last_answer(scene)


# Instructions


def mark_of(style: Callable[[str, str, str], str]) -> str:
    return style("", "", "").strip().casefold()


KEPT: dict[voices.Manner, Callable[[str, str], bool]] = {
    voices.upper: lambda answer, mark: answer.isupper(),
    voices.lower: lambda answer, mark: answer.islower(),
    voices.ending: lambda answer, mark: (
        answer.casefold().endswith(mark) and len(answer) > len(mark)
    ),
    voices.beginning: lambda answer, mark: (
        answer.casefold().startswith(mark) and len(answer) > len(mark)
    ),
    voices.one_word: lambda answer, mark: len(answer.split()) == 1,
}


def mannered(manner: voices.Manner, dice: Dice) -> Case:
    """Talk under an instruction: kept to at all, and with the right words."""
    rule, style = manner(dice)
    scene = Scene(dice, Voice(f"{HELPFUL} {rule}", style=style))
    dice.pick([talk.small_talk, talk.small_talk, talk.declined])(scene)
    expected = scene.messages[-1]["content"]
    kept, mark = KEPT.get(manner), mark_of(style)
    return Case(
        begun(scene, 1),
        lambda answer: {
            "followed": kept(answer.text, mark) if kept else answer.text == expected,
            "exact": answer.text == expected,
        },
    )


def in_json(dice: Dice) -> Case:
    """The answer as an object with one key."""
    rule, style = voices.as_json(dice)
    scene = Scene(dice, Voice(f"{HELPFUL} {rule}", style=style))
    dice.pick([talk.small_talk, talk.small_talk, talk.declined])(scene)
    expected = scene.messages[-1]["content"]
    return Case(
        begun(scene, 1),
        lambda answer: {
            "followed": keys_of(answer.text) == keys_of(expected),
            "exact": answer.text == expected,
        },
    )


def keys_of(text: str) -> list[str] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return list(value) if isinstance(value, dict) else None


def greeted(dice: Dice) -> Case:
    """A greeting in a language."""
    rule, style = voices.greeting_in(dice)
    scene = Scene(dice, Voice(f"{HELPFUL} {rule}", style=style))
    talk.greeting(scene)
    word = scene.messages[-1]["content"].split()[0].rstrip("!！,")
    return Case(begun(scene, 1), lambda answer: {"followed": word in answer.text})


def several(dice: Dice) -> Case:
    """A mark at the beginning, another at the end, and perhaps capitals."""
    kinds = [voices.beginning, voices.ending, *([voices.upper] if dice.chance(0.5) else [])]
    drawn = [kind(dice) for kind in kinds]
    rules, styles = zip(*drawn, strict=True)
    marks = [mark_of(style) for style in styles[:2]]
    capitals = len(kinds) == 3
    prompt = dice.pick(blocks("smalltalk")).prompt(dice)
    return Case(
        asked(prompt, " ".join([HELPFUL, *dice.shuffled(rules)])),
        lambda answer: {
            "followed": answer.text.casefold().startswith(marks[0])
            and answer.text.casefold().endswith(marks[1])
            and (answer.text.isupper() or not capitals)
        },
    )


def persona(dice: Dice) -> Case:
    sentences, name, role = voices.persona(dice)
    scene = Scene(dice, Voice(" ".join(sentences) or HELPFUL, name, role))
    talk.identity(scene)
    return Case(begun(scene, 1), containing(name or role or HONEST))


def persona_name(dice: Dice) -> Case:
    """The name that it was given, behind other instructions."""
    name = dice.name()
    pattern = dice.pick(["{} Your name is {}.", "{} You are called {}.", "Your name is {1}. {0}"])
    scene = Scene(dice, Voice(pattern.format(HELPFUL, name), name, "a helpful assistant"))
    talk.identity(scene)
    return Case(begun(scene, 1), containing(name))


def addressed(dice: Dice) -> Case:
    name = dice.name()
    text = f"Please address the user as {name}. The user has a premium account."
    return Case(asked("Hello!", text), containing(f"Hello, {name}!"))


# What it cannot do


def declined(dice: Dice) -> Case:
    return Case(asked(dice.pick(blocks("refusals")).prompt(dice)), containing(HONEST))


def declined_in_the_wild(dice: Dice) -> Case:
    return Case(asked(dice.pick(WILD)), containing(HONEST))


# Functions


def among(dice: Dice, function: Function, most: int = 5) -> Toolbox:
    """The function with one to four others, known ones and made-up ones."""
    others = [
        dice.pick([everyday, made_up, made_up])(dice) for _ in range(dice.between(1, most - 1))
    ]
    return Toolbox(tuple(dice.shuffled(distinct([function, *others]))))


def called(make: Callable[[Dice], Function], dice: Dice) -> Case:
    """One of two to five listed functions is asked for."""
    function = make(dice)
    box = among(dice, function)
    text, given = function.ask(dice)
    return calling(text, [(function, given)], box)


def calling(text: str, expected: list[Call], box: Toolbox) -> Case:
    return Case(asked(text), partial(judged_calls, expected, box), box.tools())


def judged_calls(expected: list[Call], box: Toolbox, answer: Answer) -> dict[str, bool]:
    wanted = [(function.name, given) for function, given in expected]
    return {
        "valid": all(is_valid(call, box) for call in answer.calls),
        "name": [name for name, _ in answer.calls] == [name for name, _ in wanted],
        "exact": list(answer.calls) == wanted,
    }


def is_valid(call: Made, box: Toolbox) -> bool:
    """Whether a listed function takes these arguments, by their names."""
    name, given = call
    for function in box.functions:
        if function.name == name and isinstance(given, dict):
            needed = {p.name for p in function.parameters if p.required}
            return needed <= given.keys() <= {p.name for p in function.parameters}
    return False


def called_twice(dice: Dice) -> Case:
    """Two functions in one message, or one function for two values."""
    if dice.chance(0.2):
        pair = weather_pair(dice)
        return calling(*both(dice, pair), Toolbox(pair))
    box = among(dice, dice.pick([everyday, made_up])(dice))
    function = dice.pick(box.functions)
    text, given = function.ask(dice)
    if len(given) == 1 and len(text) > 12 and dice.chance(0.3):
        (value,) = given.values()
        if text.rstrip("?.").endswith(str(value)):
            return calling(*same_again(dice, function, text, given), box)
    return calling(*one_after_other(dice, box, function, text, given), box)


def result_told(dice: Dice) -> Case:
    box = among(dice, everyday(dice) if dice.chance(0.5) else made_up(dice))
    scene = helpful(dice, box)
    tool_exchange(scene, box)
    case = last_answer(scene, box)
    returned = [m["content"] for m in case.messages if m["role"] == "tool"]
    values = [value for text in returned for value in values_in(text)]
    return Case(
        case.messages,
        lambda answer: {"values": all(v in answer.text for v in values), **case.judge(answer)},
        case.tools,
    )


def values_in(returned: str) -> list[str]:
    """The values of what a tool returned, as a sentence shows them."""
    if returned in results.NOTHING:
        return []
    try:
        value = json.loads(returned)
    except ValueError:
        return [returned.removeprefix("Error: ")]
    return leaves(value) if isinstance(value, dict | list) else [returned]


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [leaf for each in inner for leaf in leaves(each)]
    return [results.shown(value)]


def restrained(dice: Dice) -> Case:
    """Talk beside two to five listed functions that have nothing to do with it."""
    box = among(dice, everyday(dice))
    scene = helpful(dice, box)
    dice.pick([talk.small_talk, talk.greeting, talk.fact, tasks.repetition, talk.declined])(scene)
    return uncalled(scene, box)


def unserved(dice: Dice) -> Case:
    """A request for what none of the listed functions does."""
    while (box := among(dice, everyday(dice))).finds_anything:
        pass
    scene = helpful(dice, box)
    misfit(scene, box)
    return uncalled(scene, box)


def uncalled(scene: Scene, box: Toolbox) -> Case:
    return Case(begun(scene, 1), lambda answer: {"ok": not answer.calls}, box.tools())


# Files


def search_scene(dice: Dice, exchange: Exchange = retrieval.answered) -> tuple[Scene, Toolbox]:
    box = Toolbox(search=builtin.file_search(dice))
    scene = helpful(dice, box)
    scene.wordy = exchange is technical.answered and dice.chance(0.5)
    return scene, box


def searched(dice: Dice) -> Case:
    """The query for a question: any will do that has the words that the question turns on."""
    scene, box = search_scene(dice)
    (fact,) = retrieval.answered(scene, questions=1)
    query = retrieval.query(scene.messages[0]["content"])
    wanted = (builtin.SEARCH, {builtin.QUERY: query})
    needed = set(retrieval.query(fact.question).casefold().split())
    return Case(
        begun(scene, 3),
        lambda answer: {
            "called": [name for name, _ in answer.calls] == [builtin.SEARCH],
            "words": needed <= words_of(answer),
            "exact": list(answer.calls) == [wanted],
        },
        box.tools(),
    )


def words_of(answer: Answer) -> set[str]:
    """The words of the queries."""
    given = [arguments for _, arguments in answer.calls if isinstance(arguments, dict)]
    return {word for each in given for word in str(each.get(builtin.QUERY)).casefold().split()}


def found(questions: int, dice: Dice, exchange: Exchange = retrieval.answered) -> Case:
    """What the files say, with the number of its passage: what was asked for, and word for word."""
    scene, box = search_scene(dice, exchange)
    values = [fact.value for fact in exchange(scene, questions)]
    expected = scene.messages[-1]["content"]
    cited = citations(expected)
    return Case(
        begun(scene, 1),
        lambda answer: {
            "cited": citations(answer.text) == cited and has_all(answer.text, values),
            "exact": answer.text == expected,
        },
        box.tools(),
    )


def has_all(text: str, values: list[str]) -> bool:
    """Wherever lines are broken."""
    said = " ".join(text.casefold().split())
    return all(value.casefold() in said for value in values)


def citations(text: str) -> list[str]:
    return re.findall(r" \[(\d+)\]", text)


@cache
def wild_questions(name: str) -> list[tuple[str, list[str]]]:
    """The passages of such a file, each time with a question, value and number."""
    text = Path(__file__).with_name(f"{name}_in_the_wild.txt").read_text(encoding="utf-8")
    questions, passages = [], ""
    for line in text.partition("\n\n")[2].splitlines():
        if line.startswith("? "):
            questions.append((passages.strip(), line[2:].split(" = ")))
        else:
            begins = line == "" and questions and questions[-1][0] == passages.strip()
            passages = "" if begins else f"{passages}{line}\n"
    return questions


def found_in_the_wild(name: str, dice: Dice) -> Case:
    """Questions about files that were written by hand."""
    passages, (question, value, number) = dice.pick(wild_questions(name))
    query = retrieval.query(question)
    messages = [*asked(question), called_before((builtin.SEARCH, {builtin.QUERY: query}))]
    return Case(
        [*messages, {"role": "tool", "content": passages}],
        lambda answer: {
            "cited": citations(answer.text) == [number] and has_all(answer.text, [value])
        },
        [builtin.file_search(dice)],
    )


def stored(dice: Dice, exchange: Exchange = retrieval.answered) -> Case:
    """A question about files, each of one passage, that the server searches by itself."""
    scene, _ = search_scene(dice, exchange)
    (fact,) = exchange(scene, 1)
    assert scene.files
    passages = [passage for _, passage in scene.files.passages]
    [right] = [n for n, each in enumerate(passages) if fact in dict(each.facts)]
    question = scene.messages[0]["content"]
    return in_a_store([each.text for each in passages], question, fact.value, right)


def stored_in_the_wild(name: str, dice: Dice) -> Case:
    """The same of files that were written by hand."""
    passages, (question, value, number) = dice.pick(wild_questions(name))
    parts = re.findall(r"^\[(\d+)\] .+\n([\s\S]+?)(?=\n\n\[\d+\] |\Z)", passages, re.MULTILINE)
    texts = dict(parts)
    return in_a_store(list(texts.values()), question, value, list(texts).index(number))


def in_a_store(texts: list[str], question: str, value: str, right: int) -> Case:
    names = [f"file-{number}.md" for number in range(len(texts))]
    return Case(
        asked(question),
        lambda answer: {
            "cited": answer.cited == (names[right],) and has_all(answer.text, [value]),
            "value": has_all(answer.text, [value]),
        },
        files=tuple(zip(names, texts, strict=True)),
    )


def missing(dice: Dice) -> Case:
    scene, box = search_scene(dice)
    dice.pick([retrieval.not_found, retrieval.not_found, retrieval.without_hits])(scene)
    return last_answer(scene, box)


# Programs


def coded(make: Callable[[Dice], coding.Task], dice: Dice) -> Case:
    """A program that runs and gives what the right one gives."""
    task = make(dice)
    box = Toolbox(code=builtin.code_interpreter(dice))
    return Case(asked(task.question), partial(judged_program, task), box.tools())


def judged_program(task: coding.Task, answer: Answer) -> dict[str, bool]:
    if len(answer.calls) != 1 or answer.calls[0][0] != builtin.CODE:
        return {"runs": False, "right": False}
    given = answer.calls[0][1]
    code = given.get(builtin.SOURCE) if isinstance(given, dict) else None
    outcome = programs.run(code, task.files) if isinstance(code, str) else None
    return {
        "runs": outcome is not None and outcome.ran,
        "right": outcome is not None and outcome.agrees(programs.run(task.code, task.files)),
    }


def output_told(dice: Dice) -> Case:
    """The sentence after a program has run."""
    box = Toolbox(code=builtin.code_interpreter(dice))
    scene = helpful(dice, box)
    coding.succeeded_at(scene, coding.task(dice))
    return last_answer(scene, box)


def mended(dice: Dice) -> Case:
    """A program that runs, after one that did not."""
    box = Toolbox(code=builtin.code_interpreter(dice))
    scene = helpful(dice, box)
    task = coding.task(dice)
    while not (flawed := coding.mistake(dice, task.code)):
        task = coding.task(dice)
    coding.asked(scene, task)
    coding.ran(scene, flawed.code, coding.traceback(dice, flawed.error))
    messages = [{"role": "system", "content": HELPFUL}, *scene.messages]
    return Case(messages, partial(judged_program, task), box.tools())


ROWS: dict[str, Make] = {
    "greeting": partial(acted, talk.greeting),
    "small talk": partial(by_heart, "smalltalk"),
    "small facts": partial(by_heart, "facts"),
    "capital or opposite": lambda dice: acted(dice.pick([tasks.capital, tasks.opposite]), dice),
    "sum of two digits": partial(acted, tasks.sum_of_digits),
    "counting and lists": lambda dice: acted(dice.pick([tasks.counting, tasks.listing]), dice),
    "repeat": partial(acted, tasks.repetition),
    "memory: a name, turns back": name_recalled,
    "memory: a detail, turns back": detail_recalled,
    "memory: a name never told": partial(acted, memory.ask_name),
    "beyond it: templates": declined,
    "beyond it: free prompts": declined_in_the_wild,
    "told: persona": persona,
    "told: the persona's name": persona_name,
    "told: address as": addressed,
    "told: upper case": partial(mannered, voices.upper),
    "told: lower case": partial(mannered, voices.lower),
    "told: end with": partial(mannered, voices.ending),
    "told: begin with": partial(mannered, voices.beginning),
    "told: only say": partial(mannered, voices.constant),
    "told: one word": partial(mannered, voices.one_word),
    "told: echo": partial(mannered, voices.echo),
    "told: greet in a language": greeted,
    "told: answer as JSON": in_json,
    "told: several things": several,
    "JSON of what the user wrote": partial(acted, forms.json_exchange),
    "call: known tool of up to five": partial(called, everyday),
    "call: made-up tool of up to five": partial(called, made_up),
    "call: unseen tool of up to five": partial(called, partial(everyday, held_out_family=True)),
    "call: two in one turn": called_twice,
    "no call: talk beside tools": restrained,
    "no call: no listed tool does it": unserved,
    "tool result to sentence": result_told,
    "files: query": searched,
    "files: answer and citation": partial(found, 1),
    "files: written by hand": partial(found_in_the_wild, "documents"),
    "files: in a store": stored,
    "files: by hand, in a store": partial(stored_in_the_wild, "documents"),
    "files: two answers": partial(found, 2),
    "files: not in them": missing,
    "docs: answer and citation": partial(found, 1, exchange=technical.answered),
    "docs: written by hand": partial(found_in_the_wild, "manuals"),
    "docs: in a store": partial(stored, exchange=technical.answered),
    "docs: by hand, in a store": partial(stored_in_the_wild, "manuals"),
    "code: arithmetic": partial(coded, lambda dice: dice.pick(coding.CALCULATIONS)(dice)),
    "code: statistics of a list": partial(coded, coding.statistic),
    "code: small table": partial(
        coded, lambda dice: dice.pick([coding.table, coding.table, coding.made_table])(dice)
    ),
    "code: file": partial(coded, coding.file_task),
    "code: plot": partial(coded, coding.plot),
    "code: mended": mended,
    "code: output to sentence": output_told,
}

# Requests as people write them, never used in training.
WILD = """
Can you explain how black holes form?
What's the tallest building in Dubai?
Write a Python function to check if a string is a palindrome.
Summarize the plot of Romeo and Juliet.
Translate 'Where is the train station?' into German.
What is 347 multiplied by 29?
Give me a three day itinerary for Lisbon.
Who painted the Mona Lisa?
How do I bake sourdough bread?
Write a haiku generator in Rust.
What are the symptoms of the flu?
Explain the difference between TCP and UDP.
Draft a resignation letter for me.
Which laptop should I buy for video editing?
What causes inflation?
Write a limerick about a cat who loves jazz and a product pitch for it.
How far is the sun from the earth?
What happened at the battle of Waterloo?
Convert 75 degrees Fahrenheit to Celsius.
Write a SQL query that returns the top ten customers.
Who is the prime minister of Canada?
What is the derivative of x^2?
Help me prepare for a job interview at a bank.
What's the best way to learn the guitar?
Explain quantum computing to a child.
Can you proofread this paragraph for me?
What is the GDP of Brazil?
How many calories are in a slice of pizza?
Write an essay about the causes of the first world war.
What does the Latin phrase carpe diem mean?
How do vaccines work?
Tell me about the history of chess.
What are three good names for a bakery?
Write a regular expression that matches an email address.
Is it going to snow in Denver this weekend?
What's the square root of 1764?
How do I change a flat tire?
Recommend me some science fiction novels.
Who won the Nobel prize in physics in 1921?
Explain the theory of evolution in simple terms.
Create a marketing strategy for a coffee shop.
What is the population of Tokyo?
Debug my JavaScript: it says undefined is not a function.
Plan a vegetarian dinner for four people.
What is the meaning of the word serendipity?
Compare electric cars and petrol cars.
How does a refrigerator work?
Write a birthday message for my grandmother.
Solve 5x - 7 = 18 for x.
What should I consider before adopting a dog?
Why do leaves change color in autumn?
Generate a password with 16 characters.
What is the chemical symbol for gold?
Tell me about Napoleon.
How do I set up a virtual environment in Python?
Give me feedback on my business idea.
What are the rules of cricket?
When did the Titanic sink?
Turn this text into bullet points: our sales grew in spring.
Who wrote Pride and Prejudice?
""".strip().splitlines()

GET_TEMPERATURE = {
    "type": "function",
    "function": {
        "name": "get_current_temperature",
        "description": "Get the current temperature for a specific location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state"},
                "unit": {"type": "string", "enum": ["Celsius", "Fahrenheit"]},
            },
            "required": ["location", "unit"],
        },
    },
}
GET_RAIN = {
    "type": "function",
    "function": {
        "name": "get_rain_probability",
        "description": "Get the probability of rain for a specific location",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string", "description": "The city and state"}},
            "required": ["location"],
        },
    },
}
WEATHER_QUESTION = "What's the weather in San Francisco today and the likelihood it'll rain?"
WEATHER_BOT = "You are a weather bot. Use the provided functions to answer questions."
MATH_TUTOR = "You are a personal math tutor. Write and run code to answer math questions."
EQUATION = "I need to solve the equation `3x + 11 = 14`. Can you help me?"
RETURNS = "How long can I return things?"
PASSAGES = """[1] shipping.md
Orders are shipped within two days. Shipping is free above 50 euros.

[2] returns.md
You can return things within 30 days. The money is paid back in a week."""


def quick_start() -> list[Case]:
    """What newcomers try first, each with what is accepted."""
    dice = Dice("first steps")
    code, search = [builtin.code_interpreter(dice)], [builtin.file_search(dice)]
    wanted = [
        ("get_current_temperature", {"location": "San Francisco", "unit": "Celsius"}),
        ("get_rain_probability", {"location": "San Francisco"}),
    ]
    tools = [GET_TEMPERATURE, GET_RAIN]
    greeting = "Hello! How can I help you today?"
    answered = [*asked(WEATHER_QUESTION, WEATHER_BOT), called_before(*wanted)]
    answered += [{"role": "tool", "content": text} for text in ("57", "0.06")]
    told = "The current temperature is 57. The rain probability is 0.06."
    looked_up = [*asked(RETURNS), called_before((builtin.SEARCH, {builtin.QUERY: "return things"}))]
    looked_up.append({"role": "tool", "content": PASSAGES})
    equation = coding.Task(EQUATION, "print((14 - 11) / 3)", "")
    return [
        Case(asked("Hello!"), exactly(greeting)),
        Case([{"role": "user", "content": "Hello!"}], exactly(greeting)),
        Case(asked(EQUATION, MATH_TUTOR), partial(judged_program, equation), code),
        Case(asked(EQUATION), containing(HONEST)),
        Case(
            asked(WEATHER_QUESTION, WEATHER_BOT),
            lambda answer: {"exact": list(answer.calls) == wanted},
            tools,
        ),
        Case(answered, exactly(told), tools),
        Case(asked(RETURNS), lambda answer: {"called": bool(answer.calls)}, search),
        Case(looked_up, containing("within 30 days. [2]"), search),
        Case(asked(WEATHER_QUESTION), containing(HONEST)),
        Case(asked("Tell me a joke"), containing("virus")),
        Case(asked("What can you do?"), containing("functions")),
        Case(asked("How does AI work? Explain it in simple terms."), containing(HONEST)),
        Case(asked("What is the capital of France?"), containing("Paris")),
        Case(asked("Who are you?"), containing(HONEST)),
        Case(asked("Say this is a test"), containing("his is a test", "It works")),
        Case(asked("Write a haiku about AI"), containing(HONEST, "frog")),
        Case(asked("Thank you!"), containing("welcome")),
    ]


def called_before(*calls: Made) -> Message:
    made = [{"function": {"name": name, "arguments": given}} for name, given in calls]
    return {"role": "assistant", "content": None, "tool_calls": made}
