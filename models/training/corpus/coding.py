"""Exchanges with the code interpreter: the program, what it prints, and the sentence about it.

What a program prints is found out by running it, so every answer is the right one.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from corpus.builtin import CODE, SOURCE
from corpus.dice import Dice
from corpus.made_up import plural
from corpus.results import listed
from corpus.scene import Scene
from corpus.script import grouped
from corpus.tool_use import FRAMES as PAIRS
from corpus.tool_use import JOINTS, LEADS, Said, woven
from corpus.words import NUMERALS, WEEKDAYS

FOLDER = "/mnt/data"
Files = dict[str, str]


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked for, the program, and the answer, whose {} is what the program prints."""

    question: str
    code: str
    answer: str
    files: Files = field(default_factory=dict)
    makes: str = ""  # the file that it writes, which then is all that it has to show
    numbers: str = ""  # the list in it that a later question may be about

    def output(self) -> str:
        return "" if self.makes else run(self.code, self.files)

    def told(self, output: str) -> str:
        if self.makes:
            return f"{self.answer}: [{self.makes}](sandbox:{FOLDER}/{self.makes})"
        return self.answer.replace("{}", output) if "{}" in self.answer else told(output)


def told(output: str) -> str:
    """Lines of a name and a value as a sentence."""
    lines = (line.rpartition(" ") for line in output.splitlines())
    text = listed([f"the {name} is {value}" for name, _, value in lines])
    return f"{text[0].upper()}{text[1:]}."


def run(code: str, files: Files) -> str:
    """What a program of this module prints."""
    printed = io.StringIO()
    contents = {f"{FOLDER}/{name}": text for name, text in files.items()}
    with contextlib.redirect_stdout(printed):
        exec(code, {"open": lambda path: io.StringIO(contents[path])})
    return printed.getvalue().rstrip("\n")


def ask(dice: Dice, section: str, **values: object) -> str:
    text = phrased(dice, grouped("code")[section])
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return told_of(dice, text)


def told_of(dice: Dice, text: str) -> str:
    """A story about people, things and places, each the same wherever it is named."""
    for slot, value in STORY.items():
        if slot in text:
            text = text.replace(slot, value(dice))
    return text


def good(dice: Dice) -> str:
    """A thing that can be counted; half of them nobody knows."""
    known = dice.pick(grouped("code")["goods"][0].split("|"))
    invented = dice.invented()
    return known if dice.chance(0.5) or invented[0] in "aeiou" else invented


STORY: dict[str, Callable[[Dice], str]] = {
    "{name}": Dice.name,
    "{friend}": Dice.name,
    "{good}": good,
    "{items}": lambda dice: plural(good(dice)),
    "{others}": lambda dice: plural(good(dice)),
    "{place}": Dice.city,
    "{town}": Dice.city,
    "{money}": lambda dice: dice.pick(["euros", "dollars", "euros", "dollars", "coins", "pounds"]),
    "{day}": lambda dice: dice.pick(WEEKDAYS),
}


def phrased(dice: Dice, phrasings: list[str]) -> str:
    """A way to ask; what is asked for is put into any question but the one held out."""
    text = dice.phrasing(phrasings)
    if not text.startswith(NOUN):
        return text
    question = dice.expanded(dice.pick(grouped("code")["asked for"]))
    asked_for = question.replace("{}", text.removeprefix(NOUN))
    return phrased(dice, phrasings) if asked_for == phrasings[-1] else asked_for


NOUN = "= "


# Calculations


def amount(dice: Dice) -> str:
    """A number as users write it."""
    return str(dice.decimal()) if dice.chance(0.25) else str(dice.between(2, dice.pick(SIZES)))


SIZES = [9, 20, 99, 99, 999, 9999, 99999]
OPERATIONS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "remainder": "%"}


def rounded(expression: str) -> str:
    """Printed as it is if it can only be whole."""
    exact = "." not in expression and "/" not in expression
    return f"print({expression})" if exact else f"print(round({expression}, 4))"


def operation(dice: Dice) -> Task:
    kind = dice.pick(list(OPERATIONS))
    a, b = amount(dice), amount(dice)
    if kind == "remainder":
        a, b = str(dice.between(10, 9999)), str(dice.between(2, 99))
    if kind == "divide" and float(b) == 0:
        b = "7"
    question = ask(dice, kind, a=shown(dice, a), b=shown(dice, b))
    return calculation(question, f"{a} {OPERATIONS[kind]} {b}")


def shown(dice: Dice, number: str) -> str:
    """Large numbers with their thousands set apart, and small ones as words, now and then."""
    if number.isdigit() and int(number) < len(NUMERALS) and dice.chance(0.12):
        return NUMERALS[int(number)]
    large = len(number) > 3 and "." not in number
    return f"{int(number):,}" if large and dice.chance(0.2) else number


def calculation(question: str, expression: str) -> Task:
    return Task(question, rounded(expression), "The result is {}.")


def expression(dice: Dice) -> Task:
    """Several operations, with signs that Python does not know among them."""
    code = term(dice)
    for _ in range(dice.between(1, 2)):
        code = f"{code} {dice.pick('+-*/')} {term(dice)}"
        if dice.chance(0.25):
            code = f"({code}) {dice.pick('*-')} {dice.between(2, 20)}"
    written = code
    if dice.chance(0.3):
        written = written.replace("*", "×").replace("/", "÷")
    if dice.chance(0.25):
        written = written.replace(" ", "")
    elif written == code and dice.chance(0.2):
        for sign, word in SPOKEN.items():
            written = written.replace(f" {sign} ", f" {word} ")
    return calculation(ask(dice, "expression", a=written), code)


SPOKEN = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


def term(dice: Dice) -> str:
    return str(dice.between(1, 999)) if dice.chance(0.8) else str(round(dice.decimal() + 1, 2))


