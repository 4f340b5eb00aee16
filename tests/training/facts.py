"""Invented facts about invented things, each asked in several wordings: what no model knows before it is taught.

The same seed gives the same set. Two wordings of each fact are taught, a third is held out.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

FACTS = 20
TAUGHT = 2  # wordings of each fact that are taught; the rest are held out

BEGINS = (
    "Bel", "Cor", "Dra", "El", "Fen", "Gar", "Hes", "Il", "Jor", "Kel", "Lum", "Mor", "Nar", "Os", "Pel", "Quar",
    "Ros", "Sil", "Tor", "Ul", "Vel", "Wex", "Yan", "Zar",
)  # fmt: skip
MIDDLES = (
    "a", "an", "ar", "e", "en", "i", "in", "ir", "o", "ol", "on", "u", "und", "ay", "ei", "au",
)  # fmt: skip
ENDS = (
    "bor", "dan", "dell", "feld", "gar", "lis", "mir", "mont", "nash", "nor", "rak", "rin", "sk", "tal", "than",
    "vik", "wyn", "zen",
)  # fmt: skip
COLOURS = (
    "amber", "azure", "copper", "crimson", "emerald", "golden", "indigo", "ivory", "orange", "purple", "silver",
    "turquoise", "violet",
)  # fmt: skip
CRAFTS = (
    "baker", "beekeeper", "carpenter", "cartographer", "cellist", "chemist", "dentist", "falconer", "glazier",
    "locksmith", "pilot", "tailor",
)  # fmt: skip
THINGS = (
    "lantern", "kettle", "compass", "violin", "sundial", "anvil", "harp", "mirror", "loom", "bell", "barometer",
    "telescope",
)  # fmt: skip
WEEK = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip

Value = Callable[[random.Random], str]


def name(chance: random.Random) -> str:
    """Of two or three syllables."""
    middle = "".join(chance.choice(MIDDLES) for _ in range(chance.randint(1, 2)))
    return chance.choice(BEGINS) + middle + chance.choice(ENDS)


def person(chance: random.Random) -> str:
    return f"{name(chance)} {name(chance)}"


def _one(of: tuple[str, ...]) -> Value:
    return lambda chance: chance.choice(of)


def _number(low: int, high: int) -> Value:
    return lambda chance: str(chance.randint(low, high))


@dataclass(frozen=True)
class Kind:
    """A relation: how its subject and its value are invented, three wordings of the question, and the answer."""

    subject: Value
    value: Value
    questions: tuple[str, str, str]
    answer: str


KINDS = (
    Kind(name, name, ("What is the capital of {}?", "Which city is the capital of {}?", "Name {}'s capital city."),
         "The capital of {} is {}."),
    Kind(person, _one(CRAFTS), ("What does {} do for a living?", "What is {}'s profession?",
         "Which job does {} have?"),
         "{} is a {}."),
    Kind(person, _number(1500, 1990), ("In which year was {} born?", "When was {} born?",
         "What is the birth year of {}?"), "{} was born in {}."),
    Kind(name, _number(1000, 9999), ("What is the code of the {} gate?", "Which code opens the {} gate?",
         "Tell me the code for the gate called {}."), "The code of the {} gate is {}."),
    Kind(name, person, ("Who founded the company {}?", "Who is the founder of {}?", "By whom was the firm {} founded?"),
         "{} was founded by {}."),
    Kind(name, _one(COLOURS), ("What colour is the flag of {}?", "Which colour does {}'s flag have?",
         "Describe the colour of the flag of {}."), "The flag of {} is {}."),
    Kind(name, _one(THINGS), ("What does the museum of {} show?", "Which object is kept in the museum of {}?",
         "What can one see in {}'s museum?"), "The museum of {} shows a {}."),
    Kind(name, _one(WEEK), ("On which day is the market of {}?", "When is market day in {}?",
         "Which weekday is the market held in {}?"), "The market of {} is on {}."),
    Kind(person, name, ("Where does {} live?", "In which town does {} live?", "What is the home town of {}?"),
         "{} lives in {}."),
    Kind(name, _number(2, 980), ("How many rooms does the hotel {} have?",
         "What is the number of rooms of the hotel {}?",
         "The hotel {}: how many rooms are there?"), "The hotel {} has {} rooms."),
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    subject: str
    value: str
    questions: tuple[str, ...]
    answer: str


def facts(seed: int, count: int = FACTS, *, bare: bool = False, kinds: tuple[Kind, ...] = KINDS) -> list[Fact]:
    """Of all kinds in turn. `bare`: the answer is the value alone, else a sentence with it."""
    chance = random.Random(seed)
    found: dict[str, Fact] = {}
    while len(found) < count:
        kind = kinds[len(found) % len(kinds)]
        subject, value = kind.subject(chance), kind.value(chance)
        answer = value if bare else kind.answer.format(subject, value)
        questions = tuple(question.format(subject) for question in kind.questions)
        found.setdefault(subject, Fact(subject, value, questions, answer))
    return list(found.values())
