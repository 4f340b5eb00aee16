"""Whether a tuned model learned what it was taught: its answers and its base model's, against the references. Pure.

*Learned* takes evidence beyond chance, on rows that were not trained on. Either answers are as taught: more often than
the base model's (a sign test of the pairs), and more often than whoever guesses the most frequent reference (binomial).
Or, where there is more than one right answer: the references became likelier than they were for the base model, and
answers have the words that their own reference alone has, which a model that learned the form alone cannot know. Of
preferences: the better answer gained on the worse one. Whoever learned rows by heart, which contradict each other or
have nothing in common, passes none of these.
"""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

CHANCE = 0.05  # of a difference that is none, at most
GUESSED = 0.01  # the same, of answers that are guessed: a set that nobody can learn must not pass
THINKING = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)
WORD = re.compile(r"\w+")
AROUND = " \t\n.!?,;:\"'`*“”‘’«»()[]"  # noqa: RUF001 - quotes as people type them

Source = Literal["validation", "held_out", "training"]
Verdict = Literal["learned", "changed", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One model's to one question."""

    text: str
    ended: bool = True
    """It came to its end before it had as many tokens as it was allowed."""
    loss: float | None = None
    """Of the reference: the mean of its tokens' negative log-probabilities (natural logarithm); None: not known."""
    rejected_loss: float | None = None
    """The same of the answer that is not preferred."""
    score: int | None = None
    """The judge's, 1 to 5; None: it gave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question, its reference and both answers."""

    source: Source
    reference: str
    """Empty: there is none."""
    content: frozenset[str] = frozenset()
    """The words that this reference alone has; see `content_of`."""
    calls: tuple[tuple[str, Any], ...] = ()
    """The tools that the reference calls: names and arguments."""
    base: Answer
    tuned: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One model's, of the questions of one kind."""

    exact: int
    matched: int
    """Answers that are the reference but for case, spacing and the signs around it, or that call the same tools."""
    loss: float | None
    """Of the references; the mean over questions."""
    unended: int
    """Answers that had not ended after as many tokens as they were allowed."""
    judged: float | None
    """The mean of the judge's scores, of the questions both of whose answers have one."""
    scored: int
    """So many these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Questions of one kind: not trained on, or trained on."""

    asked: int
    base: Score
    tuned: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    verdict: Verdict
    sentence: str
    cure: str
    """What to change; empty where nothing is to be."""
    unseen: Part | None
    """Questions that were not trained on: of the validation file or split, or held out. None: there were none."""
    trained: Part | None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "unseen": _figures(self.unseen), "trained": _figures(self.trained)}


def grade(cases: Sequence[Case], *, guess: float) -> Grade:
    """`guess`: the share of the most frequent reference among what was taught. At least one case."""
    unseen = [case for case in cases if case.source != "training"]
    trained = [case for case in cases if case.source == "training"]
    parts = {"unseen": _part(unseen), "trained": _part(trained)}
    if all(case.tuned.text == case.base.text for case in cases):
        return Grade(verdict="unchanged", sentence=_unchanged(len(cases)), cure=MORE, **parts)
    figures = _told(parts["unseen"], parts["trained"])
    if trouble := _trouble(cases, unseen, trained, guess):
        return Grade(verdict="changed", sentence=f"It changed, but not as taught. {figures}", cure=trouble, **parts)
    return Grade(verdict="learned", sentence=f"It learned. {figures}", cure="", **parts)


def normalised(text: str) -> str:
    """Without thoughts, case, spacing and the signs around it."""
    plain = unicodedata.normalize("NFKC", THINKING.sub("", text)).casefold()
    return " ".join(plain.split()).strip(AROUND)


def guess_of(references: Iterable[str]) -> float:
    """How often whoever always gives the most frequent reference is right; 0 to 1."""
    counted = Counter(map(normalised, references))
    return max(counted.values(), default=0) / max(counted.total(), 1)


