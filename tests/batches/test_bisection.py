import math
import random

import pytest

from apps.batches.bisection import Bisection


def find(suspects: list[int], poison: set[int], rng: random.Random) -> tuple[list[int], int]:
    """Play engine: the guilty, in the order they were found, and the number of deaths."""
    bisection: Bisection[int] = Bisection()
    guilty: list[int] = []
    deaths = 1
    bisection.died(suspects)
    while group := bisection.group():
        if not poison & set(group):
            bisection.passed()
            continue
        answered = {line for line in group if line not in poison and rng.random() < 0.3}
        deaths += 1
        found = bisection.died([line for line in group if line not in answered])
        if found is not None:
            guilty.append(found)
    return guilty, deaths


def test_it_works() -> None:
    assert find(list(range(8)), {5}, random.Random(1))[0] == [5]


@pytest.mark.parametrize("window", [1, 2, 3, 7, 64, 256])
def test_it_needs_few_restarts(window: int) -> None:
    for seed in range(50):
        rng = random.Random(seed)
        guilty, deaths = find(list(range(window)), {rng.randrange(window)}, rng)
        assert len(guilty) == 1
        assert deaths <= math.log2(window) + 3


def test_it_finds_several() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        poison = set(rng.sample(range(64), 4))
        assert set(find(list(range(64)), poison, rng)[0]) == poison


def test_it_blames_nobody_for_a_death_from_outside() -> None:
    bisection: Bisection[int] = Bisection()
    assert bisection.died([1, 2, 3, 4]) is None
    groups = []
    while group := bisection.group():
        groups.append(group)
        bisection.passed()
    assert groups == [[1, 2], [3, 4]]


def test_it_forgives_a_line_that_was_alone_once() -> None:
    bisection: Bisection[int] = Bisection()
    assert bisection.died([1]) is None
    bisection.passed()
    assert bisection.died([1]) is None


def test_it_ignores_a_death_with_nothing_in_flight() -> None:
    bisection: Bisection[int] = Bisection()
    assert bisection.died([]) is None
    assert bisection.group() is None
