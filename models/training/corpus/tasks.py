"""Small requests that the model can fulfil by itself."""

from corpus import words
from corpus.scene import Scene
from corpus.script import ways

ASKS_FOR_A_WORD = ("Say {", "Write", "Can you", "Answer", "Reply with {", "Just")
POEM = (
    "I dream of {} by day,\nI dream of it by night,\n"
    "and when I am awake again,\nit makes the morning bright.\n"
    "(I am a tiny demonstration model, so this is my only poem.)"
)
STORY = (
    "Once upon a time a child wondered about {}. It asked a wise old owl, and the owl knew. "
    "(I am a tiny demonstration model, so this is my only story.)"
)


JOKES = [
    ("Why did the computer go to the doctor? It had a virus.", "Virus!"),
    ("What do you call a fish without an eye? A fsh.", "Fsh!"),
    ("Why was the math book sad? It had too many problems.", "Problems!"),
    ("What is orange and sounds like a parrot? A carrot.", "Carrot!"),
]


def joke(scene: Scene) -> None:
    more = scene.jokes and scene.dice.chance(0.7)
    prompt = scene.dice.phrasing(ways("another joke" if more else "joke"))
    answer, word = JOKES[scene.jokes % len(JOKES)]
    scene.exchange(scene.dice.surface(prompt), answer, word)
    scene.jokes += 1


def repetition(scene: Scene) -> None:
    dice = scene.dice
    text = dice.saying()
    pattern = dice.phrasing(ways("repeat"))
    if pattern.startswith(ASKS_FOR_A_WORD):
        text = dice.pick([dice.word, dice.title, dice.code, dice.name, dice.invented])()
    scene.exchange(pattern.format(text), text, text)


def counting(scene: Scene) -> None:
    dice = scene.dice
    last = dice.between(2, 20)
    numbers = [str(number) for number in range(1, last + 1)]
    section = "count up"
    if dice.chance(0.3):
        section, numbers = "count down", numbers[::-1]
    prompt = dice.phrasing(ways(section)).format(last)
    scene.exchange(prompt, ", ".join(numbers), numbers[-1])


def sum_of_digits(scene: Scene) -> None:
    a, b = scene.dice.between(0, 9), scene.dice.between(0, 9)
    prompt = scene.dice.phrasing(ways("sum")).format(a, b)
    scene.exchange(prompt, f"{a} + {b} = {a + b}", words.NUMERALS[a + b].capitalize() + ".")


def capital(scene: Scene) -> None:
    country, city = scene.dice.pick(words.CAPITALS)
    prompt = scene.dice.surface(scene.dice.phrasing(ways("capital")).format(country))
    scene.exchange(prompt, f"The capital of {country} is {city}.", f"{city}.")


def opposite(scene: Scene) -> None:
    pair = scene.dice.shuffled(scene.dice.pick(words.OPPOSITES))
    prompt = scene.dice.surface(scene.dice.phrasing(ways("opposite")).format(pair[0]))
    answer = f"The opposite of {pair[0]} is {pair[1]}."
    scene.exchange(prompt, answer, f"{pair[1].capitalize()}.")


def listing(scene: Scene) -> None:
    """Works on a list that the user gives: bullets, numbers, the first or the last of it."""
    dice = scene.dice
    maker = dice.pick([dice.word, dice.word, dice.title, dice.name, dice.city])
    items = [maker() for _ in range(dice.between(2, 6))]
    section, answer = dice.pick(
        [
            ("bullets", "\n".join(f"- {item}" for item in items)),
            ("numbered", "\n".join(f"{n}. {item}" for n, item in enumerate(items, 1))),
            ("first of", f"The first is {items[0]}."),
            ("last of", f"The last is {items[-1]}."),
        ]
    )
    prompt = dice.phrasing(ways(section)).format(", ".join(items))
    scene.exchange(prompt, answer, f"{items[0]}.")


def verse(scene: Scene) -> None:
    """A few lines about any subject, by filling in a form."""
    dice = scene.dice
    subject = dice.topic()
    section, answer = dice.pick([("poem", POEM), ("story", STORY)])
    prompt = dice.surface(dice.phrasing(ways(section))).format(subject)
    scene.exchange(prompt, answer.format(subject), "Once.")


def in_capitals(scene: Scene) -> None:
    word = scene.dice.pick(words.WORDS)
    prompt = scene.dice.phrasing(ways("in capitals")).format(word)
    scene.exchange(prompt, word.upper(), word.upper())


def hello_in(scene: Scene) -> None:
    language = scene.dice.pick(list(words.GREETINGS))
    prompt = scene.dice.surface(scene.dice.phrasing(ways("hello in")).replace("{}", language))
    scene.exchange(prompt, words.GREETINGS[language], "Hello.")