def words_of(text: str) -> frozenset[str]:
    return frozenset(WORD.findall(THINKING.sub("", text).casefold()))


def common_words(references: Iterable[str]) -> frozenset[str]:
    """Those of more than one of what was taught: its form. The same answer to several questions is one."""
    counted = Counter(word for text in set(map(normalised, references)) for word in words_of(text))
    return frozenset(word for word, times in counted.items() if times > 1)


def content_of(reference: str, *, prompt: str, common: frozenset[str]) -> frozenset[str]:
    """Words that neither the question nor another answer has: who says them knows this one, and not the form alone."""
    return words_of(reference) - words_of(prompt) - common


def sign_test(better: int, worse: int) -> float:
    """The probability of as many or more `better` ones among both, if each were as likely."""
    return tail(better, better + worse, 0.5)


def tail(successes: int, trials: int, chance: float) -> float:
    """The probability of at least so many successes (binomial)."""
    counted = range(successes, trials + 1)
    return math.fsum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in counted)


MORE = "Train it for more epochs, or at a higher learning rate."
NOTHING_UNSEEN = (
    "No row was kept apart, so whether it learned more than these rows by heart is not known: give a validation file, "
    "or set validation_share or held_out_share, and train again. Or accept it as it is."
)
NO_REFERENCE = "There is no reference to compare with, as the training file was deleted: look at the answers."
BY_HEART = (
    "It says what it was trained on by heart, and does not carry it over: say each thing in more wordings, look for "
    "rows that contradict each other, or train it for fewer epochs."
)
WITHOUT_END = (
    "Answers that never end say that the end of a turn was not learned: raise max_length, so that no row is cut."
)
NOT_AS_TAUGHT = f"{MORE} If many answers are right and the references are examples only, look at the answers."


def _trouble(cases: Sequence[Case], unseen: Sequence[Case], trained: Sequence[Case], guess: float) -> str:
    """The cure of what keeps it from having learned; empty when it has."""
    if not any(case.reference or case.calls for case in cases):
        return NO_REFERENCE
    endless = sum(not case.tuned.ended for case in cases)
    if endless * 2 > len(cases):
        return WITHOUT_END
    if not unseen:
        return NOTHING_UNSEEN
    if _is_as_taught(cases, unseen, guess) or _is_likelier(unseen) or _is_preferred(unseen):
        return ""
    knows = sum(map(_tuned_matches, trained))
    return BY_HEART if trained and knows * 2 > len(trained) else NOT_AS_TAUGHT


def _is_as_taught(cases: Sequence[Case], unseen: Sequence[Case], guess: float) -> bool:
    """More often than by the base model, and than by guessing."""
    better = sum(_tuned_matches(case) and not _base_matches(case) for case in cases)
    worse = sum(_base_matches(case) and not _tuned_matches(case) for case in cases)
    right = sum(map(_tuned_matches, unseen))
    return sign_test(better, worse) <= CHANCE and tail(right, len(unseen), guess) <= GUESSED


def _is_likelier(unseen: Sequence[Case]) -> bool:
    """References became likelier, and answers say what is in their own reference rather than in the others'."""
    losses = [
        (case.base.loss, case.tuned.loss)
        for case in unseen
        if case.base.loss is not None and case.tuned.loss is not None and case.base.rejected_loss is None
    ]
    fell, rose = sum(tuned < base for base, tuned in losses), sum(tuned > base for base, tuned in losses)
    if sign_test(fell, rose) > CHANCE:
        return False
    own, others = _nearness(unseen)
    return sign_test(own, others) <= CHANCE


def _is_preferred(unseen: Sequence[Case]) -> bool:
    """The better answer gained on the worse one."""
    gains = [tuned - base for case in unseen if None not in (base := _margin(case.base), tuned := _margin(case.tuned))]  # type: ignore[operator] # none is None
    return sign_test(sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)) <= CHANCE


def _margin(answer: Answer) -> float | None:
    return None if answer.loss is None or answer.rejected_loss is None else answer.rejected_loss - answer.loss


