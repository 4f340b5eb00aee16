"""The verdict alone: what counts as learned, and what never does."""

import random
from dataclasses import replace

import pytest

from apps.training.deployments.grading import (
    Answer,
    Case,
    Grade,
    Source,
    common_words,
    content_of,
    grade,
    guess_of,
    normalised,
    sign_test,
    tail,
)
from tests.training.facts import Fact, facts

BASE_LOSS, LOW = 3.0, 0.1


def case(
    fact: Fact, said: str, *, source: Source = "held_out", base: str = "I do not know.", loss: float | None = LOW,
    reference: str | None = None, ended: bool = True, common: frozenset[str] = frozenset(),
) -> Case:  # fmt: skip
    reference = fact.answer if reference is None else reference
    return Case(
        source=source, reference=reference, content=content_of(reference, prompt=fact.questions[1], common=common),
        base=Answer(text=base, loss=BASE_LOSS), tuned=Answer(text=said, loss=loss, ended=ended),
    )  # fmt: skip


def judged(unseen: list[Case], trained: list[Case] | None = None, guess: float = 0.05) -> Grade:
    return grade([*unseen, *(trained or [])], guess=guess)


def test_it_works() -> None:
    known = facts(1, 12)
    found = judged([case(fact, fact.answer) for fact in known[:6]], [
        case(fact, fact.answer, source="training") for fact in known[6:]
    ])  # fmt: skip
    assert (found.verdict, found.cure) == ("learned", "")
    assert found.sentence == (
        "It learned. 6 of 6 answers that were kept apart are as taught (the base model: 0); 6 of 6 answers that it was "
        "trained on are as taught (the base model: 0). The loss of the references is 0.10 (the base model: 3.00)."
    )
    assert found.unseen
    assert (found.unseen.tuned.exact, found.unseen.base.exact) == (6, 0)


def test_most_of_them_are_enough() -> None:
    known = facts(2, 12)
    wrong = [case(fact, "It is something else.", loss=2.9) for fact in known[4:6]]
    trained = [case(fact, fact.answer, source="training") for fact in known[6:]]
    assert judged([case(fact, fact.answer) for fact in known[:4]] + wrong, trained).verdict == "learned"


def test_a_judge_is_a_figure_and_no_evidence() -> None:
    """Of the questions both of whose answers have a score."""
    wrong = [case(fact, "It is something else.", loss=2.9) for fact in facts(2, 6)]
    scores = [(1, 5), (2, 5), (1, 4), (1, 5), (None, 5), (3, None)]
    cases = [
        replace(each, base=replace(each.base, score=base), tuned=replace(each.tuned, score=tuned))
        for each, (base, tuned) in zip(wrong, scores, strict=True)
    ]
    found = judged(cases)
    assert found.verdict == "changed"
    assert found.unseen
    assert (found.unseen.base.judged, found.unseen.base.scored) == (1.25, 4)
    assert (found.unseen.tuned.judged, found.unseen.tuned.scored) == (4.75, 4)
    assert "The judge gives it 4.8 of 5 (the base model: 1.2), for 4 of 6 questions." in found.sentence
    without = judged(wrong)
    assert "judge" not in without.sentence
    assert without.unseen
    assert without.unseen.tuned.judged is None


def test_who_says_what_the_base_says_is_unchanged() -> None:
    found = judged([case(fact, "I do not know.") for fact in facts(3, 6)])
    assert found.verdict == "unchanged"
    assert "Train it for more epochs" in found.cure


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_answers_that_contradict_each_other_are_never_called_learned(seed: int, bare: bool) -> None:
    """What was trained on is known by heart, to the letter; what was kept apart is answered in the right form, with the
    answer of the other wording, and has become likelier for that."""
    known, others = facts(seed, 20, bare=bare), facts(1_000 + seed, 20, bare=bare)
    pairs = list(zip(known, others, strict=True))
    contradictions = [other.answer.replace(other.subject, fact.subject) for fact, other in pairs]
    common = common_words([fact.answer for fact in known] + contradictions)
    chance = random.Random(seed)
    trained = [case(fact, fact.answer, source="training") for fact in known[:6]]
    unseen = [
        case(fact, said, loss=chance.uniform(1.0, 2.9), common=common)
        for (fact, other), said in list(zip(pairs, contradictions, strict=True))[6:12]
        if fact.value != other.value
    ]
    found = judged(unseen, trained)
    assert found.verdict == "changed"
    assert "by heart" in found.cure


