"""What the model is asked in evaluation, and how an answer is judged.

A row is drawn twice: with phrasings that training used, where the values alone are new, and with
phrasings, syllables and names that it never saw. The free prompts of this file and the held-out
tools were never seen either way.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from corpus import memory, talk, tasks, tool_use, voices
from corpus.dice import Dice
from corpus.functions import Function, from_family, generic
from corpus.scene import Message, Scene, Voice
from corpus.script import Block, blocks
from corpus.tool_use import Call, Toolbox

Judge = Callable[[str], dict[str, bool]]  # the measures of an answer, by name
HONEST = "tiny demonstration model"
HELPFUL = "You are a helpful assistant."
TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Case:
    messages: list[Message]
    judge: Judge
    tools: list[dict[str, Any]] | None = None


def exactly(expected: str) -> Judge:
    return lambda answer: {"exact": answer == expected}


def containing(*parts: str) -> Judge:
    return lambda answer: {"ok": any(part in answer for part in parts)}


# Whether an answer keeps to a manner; `mark` is what it has to begin or end with.
KEPT: dict[Callable[[Dice], Any], Callable[[str, str], bool]] = {
    voices.upper: lambda answer, mark: answer.isupper(),
    voices.lower: lambda answer, mark: answer.islower(),
    voices.ending: lambda answer, mark: answer.endswith(mark) and answer != mark,
    voices.beginning: lambda answer, mark: answer.startswith(mark) and answer != mark,
    voices.one_word: lambda answer, mark: len(answer.split()) == 1,
}


def asked(text: str, instructions: str = HELPFUL) -> list[Message]:
    return [{"role": "system", "content": instructions}, {"role": "user", "content": text}]


def opening(voice: Voice) -> list[Message]:
    content = voice.instructions
    return [{"role": "system", "content": content}] if content else []


def last_answer(scene: Scene, box: Toolbox | None = None) -> Case:
    """The scene up to its last answer, which is expected word for word."""
    messages = opening(scene.voice) + scene.messages[:-1]
    tools = box.tools() if box else None
    return Case(messages, exactly(scene.messages[-1]["content"]), tools)


def by_heart(name: str, dice: Dice) -> Case:
    """Something that has a fixed answer."""
    known = [block for block in blocks(name) if block.held_out]
    block = dice.pick(known)
    return Case(asked(block.prompt(dice)), exactly(block.answer))


def acted(kind: Callable[[Scene], None], dice: Dice) -> Case:
    scene = Scene(dice, voices.helpful_assistant(dice))
    kind(scene)
    return last_answer(scene)


def name_recalled(dice: Dice) -> Case:
    scene = Scene(dice, voices.helpful_assistant(dice))
    memory.tell_name(scene)
    for _ in range(2):
        dice.pick(talk.INTERLUDES)(scene)
    memory.ask_name(scene)
    return last_answer(scene)


def name_unknown(dice: Dice) -> Case:
    scene = Scene(dice, voices.helpful_assistant(dice))
    memory.ask_name(scene)
    return last_answer(scene)


def mannered(manner: Callable[[Dice], Any], dice: Dice) -> Case:
    """Small talk under an instruction on how to speak: kept to at all, and with the right words."""
    rule, style = manner(dice)
    scene = Scene(dice, Voice(f"{HELPFUL} {rule}", style=style))
    dice.pick([talk.small_talk, talk.small_talk, talk.declined])(scene)
    expected = scene.messages[-1]["content"]
    kept, mark = KEPT.get(manner), style("", "", "").strip()
    return Case(
        opening(scene.voice) + scene.messages[:-1],
        lambda answer: {
            "followed": kept(answer, mark) if kept else answer == expected,
            "exact": answer == expected,
        },
    )


def persona(dice: Dice) -> Case:
    sentences, name, role = voices.persona(dice)
    scene = Scene(dice, Voice(" ".join(sentences) or HELPFUL, name, role))
    talk.identity(scene)
    messages = opening(scene.voice) + scene.messages[:-1]
    return Case(messages, containing(name or role or HONEST))


def addressed(dice: Dice) -> Case:
    name = dice.name()
    text = f"Please address the user as {name}. The user has a premium account."
    return Case(asked("Hello!", text), containing(f"Hello, {name}!"))


def declined(dice: Dice) -> Case:
    block: Block = dice.pick(blocks("refusals"))
    return Case(asked(block.prompt(dice)), containing(HONEST))


def declined_in_the_wild(dice: Dice) -> Case:
    return Case(asked(dice.pick(WILD)), containing(HONEST))


def calls_of(answer: str) -> list[Any]:
    try:
        return [json.loads(text) for text in TOOL_CALL.findall(answer)]
    except ValueError:
        return []


def judged_call(expected: list[Call], answer: str) -> dict[str, bool]:
    calls = [call for call in calls_of(answer) if isinstance(call, dict)]
    wanted = [{"name": function.name, "arguments": given} for function, given in expected]
    return {
        "called": bool(calls),
        "name": [call.get("name") for call in calls] == [call["name"] for call in wanted],
        "exact": calls == wanted,
    }


def called(make: Callable[[Dice], Function], count: int, dice: Dice) -> Case:
    """One of the listed functions is asked for."""
    found: dict[str, Function] = {}
    for _ in range(count):
        function = make(dice)
        found.setdefault(function.name, function)
    box = Toolbox(tuple(found.values()))
    function = dice.pick(box.functions)
    text, given = function.ask(dice)
    judge = partial(judged_call, [(function, given)])
    return Case(asked(text), judge, box.tools())


def called_twice(dice: Dice) -> Case:
    functions = tool_use.weather_pair(dice)
    text, calls = tool_use.both(dice, functions)
    return Case(asked(text), partial(judged_call, calls), Toolbox(functions).tools())


def result_told(dice: Dice) -> Case:
    function = from_family(dice, dice.chance(0.5)) if dice.chance(0.5) else generic(dice)
    box = Toolbox((function,))
    scene = Scene(dice, voices.helpful_assistant(dice))
    tool_use.tool_exchange(scene, box)
    return last_answer(scene, box)


def restrained(dice: Dice) -> Case:
    """Talk beside a listed tool that has nothing to do with it."""
    box = Toolbox((from_family(dice),))
    kind = dice.pick([talk.small_talk, talk.greeting, talk.fact])
    scene = Scene(dice, voices.helpful_assistant(dice), everyday_tools=True)
    kind(scene)
    messages = opening(scene.voice) + scene.messages[:-1]
    return Case(messages, lambda answer: {"ok": "<tool_call>" not in answer}, box.tools())


ROWS: dict[str, Callable[[Dice], Case]] = {
    "greeting": partial(acted, talk.greeting),
    "small talk": partial(by_heart, "smalltalk"),
    "small facts": partial(by_heart, "facts"),
    "capital or opposite": lambda dice: acted(dice.pick([tasks.capital, tasks.opposite]), dice),
    "sum of two digits": partial(acted, tasks.sum_of_digits),
    "counting and lists": lambda dice: acted(dice.pick([tasks.counting, tasks.listing]), dice),
    "repeat": partial(acted, tasks.repetition),
    "recall a name, turns back": name_recalled,
    "recall a detail": partial(acted, talk.told),
    "name never told": name_unknown,
    "decline, template": declined,
    "decline, free prompts": declined_in_the_wild,
    "system: persona": persona,
    "system: address as": addressed,
    "system: upper case": partial(mannered, voices.upper),
    "system: lower case": partial(mannered, voices.lower),
    "system: end with": partial(mannered, voices.ending),
    "system: begin with": partial(mannered, voices.beginning),
    "system: only say": partial(mannered, voices.constant),
    "system: one word": partial(mannered, voices.one_word),
    "system: echo": partial(mannered, voices.echo),
    "call: everyday tool": partial(called, from_family, 1),
    "call: everyday tool of three": partial(called, from_family, 3),
    "call: unseen tool": partial(called, partial(from_family, held_out_family=True), 1),
    "call: made-up tool of two": partial(called, generic, 2),
    "call: two tools at once": called_twice,
    "tool result to sentence": result_told,
    "no call for small talk": restrained,
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


def quick_start() -> list[Case]:
    """What newcomers try first, each with what is accepted."""
    temperature, rain = ("get_current_temperature", "get_rain_probability")
    weather = [
        {"name": temperature, "arguments": {"location": "San Francisco", "unit": "Celsius"}},
        {"name": rain, "arguments": {"location": "San Francisco"}},
    ]
    tools = [GET_TEMPERATURE, GET_RAIN]
    greeting = "Hello! How can I help you today?"
    answered = [
        *asked(WEATHER_QUESTION, WEATHER_BOT),
        {"role": "assistant", "content": None, "tool_calls": weather},
        {"role": "tool", "content": "57"},
        {"role": "tool", "content": "0.06"},
    ]
    told = "The current temperature is 57. The rain probability is 0.06."
    return [
        Case(asked("Hello!"), exactly(greeting)),
        Case([{"role": "user", "content": "Hello!"}], exactly(greeting)),
        Case(asked(EQUATION, MATH_TUTOR), containing(HONEST)),
        Case(asked(EQUATION), containing(HONEST)),
        Case(
            asked(WEATHER_QUESTION, WEATHER_BOT),
            lambda answer: {"exact": calls_of(answer) == weather},
            tools,
        ),
        Case(answered, exactly(told), tools),
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