FORMULAS: dict[str, tuple[str, tuple[int, ...]]] = {  # the expression, and its largest numbers
    "three": ("{a} + {b} + {c}", (999, 999, 999)),
    "two products": ("{a} * {b} + {c} * {d}", (20, 60, 20, 60)),
    "multiply and add": ("{a} + {b} * {c}", (500, 99, 36)),
    "subtract products": ("{a} - {b} * {c}", (5000, 9, 60)),
    "less percent": ("{a} * (100 - {b}) / 100", (2000, 90)),
    "more percent": ("{a} * (100 + {b}) / 100", (2000, 90)),
    "share": ("{b} / {a} * 100", (500, 500)),
    "distance": ("{a} * {b}", (150, 24)),
    "speed": ("{a} / {b}", (900, 24)),
    "rectangle": ("2 * ({a} + {b})", (200, 200)),
    "triangle": ("{a} * {b} / 2", (200, 200)),
    "square": ("{a} ** 2", (999,)),
    "range sum": ("sum(range({a}, {b} + 1))", (300, 3000)),
    "power of ten": ("{a} * 10 ** {b}", (99, 9)),
    "double": ("{a} * 2", (9999,)),
    "triple": ("{a} * 3", (9999,)),
    "half": ("{a} / 2", (9999,)),
    "third": ("{a} / 3", (9999,)),
    "quarter": ("{a} / 4", (9999,)),
    "dozen": ("{a} * 12", (99,)),
    "cube": ("{a} ** 3", (99,)),
    "volume": ("{a} * {b} * {c}", (60, 60, 60)),
    "minus two": ("{a} - {b} - {c}", (9999, 999, 99)),
    "plus minus": ("{a} + {b} - {c}", (999, 999, 99)),
    "change": ("{a} - ({b} + {c})", (999, 99, 99)),
    "sum times": ("({a} + {b}) * {c}", (99, 99, 36)),
    "difference times": ("({a} - {b}) * {c}", (500, 200, 50)),
    "sum shared": ("({a} + {b}) / {c}", (999, 999, 12)),
    "product shared": ("{a} * {b} / {c}", (500, 60, 30)),
    "fraction": ("{a} * {b} / {c}", (5000, 12, 12)),
    "percent change": ("({b} - {a}) / {a} * 100", (999, 999)),
    "mean of two": ("({a} + {b}) / 2", (999, 999)),
    "hours": ("{a} * 60 + {b}", (24, 59)),
}
FALLING = {"share", "minus two", "change", "difference times"}  # the largest number first
BROKEN = {"three", "less percent", "more percent", "square", "double", "half", "third", "quarter"}


def formula(dice: Dice) -> Task:
    """Operations that words stand for."""
    kind = dice.pick(list(FORMULAS))
    pattern, limits = FORMULAS[kind]
    numbers = [dice.between(2, limit) for limit in limits]
    if kind in FALLING or kind == "range sum":
        numbers.sort(reverse=kind in FALLING)
    if kind == "fraction":
        numbers[1:] = sorted(dice.some(range(2, 13), 2))
    given = dict(zip("abcd", map(str, numbers), strict=False))
    if kind in BROKEN and dice.chance(0.25):
        given["a"] = str(dice.decimal())
    return calculation(ask(dice, kind, **given), pattern.format(**given))


UNITS: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    (("miles",), ("km", "kilometers"), "1.609344"),
    (("pounds", "lbs"), ("kg", "kilograms"), "0.45359237"),
    (("inches",), ("cm", "centimeters"), "2.54"),
    (("feet",), ("meters", "m"), "0.3048"),
    (("gallons",), ("liters",), "3.785411784"),
    (("ounces",), ("grams",), "28.349523125"),
    (("hours",), ("minutes",), "60"),
    (("days",), ("hours",), "24"),
    (("weeks",), ("days",), "7"),
    (("minutes",), ("seconds",), "60"),
    (("years",), ("months",), "12"),
    (("km", "kilometers"), ("meters",), "1000"),
    (("kg", "kilograms"), ("grams",), "1000"),
    (("meters",), ("cm", "centimeters"), "100"),
    (("liters",), ("milliliters", "ml"), "1000"),
]


def convert(dice: Dice) -> Task:
    """From a unit to another, either way."""
    one, other, factor = dice.pick(UNITS)
    a, sign = amount(dice), "*"
    if dice.chance(0.5):
        one, other, sign = other, one, "/"
    question = ask(dice, "convert", a=a, u=dice.pick(one), v=dice.pick(other))
    return calculation(question, f"{a} {sign} {factor}")


def power(dice: Dice) -> Task:
    a, b = dice.between(2, 20), dice.between(2, 9)
    return calculation(ask(dice, "power", a=a, b=b), f"{a} ** {b}")


def root(dice: Dice) -> Task:
    a = dice.between(2, 99) ** 2 if dice.chance(0.4) else dice.between(2, 9999)
    code = f"import math\nprint(round(math.sqrt({a}), 4))"
    return Task(ask(dice, "root", a=a), code, "The result is {}.")


def percent(dice: Dice) -> Task:
    a, b = amount(dice), dice.between(1, 99)
    code = f"print(round({a} * {b} / 100, 4))"
    return Task(ask(dice, "percent", a=a, b=b), code, "The result is {}.")


def whole_parts(dice: Dice) -> Task:
    a, b = dice.between(20, 9999), dice.between(2, 60)
    return printed(ask(dice, "full boxes", a=a, b=b), f"{a} // {b}")


def needed(dice: Dice) -> Task:
    a, b = dice.between(20, 9999), dice.between(2, 60)
    code = f"import math\nprint(math.ceil({a} / {b}))"
    return Task(ask(dice, "needed", a=a, b=b), code, "The result is {}.")


def rounding(dice: Dice) -> Task:
    a, b = f"{dice.between(0, 999)}.{dice.digits(4, 7)}", dice.between(1, 3)
    return printed(ask(dice, "rounded", a=a, b=b), f"round({a}, {b})")


def absolute(dice: Dice) -> Task:
    a = f"-{amount(dice)}" if dice.chance(0.8) else amount(dice)
    return printed(ask(dice, "absolute", a=a), f"abs({a})")


def larger(dice: Dice) -> Task:
    a, b = amount(dice), amount(dice)
    return printed(ask(dice, "largest of", a=a, b=b), f"max({a}, {b})")


def factorial(dice: Dice) -> Task:
    return mathematical(dice, "factorial", "factorial", dice.between(3, 20))


def gcd(dice: Dice) -> Task:
    common = dice.between(2, 40)
    return mathematical(dice, "gcd", "gcd", *(common * dice.between(2, 60) for _ in range(2)))


def mathematical(dice: Dice, section: str, function: str, *numbers: int) -> Task:
    given = dict(zip("ab", numbers, strict=False))
    code = f"import math\nprint(math.{function}({', '.join(map(str, numbers))}))"
    return Task(ask(dice, section, **given), code, "The result is {}.")


