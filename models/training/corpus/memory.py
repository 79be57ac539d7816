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
            "(I am/I'm) (based/living/at home) in {}.",
            "I (moved to/settled in) {} (last year/recently/a while ago).",
            "(By the way, /Well, )(I live/I'm living) in {}.",
            "(My city/My home town/The city I live in) is {}.",
            "(Hi, /Hello, )I (am/come) from {}.",
            "I have lived in {} (for years/all my life/for a while).",
            "I live in {} now.",
        ],
        [
            "Where do I live?",
            "Where am I from?",
            "Which city do I live in?",
            "What (city/town/place) (do I live in/am I from)?",
            "(Tell me/Can you tell me/Do you know) where I live",
            "(Do you remember/Can you remember) where I (live/come from)?",
            "Where (is my home/do I come from)?",
            "(What is/What's) my (city/home town)?",
            "Where did I say I (live/lived)?",
            "In which city do I live?",
        ],
        "You live in {}.",
        Dice.city,
    ),
    (
        "age",
        [
            "I am {} years old.",
            "I'm {} years old.",
            "My age is {}.",
            "(I am/I'm) {}, by the way.",
            "I (just turned/turned/have turned) {}( this year/ last month/).",
            "(By the way, /Just so you know, )(I am/I'm) {} years old.",
            "(I am/I'm) (already/only/now) {} years old.",
            "I am {} years of age.",
        ],
        [
            "How old am I?",
            "What is my age?",
            "Do you know how old I am?",
            "What's my age( again/ now/)?",
            "(Can/Could) you tell me (my age/how old I am)?",
            "Do you (still /)remember (my age/how old I am)?",
            "What (age am I/age did I tell you)?",
            "How old did I say I (am/was)?",
            "Tell me how old I am",
        ],
        "You are {} years old.",
        lambda dice: str(dice.between(8, 99)),
    ),
    (
        "job",
        [
            "I work as a {}.",
            "I am a {}.",
            "My job is {}.",
            "(I'm/I am) (working as/employed as) a {}.",
            "My (profession/occupation) is {}.",
            "(By the way, /Well, )(I'm/I am/I work as) a {}.",
            "I (make/earn) (my/a) living as a {}.",
            "I have (worked/been working) as a {} (for years/for a while/since last year).",
            "I work as {}.",
        ],
        [
            "What is my job?",
            "What do I do for a living?",
            "What do I work as?",
            "What's my (job/profession/occupation)?",
            "(Do you know/Do you remember) (what I do/my job/what my job is)?",
            "(Tell me/Can you tell me) (what my job is/what I do for a living)",
            "What did I say (my job was/I do for a living)?",
            "What kind of (job/work) do I (have/do)?",
            "What is my work?",
        ],
        "You work as a {}.",
        lambda dice: dice.pick(words.JOBS),
    ),
    (
        "dog",
        [
            "My dog is called {}.",
            "I have a dog named {}.",
            "My dog's name is {}.",
            "(I've got/I have got/I own) a dog (called/named) {}.",
            "The name of my dog is {}.",
            "(By the way, /Well, )my dog is (called/named) {}.",
            "We (have/just got) a dog, (its/and its) name is {}.",
            "I (call/named) my dog {}.",
            "I have a dog called {}.",
        ],
        [
            "What is my dog called?",
            "What is the name of my dog?",
            "(What's/Tell me/Do you know) my dog's name?",
            "(Do you remember/Can you tell me) (the name of my dog/what my dog is called)?",
            "What('s/ was) the name of my dog( again/)?",
            "What (do I call/did I name) my dog?",
            "How is my dog called?",
            "What is my dog's name?",
        ],
        "Your dog is called {}.",
        Dice.name,
    ),
    (
        "cat",
        [
            "My cat is called {}.",
            "I have a cat named {}.",
            "My cat's name is {}.",
            "(I've got/I have got/I own) a cat (called/named) {}.",
            "The name of my cat is {}.",
            "(By the way, /Well, )my cat is (called/named) {}.",
            "We (have/just got) a cat, (its/and its) name is {}.",
            "I (call/named) my cat {}.",
            "I have a cat called {}.",
        ],
        [
            "What is my cat called?",
            "What is the name of my cat?",
            "(What's/Tell me/Do you know) my cat's name?",
            "(Do you remember/Can you tell me) (the name of my cat/what my cat is called)?",
            "What('s/ was) the name of my cat( again/)?",
            "What (do I call/did I name) my cat?",
            "How is my cat called?",
            "What is my cat's name?",
        ],
        "Your cat is called {}.",
        Dice.name,
    ),
    (
        "code",
        [
            "Remember the code {}.",
            "The code is {}.",
            "Please remember the code {}.",
            "(Keep/Have) the code {} in mind.",
            "(Here is/Here's) (the/a) code( for you/): {}",
            "The (code to remember/code for later) is {}.",
            "(Can/Could) you remember the code {}?",
            "(Note/Save/Memorize) (the/this) code: {}",
            "(Please /)(don't forget/do not forget) the code {}.",
            "The secret code is {}.",
        ],
        [
            "What is the code?",
            "What was the code?",
            "Tell me the code",
            "(What's/What was/What is) (that code/the code again)?",
            "(Give/Tell) me the code( again/ please/ I gave you)",
            "Which code did I (tell/give) you?",
            "(Can you tell me/Could you repeat) the code?",
            "What code (should you/did I ask you to) remember?",
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
            "(Here is/Here's) a word( for you/ to remember): {}",
            "The (word/secret word/word to remember) is {}.",
            "(Can/Could) you remember the word {}?",
            "(Note/Memorize/Remember) this word: {}",
            "(Please /)(don't forget/do not forget) the word {}.",
            "My (word/magic word) is {}.",
            "Keep the word {} in mind.",
        ],
        [
            "What is the word?",
            "What was the word?",
            "Which word did I tell you?",
            "(What's/What was/What is) (the magic word/that word/the word again)?",
            "(Give/Tell) me the word( again/ please/ I gave you)",
            "Which word (should you/did I ask you to) remember?",
            "Do you (still /)remember the word?",
            "(Can/Could) you tell me the word?",
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
            "(Here is/Here's) (a/the) number( for you/ to remember): {}",
            "(Keep/Have) the number {} in mind.",
            "(Can/Could) you remember the number {}?",
            "(Note/Memorize/Save) (this/the) number: {}",
            "(Please /)(don't forget/do not forget) the number {}.",
            "(My/The) (secret number/number to remember) is {}.",
            "The number is {}.",
        ],
        [
            "What is the number?",
            "What was the number?",
            "Which number did I tell you?",
            "(What's/What was/What is) (that number/my number/the number again)?",
            "(Give/Tell) me the number( please/ I gave you/)",
            "(Which/What) number (should you/did I ask you to) remember?",
            "Do you (still /)remember the number?",
            "(Can/Could) you tell me the number?",
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
        f"(Please /)(note/remember/keep in mind) that my {thing} is {{}}.",
        f"(For the record/FYI/For later), my {thing} is {{}}.",
        f"(I want you to know/I should mention/You should know) that my {thing} is {{}}.",
        f"My {thing}: {{}}",
        f"(Don't forget/Do not forget/Keep in mind): my {thing} is {{}}.",
        f"(Hi, /OK, /So, )my {thing} is {{}}.",
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
        f"(What's/What was/What is) my {thing} again?",
        f"(Can/Could) you tell me (my {thing}/what my {thing} is)?",
        f"(Do you know/Do you still know/Do you remember) what my {thing} is?",
        f"(And /So )what is my {thing}?",
        f"What did I (tell you/say) about my {thing}?",
        f"(Remind/Tell) me what my {thing} is",
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