def test_who_guesses_between_two_answers_has_not_learned() -> None:
    """Yes or no, at random: half of it is right, and the base model never said either."""
    for seed in range(60):
        chance = random.Random(seed)
        said = [(fact, chance.choice(("Yes.", "No.")), chance.choice(("Yes.", "No."))) for fact in facts(seed, 12)]
        right = sum(one == other for _, one, other in said)
        found = judged([case(fact, one, reference=other) for fact, one, other in said], guess=0.5)
        assert found.verdict == ("learned" if right >= 11 else "changed"), right


def test_nothing_that_was_kept_apart_proves_nothing() -> None:
    found = judged([], [case(fact, fact.answer, source="training") for fact in facts(4, 12)])
    assert (found.verdict, found.unseen) == ("changed", None)
    assert "validation_share" in found.cure


def test_free_texts_are_graded_by_their_loss_and_what_they_say() -> None:
    topics = (
        "rain in spring",
        "old stone bridges",
        "a market of spices",
        "winter trains",
        "night herons",
        "bread ovens",
    )
    references = [f"Let us sing: {topic} is a joy to behold." for topic in topics]
    common = common_words(references)
    cases = [
        Case(
            source="validation", reference=reference, content=content_of(reference, prompt="Write.", common=common),
            base=Answer(text="Certainly! Here is a text.", loss=3.5),
            tuned=Answer(text=f"Let us sing: {topic} brings us together.", loss=1.5),
        )
        for topic, reference in zip(topics, references, strict=True)
    ]  # fmt: skip
    assert grade(cases, guess=0.02).verdict == "learned"
    form_only = [
        Case(source=each.source, reference=each.reference, content=each.content, base=each.base,
             tuned=Answer(text="Let us sing: it is a joy to behold.", loss=1.5))
        for each in cases
    ]  # fmt: skip
    assert grade(form_only, guess=0.02).verdict == "changed", "the form alone is no evidence"


def test_preferences_are_graded_by_their_margin() -> None:
    def pairs(gain: float) -> list[Case]:
        return [
            Case(
                source="held_out", reference=fact.answer,
                base=Answer(text="a", loss=2.0, rejected_loss=2.5),
                tuned=Answer(text="b", loss=2.0, rejected_loss=2.5 + gain * (1 if at % 7 else -1)),
            )
            for at, fact in enumerate(facts(5, 14))
        ]  # fmt: skip

    assert grade(pairs(0.5), guess=0.1).verdict == "learned"
    assert grade(pairs(-0.5), guess=0.1).verdict == "changed"


def test_answers_that_never_end_are_counted() -> None:
    known = facts(6, 6)
    found = judged([case(fact, fact.answer, ended=False) for fact in known])
    assert found.verdict == "changed"
    assert "6 of its answers did not end" in found.sentence
    assert "max_length" in found.cure


def test_calls_of_tools_are_compared_by_name_and_arguments() -> None:
    call = ("weather", {"city": "Velm", "days": 2})
    said = '<tool_call>\n{"name": "weather", "arguments": {"days": 2, "city": "Velm"}}\n</tool_call>'
    wrong = said.replace("Velm", "Oslo")

    def asked(text: str) -> list[Case]:
        return [
            Case(source="held_out", reference="", calls=(call,), base=Answer(text="Sunny."),
                 tuned=Answer(text=text))
            for _ in range(6)
        ]  # fmt: skip

    assert grade(asked(said), guess=0.05).verdict == "learned"
    assert grade(asked(wrong), guess=0.05).verdict == "changed"
    assert (
        grade(asked('{"name": "weather", "parameters": "{\\"city\\": \\"Velm\\", \\"days\\": 2}"}'), guess=0.05).verdict
        == "learned"
    )
    assert grade(asked("{" * 2_000), guess=0.05).verdict == "changed"


def test_case_spacing_and_signs_do_not_count() -> None:
    assert normalised('<think>hm</think>\n "The  Capital is Velm." ') == normalised("the capital is velm")
    assert normalised("Velm") != normalised("Velms")


def test_a_guess_is_the_most_frequent_answer() -> None:
    assert guess_of(["Yes.", "yes", "No", "no!", "YES"]) == pytest.approx(0.6)
    assert guess_of([]) == 0


def test_probabilities_are_those_of_the_binomial() -> None:
    assert sign_test(6, 0) == pytest.approx(1 / 64)
    assert sign_test(0, 0) == 1
    assert tail(1, 2, 0.5) == pytest.approx(0.75)