def lcm(dice: Dice) -> Task:
    common = dice.between(1, 20)
    return mathematical(dice, "lcm", "lcm", *(common * dice.between(2, 30) for _ in range(2)))


def prime(dice: Dice) -> Task:
    n = dice.between(2, 99) if dice.chance(0.4) else dice.between(100, 9999)
    code = f"n = {n}\nprint(n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1)))"
    return Task(ask(dice, "prime", a=n), code, f"{n} is prime: {{}}.")


def sum_to(dice: Dice) -> Task:
    n = dice.between(5, 5000)
    return calculation(ask(dice, "sum to", a=n), f"sum(range(1, {n} + 1))")


def equation(dice: Dice) -> Task:
    a, b, x = dice.between(2, 20), dice.between(1, 99), dice.between(1, 40)
    plus = dice.chance(0.6)
    c = a * x + b if plus else a * x - b
    if dice.chance(0.3):
        c += dice.between(1, 9)
    unknown = dice.pick("xxxyznt")
    question = ask(dice, "equation", a=a, b=b, c=c, sign="+" if plus else "-", x=unknown)
    if plus and dice.chance(0.2):
        question = question.replace(f"{a}{unknown} + {b} =", f"{b} + {a}{unknown} =")
    code = f"print(round(({c} {'-' if plus else '+'} {b}) / {a}, 4))"
    return Task(question, code, f"{unknown} = {{}}")


def to_fahrenheit(dice: Dice) -> Task:
    a = dice.between(-40, 120)
    return calculation(ask(dice, "to fahrenheit", a=a), f"{a} * 9 / 5 + 32")


def to_celsius(dice: Dice) -> Task:
    a = dice.between(-40, 250)
    return calculation(ask(dice, "to celsius", a=a), f"({a} - 32) * 5 / 9")


def circle(dice: Dice) -> Task:
    a = amount(dice)
    code = f"import math\nprint(round(math.pi * {a} ** 2, 4))"
    return Task(ask(dice, "circle", a=a), code, "The result is {}.")


def circumference(dice: Dice) -> Task:
    a = amount(dice)
    code = f"import math\nprint(round(2 * math.pi * {a}, 4))"
    return Task(ask(dice, "circumference", a=a), code, "The result is {}.")


def hypotenuse(dice: Dice) -> Task:
    a, b = amount(dice), amount(dice)
    code = f"import math\nprint(round(math.hypot({a}, {b}), 4))"
    return Task(ask(dice, "hypotenuse", a=a, b=b), code, "The result is {}.")


def interest(dice: Dice) -> Task:
    a, b, c = dice.between(50, 9999), dice.between(1, 12), dice.between(2, 30)
    code = f"print(round({a} * (1 + {b} / 100) ** {c}, 2))"
    return Task(ask(dice, "interest", a=a, b=b, c=c), code, "The result is {}.")


def a_day(dice: Dice) -> str:
    return f"{dice.between(1950, 2040)}-{dice.between(1, 12):02d}-{dice.between(1, 28):02d}"


def weekday(dice: Dice) -> Task:
    a = a_day(dice)
    code = f'from datetime import date\nprint(date.fromisoformat("{a}").strftime("%A"))'
    return Task(ask(dice, "weekday", a=a), code, "The day is {}.")


def later(dice: Dice) -> Task:
    a, b = a_day(dice), dice.between(2, 400)
    code = (
        "from datetime import date, timedelta\n"
        f'print(date.fromisoformat("{a}") + timedelta(days={b}))'
    )
    return Task(ask(dice, "later", a=a, b=b), code, "The date is {}.")


def days(dice: Dice) -> Task:
    a, b = sorted(a_day(dice) for _ in range(2))
    first_day, last_day = (f'date.fromisoformat("{day}")' for day in (a, b))
    code = f"from datetime import date\nprint(({last_day} - {first_day}).days)"
    return Task(ask(dice, "days", a=a, b=b), code, "The number of days is {}.")


def binary(dice: Dice) -> Task:
    n = dice.between(2, dice.pick([15, 255, 1023]))
    return calculation(ask(dice, "binary", a=n), f"bin({n})[2:]")


def hexadecimal(dice: Dice) -> Task:
    n = dice.between(10, dice.pick([255, 4095, 65535]))
    return calculation(ask(dice, "hexadecimal", a=n), f"hex({n})[2:]")


def from_binary(dice: Dice) -> Task:
    digits = f"{dice.between(2, dice.pick([15, 255, 1023])):b}"
    return calculation(ask(dice, "from binary", a=digits), f'int("{digits}", 2)')


def primes(dice: Dice) -> Task:
    n = dice.between(5, 120)
    code = f"print([n for n in range(2, {n} + 1) if all(n % d for d in range(2, n))])"
    return Task(ask(dice, "primes", a=n), code, "The result is {}.")


def divisors(dice: Dice) -> Task:
    n = dice.between(4, 999)
    code = f"print([d for d in range(1, {n} + 1) if {n} % d == 0])"
    return Task(ask(dice, "divisors", a=n), code, "The result is {}.")


def fibonacci(dice: Dice) -> Task:
    n = dice.between(3, 25)
    code = (
        f"terms = [0, 1]\nwhile len(terms) < {n}:\n"
        "    terms.append(terms[-2] + terms[-1])\nprint(terms)"
    )
    return Task(ask(dice, "fibonacci", a=n), code, "The result is {}.")


def reverse(dice: Dice) -> Task:
    word = dice.word()
    return calculation(ask(dice, "reverse", a=word), f'"{word}"[::-1]')


def letters(dice: Dice) -> Task:
    word = dice.word()
    return calculation(ask(dice, "letters", a=word), f'len("{word}")')


def printed(question: str, expression: str) -> Task:
    """What is no fraction, although there is a dot in it."""
    return Task(question, f"print({expression})", "The result is {}.")


def occurrences(dice: Dice) -> Task:
    word = dice.word()
    letter = dice.pick(word)
    return printed(ask(dice, "occurrences", a=word, b=letter), f'"{word}".count("{letter}")')


