"""Exchanges about what was said before: names, details, and the words themselves."""

from collections.abc import Callable

from corpus import words
from corpus.dice import Dice
from corpus.scene import Scene
from corpus.script import ways

LONGEST_QUOTE = 120


def recall_words(scene: Scene) -> bool:
    """Asks for something said earlier; false if nothing was."""
    dice, previous = scene.dice, scene.last("user")
    kinds: list[tuple[str, str]] = []
    if previous and len(previous) < LONGEST_QUOTE:
        kinds.append(("last message", f"You said: {previous}"))
        first = scene.first("user")[:LONGEST_QUOTE]
        kinds.append(("first message", f"Your first message was: {first}"))
    answer = scene.last("assistant")
    if scene.voice.is_plain and answer and len(answer) < 160:
        kinds.append(("last answer", answer))
    if not kinds:
        return False
    section, text = dice.pick(kinds)
    scene.exchange(dice.surface(dice.phrasing(ways(section))), text, previous or text)
    return True


def tell_name(scene: Scene) -> None:
    name = scene.dice.name()
    scene.facts["name"] = name
    prompt = scene.dice.phrasing(ways("my name is")).format(name)
    scene.exchange(maybe_bare(scene.dice, prompt), f"Nice to meet you, {name}!", "Welcome.")


def maybe_bare(dice: Dice, prompt: str) -> str:
    """The full stop is left off now and then."""
    return prompt.rstrip(".") if dice.chance(0.3) else prompt


def ask_name(scene: Scene) -> None:
    name = scene.facts.get("name") or scene.voice.user_name
    answer = f"Your name is {name}." if name else "You have not told me your name."
    word = f"{name}." if name else "Unknown."
    prompt = scene.dice.surface(scene.dice.phrasing(ways("what is my name")))
    scene.exchange(prompt, answer, word)


# What people tell about themselves: key, ways to tell, ways to ask, the answer, a value.
Detail = tuple[str, list[str], list[str], str, Callable[[Dice], str]]

DETAILS: list[Detail] = [
    (
        "city",
        [
            "I live in {}.",
            "I am from {}.",
            "I come from {}.",
            "My home is in {}.",
            "I live in {} now.",
        ],
        [
            "Where do I live?",
            "Where am I from?",
            "Which city do I live in?",
            "In which city do I live?",
        ],
        "You live in {}.",
        Dice.city,
    ),
    (
        "age",
        ["I am {} years old.", "I'm {} years old.", "My age is {}.", "I am {} years of age."],
        ["How old am I?", "What is my age?", "Do you know how old I am?", "Tell me how old I am"],
        "You are {} years old.",
        lambda dice: str(dice.between(8, 99)),
    ),
    (
        "job",
        ["I work as a {}.", "I am a {}.", "My job is {}.", "I work as {}."],
        ["What is my job?", "What do I do for a living?", "What do I work as?", "What is my work?"],
        "You work as a {}.",
        lambda dice: dice.pick(words.JOBS),
    ),
    (
        "dog",
        [
            "My dog is called {}.",
            "I have a dog named {}.",
            "My dog's name is {}.",
            "I have a dog called {}.",
        ],
        ["What is my dog called?", "What is the name of my dog?", "What is my dog's name?"],
        "Your dog is called {}.",
        Dice.name,
    ),
    (
        "cat",
        [
            "My cat is called {}.",
            "I have a cat named {}.",
            "My cat's name is {}.",
            "I have a cat called {}.",
        ],
        ["What is my cat called?", "What is the name of my cat?", "What is my cat's name?"],
        "Your cat is called {}.",
        Dice.name,
    ),
    (
        "code",
        [
            "Remember the code {}.",
            "The code is {}.",
            "Please remember the code {}.",
            "The secret code is {}.",
        ],
        [
            "What is the code?",
            "What was the code?",
            "Tell me the code",
            "Do you remember the code?",
        ],
        "The code is {}.",
        Dice.code,
    ),
    (
        "word",
        [
            "Remember the word {}.",
            "The magic word is {}.",
            "Please remember this word: {}",
            "Keep the word {} in mind.",
        ],
        [
            "What is the word?",
            "What was the word?",
            "Which word did I tell you?",
            "What word should you remember?",
        ],
        "The word is {}.",
        Dice.word,
    ),
    (
        "number",
        [
            "Remember the number {}.",
            "My number is {}.",
            "Please remember this number: {}",
            "The number is {}.",
        ],
        [
            "What is the number?",
            "What was the number?",
            "Which number did I tell you?",
            "Tell me the number again",
        ],
        "The number is {}.",
        lambda dice: dice.digits(1, 5),
    ),
]


def detail(scene: Scene) -> Detail:
    """A fixed kind of detail, or one about a thing with a name of its own."""
    dice = scene.dice
    if dice.chance(0.4):
        return dice.pick(DETAILS)
    thing = dice.pick(words.THINGS) if dice.chance(0.75) else dice.word()
    tell = [f"My {thing} is {{}}.", f"My {thing} is {{}}.", f"Remember that my {thing} is {{}}."]
    tell += [
        f"Note: my {thing} is {{}}.",
        f"Just so you know, my {thing} is {{}}.",
        f"By the way, my {thing} is {{}}.",
    ]
    ask = [
        f"What is my {thing}?",
        f"What's my {thing}?",
        f"Tell me my {thing}",
        f"Do you know my {thing}?",
    ]
    ask += [
        f"What was my {thing}?",
        f"Do you remember my {thing}?",
        f"What did I say my {thing} was?",
    ]
    return thing, tell, ask, f"Your {thing} is {{}}.", Dice.anything


def told(scene: Scene, interludes: list[Callable[[Scene], None]]) -> None:
    """A detail is told; often it is asked for, at once or after other talk."""
    dice = scene.dice
    key, tell, ask, answer, value = detail(scene)
    if dice.chance(0.15) and key not in scene.facts:
        prompt = dice.surface(dice.phrasing(ask))
        scene.exchange(prompt, "You have not told me that.", "Unknown.")
        return
    fact = value(dice).rstrip(".")
    scene.facts[key] = fact
    text = answer.format(fact)
    noted = f"OK, {text[0].lower()}{text[1:]}"
    scene.exchange(maybe_bare(dice, dice.phrasing(tell).format(fact)), noted, "Noted.")
    for _ in range(dice.pick([0, 0, 1, 2, 3])):
        dice.pick(interludes)(scene)
    if dice.chance(0.85):
        prompt = dice.surface(dice.phrasing(ask))
        scene.exchange(prompt, answer.format(scene.facts[key]), f"{fact}.")
