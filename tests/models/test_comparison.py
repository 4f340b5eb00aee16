"""An adapter's answers beside its base model's, with the last bits that other requests turn."""

from collections.abc import Iterator

from apps.models.engines.canary import Canary
from apps.models.engines.comparison import PROMPTS, changes_nothing, differs


def says(*numbers: float) -> Canary:
    return Canary(("a",), numbers)


class Engine:
    """Answers with what was given, in this order, and then with the last again and again."""

    def __init__(self, *answers: Canary) -> None:
        self._answers: Iterator[Canary] = iter(answers)
        self._last, self.asked = answers[-1], list[str]()

    def __call__(self, name: str, prompt: str) -> Canary:
        self.asked.append(name)
        return next(self._answers, self._last)


def test_it_works() -> None:
    engine = Engine(says(-0.5))
    assert "to the last bit of 5 prompts" in changes_nothing(engine, "lora", "base")
    assert engine.asked == ["base", "lora", "base"] * len(PROMPTS)


def test_an_answer_differs_where_it_is_none_of_the_bases() -> None:
    assert (differs("a", "b"), differs("a", "a"), differs("a", "b", "b")) == (True, False, True)
    assert differs("a", "b", "a") is False
    assert differs("a", "b", "c") is None, "the base differs from itself"


def test_one_number_that_differs_is_enough() -> None:
    assert (
        changes_nothing(Engine(says(-0.5), says(-0.5), says(-0.5), says(-1), says(-1.0001), says(-1)), "l", "b") == ""
    )


def test_a_base_that_differs_from_itself_proves_nothing() -> None:
    noise = (says(-0.5), says(-0.51), says(-0.52))
    assert changes_nothing(Engine(*noise * len(PROMPTS)), "lora", "base") == ""
    assert changes_nothing(Engine(*noise, says(-0.5)), "lora", "base") != "", "the others are the same"