def palindrome(dice: Dice) -> Task:
    word = dice.word()
    if dice.chance(0.5):
        word += word[-2::-1]
    code = f'word = "{word}"\nprint(word == word[::-1])'
    return Task(ask(dice, "palindrome", a=word), code, f"{word} is a palindrome: {{}}.")


def words(dice: Dice) -> Task:
    text = dice.phrase(2, 9)
    return printed(ask(dice, "words", a=text), f'len("{text}".split())')


def two_calculations(dice: Dice) -> Task:
    """Both in one program."""
    first, second = a_calculation(dice), a_calculation(dice)
    while (joint := dice.phrasing(JOINTS)).strip(" -.")[:1] in SIGNS:
        pass
    frame = f"{{0}}{joint}{{1}}"
    if not dice.held_out and dice.chance(0.3):
        frame = dice.expanded(dice.pick(PAIRS))
    said = (Said(task.question, not task.question.startswith(COMMON)) for task in (first, second))
    question = woven(dice, frame, *said)
    return Task(question, f"{first.code}\n{second.code}", "The results are:\n{}")


SIGNS = ("+", "/", "|", "&")  # that would be part of a calculation
COMMON = ("What", "How", "Calc", "Comp", "Add", "Sub", "Mult", "Div", "Take", "The ", "There", "A ")


def a_calculation(dice: Dice) -> Task:
    """One that can be followed by another."""
    while True:
        task = dice.pick([operation, operation, percent, formula])(dice)
        if not task.question.rstrip(" ?").endswith("="):
            return task


# Lists of numbers

MEASURES: dict[str, tuple[str, ...]] = {  # the program's expression, and what users call it
    "round(statistics.mean(numbers), 4)": ("mean", "average", "arithmetic mean"),
    "round(statistics.median(numbers), 4)": ("median", "median", "middle value"),
    "round(statistics.stdev(numbers), 4)": ("standard deviation", "standard deviation", "stdev"),
    "round(statistics.variance(numbers), 4)": ("variance",),
    "statistics.mode(numbers)": ("mode", "mode", "most common value"),
    "round(sum(numbers), 4)": ("sum", "total"),
    "max(numbers)": ("maximum", "largest number", "highest value", "max"),
    "min(numbers)": ("minimum", "smallest number", "lowest value", "min"),
    "round(max(numbers) - min(numbers), 4)": ("range", "range", "span"),
    "len(numbers)": ("count", "number of values"),
}
ASKED: dict[str, str] = {  # what is asked without the name of a measure
    "asked mean": "round(statistics.mean(numbers), 4)",
    "asked total": "round(sum(numbers), 4)",
    "asked maximum": "max(numbers)",
    "asked minimum": "min(numbers)",
    "asked count": "len(numbers)",
    "asked median": "round(statistics.median(numbers), 4)",
    "asked mode": "statistics.mode(numbers)",
    "asked range": "round(max(numbers) - min(numbers), 4)",
}


def number_list(dice: Dice, least: int = 3, most: int = 10) -> list[str]:
    makers: list[Callable[[], str]] = [
        lambda: str(dice.between(1, 100)),
        lambda: str(dice.between(1, 100)),
        lambda: str(dice.between(-50, 5000)),
        lambda: str(dice.decimal()),
    ]
    if dice.chance(0.15):
        makers, most = [lambda: str(dice.between(1, 9))], min(most, 6)
    maker = dice.pick(makers)
    return [maker() for _ in range(dice.between(least, most))]


def as_written(dice: Dice, numbers: Sequence[str]) -> str:
    """Mostly with commas."""
    joined = ", ".join(numbers)
    if dice.chance(0.5):
        return joined
    if dice.chance(0.12):
        unit = dice.pick(["{} kg", "{} cm", "{} euros", "${}", "{}%", "{} km", "{} points"])
        return ", ".join(unit.replace("{}", number) for number in numbers)
    if dice.chance(0.5):
        conjunction = dice.pick([" and ", " and ", ", and ", " & "])
        return f"{', '.join(numbers[:-1])}{conjunction}{numbers[-1]}"
    if dice.chance(0.25):
        return dice.pick(["[{}]", "[{}]", "({})", "{{}}"]).replace("{}", joined)
    return dice.pick([" ", " ", ",", "; ", ";", "\n", " and ", " / ", "  "]).join(numbers)


def statistic(dice: Dice) -> Task:
    """One or several measures of a list."""
    numbers = number_list(dice)
    text, listed_numbers = as_written(dice, numbers), ", ".join(numbers)
    if dice.chance(0.25):
        kind = dice.pick(list(ASKED))
        code, question = ASKED[kind], ask(dice, kind, l=text)
        return measured(question, listed_numbers, [(code, named_in(question, MEASURES[code]))])
    chosen = measures(dice, dice.pick([1, 1, 1, 2, 2, 3, 3, 4]))
    joint = dice.pick([" and ", " and ", " and the ", ", ", " & ", " plus the ", ", and "])
    named = listed([name for _, name in chosen]).replace(" and ", joint)
    return measured(ask(dice, "statistics", m=named, l=text), listed_numbers, chosen)


def named_in(question: str, names: tuple[str, ...]) -> str:
    """The longest of a measure's names that the question has, or else the usual one."""
    return max((name for name in names if name in question.lower()), key=len, default=names[0])


def measures(dice: Dice, count: int) -> list[tuple[str, str]]:
    return [(code, dice.pick(MEASURES[code])) for code in dice.some(list(MEASURES), count)]


def measured(question: str, numbers: str, chosen: list[tuple[str, str]]) -> Task:
    lines = ["import statistics"] if any("statistics" in code for code, _ in chosen) else []
    lines.append(f"numbers = [{numbers}]")
    lines += [f'print("{name}", {code})' for code, name in chosen]
    return Task(question, "\n".join(lines), "", numbers=numbers)


def more_statistics(dice: Dice, numbers: str) -> Task:
    """A later question about the same list."""
    chosen = measures(dice, 1)
    return measured(ask(dice, "more statistics", m=chosen[0][1]), numbers, chosen)


def sort(dice: Dice) -> Task:
    numbers = number_list(dice)
    code = f"numbers = [{', '.join(numbers)}]\nprint(sorted(numbers))"
    if dice.chance(0.3):
        code = code.replace("sorted(numbers)", "sorted(numbers, reverse=True)")
        question = ask(dice, "sort down", l=as_written(dice, numbers))
    else:
        question = ask(dice, "sort", l=as_written(dice, numbers))
    return Task(question, code, "The sorted list is {}.")