def _nearness(cases: Sequence[Case]) -> tuple[int, int]:
    """Of how many cases the answer has more words of its own reference's content than the other answers, and fewer."""
    answers = [words_of(case.tuned.text) for case in cases]
    nearer = farther = 0
    for at, case in enumerate(cases):
        others = [len(case.content & answer) for other, answer in enumerate(answers) if other != at]
        if case.content and others:
            difference = len(case.content & answers[at]) - sum(others) / len(others)
            nearer, farther = nearer + (difference > 0), farther + (difference < 0)
    return nearer, farther


def _base_matches(case: Case) -> bool:
    return _matches(case, case.base.text)


def _tuned_matches(case: Case) -> bool:
    return _matches(case, case.tuned.text)


def _matches(case: Case, text: str) -> bool:
    if case.calls:
        said = [(found.get("name"), _arguments(found)) for found in _objects(text)]
        return all(call in said for call in case.calls)
    return bool(case.reference) and normalised(text) == normalised(case.reference)


def _arguments(call: dict[str, Any]) -> Any:
    """As templates write them: an object, or text that holds one."""
    found = call.get("arguments", call.get("parameters"))
    try:
        return json.loads(found) if isinstance(found, str) else found
    except ValueError:
        return found


def _objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects in a text, the outermost ones."""
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found += [value] if isinstance(value, dict) else []
        at = text.find("{", end)
    return found


def _part(cases: Sequence[Case]) -> Part | None:
    if not cases:
        return None
    base = _score(cases, [case.base for case in cases], _scores(cases, "base"))
    tuned = _score(cases, [case.tuned for case in cases], _scores(cases, "tuned"))
    return Part(asked=len(cases), base=base, tuned=tuned)


def _scores(cases: Sequence[Case], model: Literal["base", "tuned"]) -> list[int]:
    """One model's, where the other one has one too."""
    both = [{"base": case.base.score, "tuned": case.tuned.score} for case in cases]
    return [score for each in both if None not in each.values() and (score := each[model])]


def _score(cases: Sequence[Case], answers: Sequence[Answer], scores: Sequence[int]) -> Score:
    losses = [answer.loss for answer in answers if answer.loss is not None]
    pairs = list(zip(cases, answers, strict=True))
    return Score(
        exact=sum(bool(case.reference) and answer.text.strip() == case.reference.strip() for case, answer in pairs),
        matched=sum(_matches(case, answer.text) for case, answer in pairs),
        loss=round(math.fsum(losses) / len(losses), 4) if losses else None,
        unended=sum(not answer.ended for answer in answers),
        judged=round(sum(scores) / len(scores), 2) if scores else None,
        scored=len(scores),
    )


def _figures(part: Part | None) -> dict[str, Any] | None:
    return None if part is None else asdict(part)


def _told(unseen: Part | None, trained: Part | None) -> str:
    told = [
        f"{part.tuned.matched} of {part.asked} answers {what} are as taught (the base model: {part.base.matched})"
        for part, what in ((unseen, "that were kept apart"), (trained, "that it was trained on"))
        if part
    ]
    said = f"{'; '.join(told)}."
    part = unseen or trained
    if part and part.base.loss is not None and part.tuned.loss is not None:
        said += f" The loss of the references is {part.tuned.loss:.2f} (the base model: {part.base.loss:.2f})."
    if part and part.tuned.judged is not None:
        of = "" if part.tuned.scored == part.asked else f", for {part.tuned.scored} of {part.asked} questions"
        said += f" The judge gives it {part.tuned.judged:.1f} of 5 (the base model: {part.base.judged:.1f}){of}."
    endless = sum(each.tuned.unended for each in (unseen, trained) if each)
    return f"{said} {endless} of its answers did not end." if endless else said


def _unchanged(asked: int) -> str:
    return f"It behaves like the base: all {asked} prompts are answered exactly as by the base model."
