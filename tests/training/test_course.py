"""Which step was the best, and whether it is time to stop."""

import pytest

from apps.training.child.course import Course


def course(*losses: float) -> Course:
    """One evaluation every ten steps."""
    return Course((step * 10, loss) for step, loss in enumerate(losses, 1))


def test_it_works() -> None:
    going = course(3.0, 2.0, 2.5, 2.4)
    assert going.best(40) == 20
    assert going.fruitless() == 2
    assert [going.should_stop(patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]


def test_without_validation_the_last_step_is_the_best() -> None:
    assert course().best(17) == 17
    assert not course().should_stop(1)


@pytest.mark.parametrize(("losses", "best"), [((1.0,), 10), ((1.0, 1.0), 10), ((3.0, 2.0, 1.0), 30)])
def test_of_two_that_are_alike_the_earlier_is_the_best(losses: tuple[float, ...], best: int) -> None:
    assert course(*losses).best(99) == best


def test_it_is_read_from_what_transformers_keeps() -> None:
    history = [{"step": 1, "loss": 9.0}, {"step": 2, "eval_loss": 4.0, "eval_runtime": 1.0}, {"step": 3, "loss": 8.0}]
    assert Course.of_history(history).losses == {2: 4.0}


def test_a_step_that_is_evaluated_anew_counts_once() -> None:
    going = course(3.0, 2.0)
    going.losses[20] = 2.1
    assert (going.best(0), going.fruitless()) == (20, 0)