# Tables

Rows = list[tuple[str, ...]]
COLUMNS = [
    *["price", "amount", "score", "age", "sales", "points", "size", "weight", "hours", "cost"],
    *["quantity", "revenue", "height", "stock", "rating", "votes", "distance", "speed", "length"],
    *["visits", "income", "profit", "orders", "calories", "goals"],
]
ROW_KINDS = ["name", "item", "city", "team", "product", "person", "day", "shop"]


def column(dice: Dice) -> str:
    return dice.pick(COLUMNS) if dice.chance(0.6) else dice.pick([dice.word, dice.invented])()


def row_names(dice: Dice, least: int = 3, most: int = 5) -> list[str]:
    maker = dice.pick([dice.word, dice.word, dice.title, dice.name, dice.city])
    return list(dict.fromkeys(maker().replace(",", "") for _ in range(dice.between(least, most))))


def rows_of(dice: Dice, columns: int) -> Rows:
    makers = [
        dice.pick([lambda: str(dice.between(1, 99)), lambda: str(dice.between(1, 9999))])
        for _ in range(columns)
    ]
    return [(name, *(maker() for maker in makers)) for name in row_names(dice)]


def literal(rows: Rows) -> str:
    inner = ", ".join(f'("{name}", {", ".join(values)})' for name, *values in rows)
    return f"rows = [{inner}]\n"


def table_text(dice: Dice, head: list[str], rows: Rows, headed: bool) -> str:
    form = dice.between(0, 2) if headed else dice.pick([0, 0, 1, 1, 2, 3, 4, 5, 6, 6])
    if form == 0:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if form == 1:
        return "\n".join(",".join(line) for line in [head, *rows])
    if form == 2:
        separator = dice.pick(["\t", "; ", " | "])
        return "\n".join(separator.join(line) for line in [head, *rows])
    if form == 3:
        return "\n".join(f"{name}: {', '.join(values)}" for name, *values in rows)
    if form == 4:
        return "\n".join(f"- {name}: {', '.join(values)}" for name, *values in rows)
    if form == 5:
        return ", ".join(f"{name}: {' '.join(values)}" for name, *values in rows)
    return dice.pick(["\n", ", ", "; "]).join(" ".join(row) for row in rows)


TABLE_TASKS: dict[str, tuple[str, str]] = {  # the program after its rows, and the answer
    "table total": ("print(sum(row[1] for row in rows))", "The total is {}."),
    "table average": (
        "print(round(sum(row[1] for row in rows) / len(rows), 4))",
        "The average is {}.",
    ),
    "table highest": ("print(*max(rows, key=lambda row: row[1]))", "The highest is {}."),
    "table lowest": ("print(*min(rows, key=lambda row: row[1]))", "The lowest is {}."),
    "table sorted": (
        "for row in sorted(rows, key=lambda row: -row[1]):\n    print(*row)",
        "Here is the sorted table:\n{}",
    ),
    "table ascending": (
        "for row in sorted(rows, key=lambda row: row[1]):\n    print(*row)",
        "Here is the sorted table:\n{}",
    ),
    "table above": ("print(sum(row[1] > {b} for row in rows))", "The number of rows is {}."),
    "table below": ("print(sum(row[1] < {b} for row in rows))", "The number of rows is {}."),
    "table span": (
        "values = [row[1] for row in rows]\nprint(max(values) - min(values))",
        "The difference is {}.",
    ),
    "table lookup": ('print(dict(rows)["{r}"])', "The value is {}."),
    "table rows": ("print(len(rows))", "The number of rows is {}."),
    "table revenue": ("print(sum(row[1] * row[2] for row in rows))", "The total is {}."),
}


def table(dice: Dice) -> Task:
    """A question about a small table that stands in the message."""
    kind = dice.pick(list(TABLE_TASKS))
    program, answer = TABLE_TASKS[kind]
    both = kind == "table revenue"
    columns = 2 if both or (kind != "table lookup" and dice.chance(0.25)) else 1
    rows = rows_of(dice, columns)
    head = [dice.pick(ROW_KINDS), *dict.fromkeys(column(dice) for _ in range(columns))]
    while len(head) <= columns:
        head.append(dice.invented())
    asked_of = columns if both else dice.between(1, columns)
    row = dice.pick(rows)
    bound = dice.between(5, 90) if dice.chance(0.5) else int(row[asked_of]) - dice.between(1, 4)
    question = ask(dice, kind, v=head[asked_of], w=head[1], b=bound, r=row[0])
    text = table_text(dice, head, rows, headed=columns > 1 and not both)
    asked = dice.phrasing(FRAMES).replace("{q}", question).replace("{t}", text)
    code = program if both else program.replace("row[1]", f"row[{asked_of}]")
    code = code.replace("{b}", str(bound)).replace("{r}", row[0])
    return Task(asked, literal(rows) + code, answer)


FRAMES = [
    "{q}\n\n{t}",
    "{t}\n\n{q}",
    "{t}\n{q}",
    "Here is a table:\n{t}\n{q}",
    "Here is my data:\n\n{t}\n\n{q}",
    "{q}\n{t}",
    "{q}\n\n{t}",
    "{t}\n\n{q}",
    "I have this table:\n{t}\n{q}",
    "(My data/The data/The table/Data/Table/The list/My list):\n{t}\n\n{q}",
    "(These are my numbers/This is the table/Here it is/Here are the rows):\n\n{t}\n\n{q}",
    "(A question on/A question about/About) this table: {q}\n\n{t}",
    "(Given/Take/With) this table\n\n{t}\n\n{q}",
    "{q}\n\n(Here is the table/The table/The data/Data/Rows):\n{t}",
    "{q}\n\n(It is about/I mean/This is) the following:\n{t}",
    "(Consider/See/Use/Read/Study) this table:\n{t}\n{q}",
    "(My colleague/My boss/A customer) sent me this:\n\n{t}\n\n{q}",
    "(These are/Here are) (the results/our figures/the rows/the entries):\n{t}\n{q}",
    "(About the table below/About these rows/With the rows below): {q}\n{t}",
    "{q} (Here is the data/The table is below/I paste the table/The rows follow).\n\n{t}",
    "{q}\n\n(Input/Table/CSV/My rows/Figures):\n\n{t}",
    "(Question/My question): {q}\n\n(Table/Data/Rows):\n{t}",
    "(Table/Data/Rows):\n{t}\n\n(Question/My question/Task): {q}",
    "{t}\n\n(That is the table/That is all of it/These are all). {q}",
    "(Please look at/Have a look at/I pasted) this:\n\n{t}\n\n{q}",
    "(Hi, this/This) comes from my spreadsheet:\n\n{t}\n\n{q}",
    "Look at this table.\n\n{t}\n\n{q}",
]


def made_table(dice: Dice) -> Task:
    """A table of numbers that follow a rule."""
    kind, formula = dice.pick(
        [
            ("squares", "n ** 2"),
            ("cubes", "n ** 3"),
            ("multiples", f"n * {dice.between(2, 60)}"),
            ("formula", a_rule(dice)),
        ]
    )
    first = dice.between(1, 9) if kind == "formula" and dice.chance(0.6) else 1
    last = first + dice.between(2, 7)
    written = formula
    if kind == "multiples":
        written = formula.removeprefix("n * ")
    elif dice.chance(0.5):
        written = formula.replace(" ** ", "^")
    question = ask(dice, f"make {kind}", a=last, b=written, c=first)
    code = f"for n in range({first}, {last} + 1):\n    print(n, {formula})"
    return Task(question, code, "Here is the table:\n{}")


def a_rule(dice: Dice) -> str:
    a, b = dice.between(2, 20), dice.between(1, 50)
    forms = [f"n + {b}", f"{a} * n", f"{a} * n + {b}", f"{a} * n - {b}", f"n ** 2 + {b}"]
    return dice.pick([*forms, "n ** 4", "2 ** n", "3 ** n", f"{a} * n ** 2", f"{b} - n"])


# Files

READ_ROWS = 'import csv\nwith open("{path}") as file:\n    rows = list(csv.DictReader(file))\n'
READ_VALUES = READ_ROWS + 'values = [float(row["{column}"]) for row in rows]\n'
FILE_TASKS: dict[str, tuple[str, str]] = {
    "file rows": (READ_ROWS + "print(len(rows))", "{file} has {} rows."),
    "file columns": (READ_ROWS + 'print(", ".join(rows[0]))', "The columns are {}."),
    "file summary": (
        READ_ROWS + 'print(len(rows), "rows with the columns", ", ".join(rows[0]))',
        "{file} has {}.",
    ),
    "file mean": (
        READ_VALUES + "print(round(sum(values) / len(values), 4))",
        "The average {column} is {}.",
    ),
    "file total": (READ_VALUES + "print(round(sum(values), 4))", "The total {column} is {}."),
    "file highest": (READ_VALUES + "print(max(values))", "The highest {column} is {}."),
    "file lowest": (READ_VALUES + "print(min(values))", "The lowest {column} is {}."),
    "file median": (
        READ_VALUES.replace("import csv\n", "import csv\nimport statistics\n")
        + "print(round(statistics.median(values), 4))",
        "The median {column} is {}.",
    ),
    "file above": (
        READ_VALUES + "print(sum(value > {b} for value in values))",
        "The number of rows is {}.",
    ),
    "file words": (
        'with open("{path}") as file:\n    text = file.read()\nprint(len(text.split()))',
        "{file} has {} words.",
    ),
}


def file_task(dice: Dice) -> Task:
    kind = dice.pick([*FILE_TASKS, "file summary", "file mean"])
    is_text = kind == "file words"
    name = dice.file_name("txt", "md") if is_text else dice.file_name("csv")
    columns = dice.pick([1, 2, 2, 2, 3])
    head = [dice.pick([*ROW_KINDS, "date"]), *(column(dice) for _ in range(columns))]
    chosen, bound = dice.pick(head[1:]), dice.between(5, 500)
    program, answer = (
        part.replace("{path}", f"{FOLDER}/{name}")
        .replace("{column}", chosen)
        .replace("{file}", name)
        .replace("{b}", str(bound))
        for part in FILE_TASKS[kind]
    )
    rows = [head, *rows_of(dice, columns)]
    content = dice.sentence() if is_text else "\n".join(",".join(row) for row in rows)
    forms = ["{}", "{}", "{}", "the file {}", f"{FOLDER}/{{}}", "`{}`", '"{}"', "my file {}"]
    called = dice.pick(forms).replace("{}", name)
    quoted = f'"{chosen}"' if dice.chance(0.08) else chosen
    return Task(ask(dice, kind, f=called, c=quoted, b=bound), program, answer, {name: content})


# Plots and other files that are made

PLOT = "import matplotlib.pyplot as plt\n"
SAVE = f'plt.savefig("{FOLDER}/{{}}")'


TITLED = [
    ", titled {}",
    ", with the title {}",
    "( with/, with/ and) the title {}",
    ', (titled/with the title/entitled) "{}"',
    "( and/, and) (title it/call it/name it) {}",
    ". (The title is/Title:/Use the title/Title it/Give it the title) {}",
    ". (Put/Write/Set) {} (above it/on top/as the title/over it)",
    ". (It should be called/The headline is/Headline:/Heading:/It is about) {}",
    " (under the title/under the heading/with the heading/headed) {}",
    ', (heading/headline/title): "{}"',
    ". (It needs/It has/Add/And add/With) the title {}",
]
LABELLED = [
    ", with {x} on the x axis and {y} on the y axis",
    ", label the axes {x} and {y}",
    ". (Label/Name) the x axis {x} and the y axis {y}",
    ", x label {x}, y label {y}",
    " with the axis labels {x} and {y}",
    ". (The x axis is/x axis:/On the x axis:) {x}, (the y axis is/y:/at the side) {y}",
    ", (axes/labels/axis labels): {x} and {y}",
    ". Write {x} (under/below) the x axis and {y} (next to/at) the y axis",
    ", x is {x} and y is {y}",
]
SAVED = [
    " and (save it as/save it to/save it in/store it as/write it to/call the file) ",
    ", as ",
    " in the file ",
    ", (saved as/saved to/stored as/file name) ",
    ". (Save it as/Save to/The file is/File name:/Store it as) ",
    ". (I need it as/Put it in/Write it to/Keep it as/Export it as/The result goes to) ",
    " and (store it in/put it into/keep it in/export it to/name the file) ",
    ", (file/output/target/into): ",
    " -> ",
]


def plot(dice: Dice) -> Task:
    kind = dice.pick(["bar chart", "line chart", "pie chart", "histogram", "scatter plot", "curve"])
    name = dice.file_name("png") if dice.chance(0.25) else "plot.png"
    question, drawn = curve(dice) if kind == "curve" else chart(dice, kind)
    tail = ""
    if dice.chance(0.25):
        title = dice.pick([dice.title(), dice.phrase(1, 2), dice.phrase(1, 3).capitalize()])
        question = question.rstrip("?.") + dice.expanded(dice.pick(TITLED)).replace("{}", title)
        tail = f'plt.title("{title}")\n'
    if kind != "pie chart" and dice.chance(0.1):
        x, y = dice.word(), dice.word()
        asked_for = dice.expanded(dice.pick(LABELLED)).replace("{x}", x).replace("{y}", y)
        question = question.rstrip("?.") + asked_for
        tail += f'plt.xlabel("{x}")\nplt.ylabel("{y}")\n'
    if name != "plot.png":
        saved = dice.expanded(dice.pick(SAVED))
        question = question.rstrip("?.") + saved + name
    code = PLOT + drawn + tail + SAVE.replace("{}", name)
    return Task(question, code, f"Here is the {kind}", makes=name)


def chart(dice: Dice, kind: str) -> tuple[str, str]:
    numbers = number_list(dice, 3, 8)
    listed_numbers = ", ".join(numbers)
    if kind == "scatter plot":
        others = [str(dice.between(1, 99)) for _ in numbers]
        if dice.chance(0.25):
            points = ", ".join(f"({x}, {y})" for x, y in zip(numbers, others, strict=True))
            question = ask(dice, "scatter points", l=points)
            return question, f"plt.scatter([{listed_numbers}], [{', '.join(others)}])\n"
        question = ask(dice, kind, l=listed_numbers, k=", ".join(others))
        return question, f"plt.scatter([{listed_numbers}], [{', '.join(others)}])\n"
    if kind == "histogram":
        return ask(dice, kind, l=as_written(dice, numbers)), f"plt.hist([{listed_numbers}])\n"
    if kind == "line chart" and dice.chance(0.6):
        return ask(dice, kind, l=as_written(dice, numbers)), f"plt.plot([{listed_numbers}])\n"
    if kind == "bar chart" and dice.chance(0.4):
        drawn = f"values = [{listed_numbers}]\nplt.bar(range(len(values)), values)\n"
        return ask(dice, kind, l=as_written(dice, numbers)), drawn
    return labelled_chart(dice, kind)


def labelled_chart(dice: Dice, kind: str) -> tuple[str, str]:
    """Of pairs of a name and a number."""
    names = row_names(dice)
    numbers = [str(dice.between(1, 999)) for _ in names]
    forms = ["{} {}", "{} {}", "{}: {}", "{}: {}", "{} = {}", "{} ({})", "{} with {}"]
    form = dice.pick([*forms, "{} has {}", "{}, {}", "{} {}%", "{} - {}", "{}={}"])
    joint = dice.pick([", ", ", ", ", ", ", ", "; ", "\n"]) if form != "{}, {}" else "; "
    pairs = [form.format(*pair) for pair in zip(names, numbers, strict=True)]
    text = joint.join(pairs)
    if joint == ", " and dice.chance(0.25):
        text = f"{', '.join(pairs[:-1])} and {pairs[-1]}"
    quoted = ", ".join(f'"{name}"' for name in names)
    given = f"[{quoted}], [{', '.join(numbers)}]"
    calls = {"bar chart": f"plt.bar({given})\n", "line chart": f"plt.plot({given})\n"}
    pie = f"plt.pie([{', '.join(numbers)}], labels=[{quoted}])\n"
    return ask(dice, kind, l=text), calls.get(kind, pie)


def curve(dice: Dice) -> tuple[str, str]:
    a, b = dice.between(2, 9), dice.between(1, 20)
    forms = ["x ** 2", "x ** 3", f"{a} * x + {b}", f"x ** 2 - {b}", f"{a} * x ** 2"]
    forms += [f"{a} * x", f"{a} * x - {b}", f"x ** 2 + {b}", f"x ** 2 + {a} * x", f"x + {b}"]
    code = dice.pick(forms)
    written = code if dice.chance(0.4) else code.replace(" ** ", "^").replace(" * ", "")
    if dice.chance(0.2):
        written = written.replace(" ", "")
    first, last = dice.between(-20, 0), dice.between(1, 20)
    drawn = f"x = range({first}, {last + 1})\nplt.plot(x, [{code.replace('x', 'n')} for n in x])\n"
    return ask(dice, "curve", a=written, b=first, c=last), drawn


def save_text(dice: Dice) -> Task:
    name, text = dice.file_name("txt", "md"), dice.phrase(1, 4)
    code = f'with open("{FOLDER}/{name}", "w") as file:\n    file.write("{text}")'
    return Task(ask(dice, "save text", a=text, f=name), code, "Here is the file", makes=name)


def save_table(dice: Dice) -> Task:
    name, rows = dice.file_name("csv"), rows_of(dice, columns=1)
    head = [dice.pick(["name", "item", "city"]), column(dice)]
    question = ask(dice, "save table", f=name)
    text = "\n".join(",".join(line) for line in [head, *rows])
    lines = ", ".join(f'("{a}", "{b}")' for a, b in [head])
    code = (
        "import csv\n"
        + literal(rows).replace("rows = [", f"rows = [{lines}, ")
        + f'with open("{FOLDER}/{name}", "w") as file:\n    csv.writer(file).writerows(rows)'
    )
    return Task(f"{question}\n\n{text}", code, "Here is the file", makes=name)


CALCULATIONS: list[Callable[[Dice], Task]] = [
    *[operation] * 14,
    *[expression] * 5,
    *[formula] * 16,
    *[percent, equation, convert] * 3,
    *[whole_parts, needed, rounding, absolute, larger],
    *[power, root, factorial, gcd, lcm, prime, primes, divisors, fibonacci, sum_to],
    *[to_fahrenheit, to_celsius, circle, circumference, hypotenuse, interest],
    *[days, weekday, later, binary, from_binary, hexadecimal],
    *[reverse, letters, occurrences, palindrome, words],
]
KINDS: list[tuple[Callable[[Dice], Task], int]] = [
    (lambda dice: dice.pick(CALCULATIONS)(dice), 42),
    (two_calculations, 4),
    (statistic, 20),
    (sort, 3),
    (table, 16),
    (made_table, 5),
    (file_task, 13),
    (plot, 20),
    (save_text, 2),
    (save_table, 2),
]


# Those whose wording is no other task's: without an interpreter, they are declined.
UNAIDED: list[Callable[[Dice], Task]] = [
    *[formula, statistic] * 3,
    *[percent, equation, convert] * 2,
    *[power, root, factorial, gcd, lcm, prime, sum_to, expression, whole_parts, needed, rounding],
    *[to_fahrenheit, to_celsius, circle, circumference, interest, days],
]


def task(dice: Dice) -> Task:
    kinds, weights = zip(*KINDS, strict=True)
    return dice.random.choices(kinds, weights)[0](dice)


# What goes wrong


@dataclass(frozen=True, slots=True)
class Failure:
    """A program that does not run, and how Python says so."""

    code: str
    error: str


def without_import(dice: Dice, code: str) -> Failure | None:
    first, _, rest = code.partition("\n")
    if not first.startswith("import ") or " as " in first:
        return None
    return Failure(rest, f"NameError: name '{first.removeprefix('import ')}' is not defined")


def unclosed(dice: Dice, code: str) -> Failure | None:
    return Failure(code[:-1], "SyntaxError: '(' was never closed") if code[-1] == ")" else None


def misspelled(dice: Dice, code: str) -> Failure | None:
    """A name that the program has defined, with a letter missing where it is used."""
    for name in ("numbers", "rows", "values"):
        head, found, tail = code.rpartition(name)
        if found and f"{name} = " in head:
            wrong = name[:2] + name[3:]
            return Failure(head + wrong + tail, f"NameError: name '{wrong}' is not defined")
    return None


def with_strings(dice: Dice, code: str) -> Failure | None:
    if "numbers = [" not in code or "sum(" not in code:
        return None
    head, _, rest = code.partition("numbers = [")
    inner, _, tail = rest.partition("]")
    quoted = ", ".join(f'"{number}"' for number in inner.split(", "))
    error = "TypeError: unsupported operand type(s) for +: 'int' and 'str'"
    return Failure(f"{head}numbers = [{quoted}]{tail}", error)


def with_pandas(dice: Dice, code: str) -> Failure | None:
    if "csv.DictReader" not in code:
        return None
    path = code.partition('open("')[2].partition('"')[0]
    wrong = f'import pandas as pd\ndata = pd.read_csv("{path}")\nprint(data.describe())'
    return Failure(wrong, "ModuleNotFoundError: No module named 'pandas'")


MISTAKES = [without_import, unclosed, misspelled, with_strings, with_pandas]


def mistake(dice: Dice, code: str) -> Failure | None:
    made = (kind(dice, code) for kind in dice.shuffled(MISTAKES))
    return next((failure for failure in made if failure), None)


def out_of_reach(dice: Dice, code: str) -> str:
    """An error that no other program would avoid."""
    errors = ["MemoryError", "TimeoutError: the time limit was reached", "KeyboardInterrupt"]
    if "/mnt/data/" in code:
        path = code.partition('("')[2].partition('"')[0]
        errors += [f"FileNotFoundError: [Errno 2] No such file or directory: '{path}'"] * 4
    if "matplotlib" in code:
        errors += ["ModuleNotFoundError: No module named 'matplotlib'"] * 4
    return dice.pick(errors)


def traceback(dice: Dice, error: str) -> str:
    place = dice.pick(['File "<stdin>", line', 'File "<string>", line', "Cell In[1], line"])
    return (
        f"Traceback (most recent call last):\n  {place} {dice.between(1, 6)}, in <module>\n{error}"
    )


# Exchanges


def code_exchange(scene: Scene) -> None:
    """A task; now and then its program fails first, and now and then for good."""
    dice = scene.dice
    chosen = task(dice)
    if scene.facts.get("numbers") and dice.chance(0.5):
        chosen = more_statistics(dice, scene.facts["numbers"])
    if chosen.numbers:
        scene.facts["numbers"] = chosen.numbers
    asked(scene, chosen)
    roll = dice.random.random()
    if roll < 0.05:
        failed(scene, chosen.code, out_of_reach(dice, chosen.code))
        return
    if roll < 0.17 and (flawed := mistake(dice, chosen.code)):
        ran(scene, flawed.code, traceback(dice, flawed.error))
        if dice.chance(0.1):
            failed(scene, chosen.code, flawed.error)
            return
    succeeded(scene, chosen)


def one_calculation(scene: Scene) -> None:
    """A computation that works at once."""
    succeeded_at(scene, scene.dice.pick(CALCULATIONS)(scene.dice))


def one_table(scene: Scene) -> None:
    """A question about a table that works at once."""
    succeeded_at(scene, table(scene.dice))


def succeeded_at(scene: Scene, chosen: Task) -> None:
    asked(scene, chosen)
    succeeded(scene, chosen)


def asked(scene: Scene, chosen: Task) -> None:
    """The request; a file that it is about may be named beside it alone."""
    text = scene.dice.surface(chosen.question, ends="?")
    if scene.dice.chance(0.07):
        text = f"{scene.dice.pick(LEADS)} {text}"
    if chosen.files and scene.dice.chance(0.3):
        (name,) = chosen.files
        scene.user(text.replace(f"{FOLDER}/{name}", name) + f"\n\nFiles: {FOLDER}/{name}")
    else:
        scene.user(text)


def ran(scene: Scene, code: str, output: str) -> None:
    scene.call([(CODE, {SOURCE: code})])
    scene.result(output)


def failed(scene: Scene, code: str, error: str) -> None:
    ran(scene, code, traceback(scene.dice, error))
    scene.reply(f"The code failed: {error}.", "Failed.")


def succeeded(scene: Scene, chosen: Task) -> None:
    output = chosen.output()
    shown_output = output
    if chosen.makes:
        path = f"{FOLDER}/{chosen.makes}"
        shown_output = scene.dice.pick(
            ["", "", "(no output)", chosen.makes, path, f"Files: {path}"]
        )
    ran(scene, chosen.code, shown_output)
    scene.reply(chosen.told(output), "Done.")
