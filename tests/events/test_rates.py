from typing import Any

import pytest

from apps.events.rates import WINDOW, Rates

START = 1_000_000


def snapshot(tokens: int, completed: int, failed: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "total": 100, "completed": completed, "failed": failed, "output_tokens": tokens,
        "in_progress_at": START, "ended_at": None, "paused": False, "final": False, **more,
    }  # fmt: skip


def test_it_works() -> None:
    rates = Rates()
    rates.of(snapshot(0, 0), START)
    assert rates.of(snapshot(500, 8, 2), START + 5) == {"tokens_per_second": 100.0, "eta_seconds": 45}


def test_what_counts_no_tokens_has_no_speed() -> None:
    assert Rates().of({"total": 7, "completed": 3, "final": False}) == {}


def test_it_begins_with_the_average() -> None:
    assert Rates().of(snapshot(3_000, 25), START + 60) == {"tokens_per_second": 50.0, "eta_seconds": 180}


def test_it_forgets_what_is_older_than_the_window() -> None:
    rates = Rates()
    for second in range(60):  # fast at first
        rates.of(snapshot(1_000 * second, second), START + second)
    for second in range(60, 60 + int(WINDOW) + 1):  # then slow
        seen = rates.of(snapshot(59_000 + 10 * (second - 59), 59), START + second)
    assert seen["tokens_per_second"] == pytest.approx(10)


def test_it_uses_the_average_where_no_line_ended_lately() -> None:
    rates = Rates()
    rates.of(snapshot(100, 10), START + 100)
    assert rates.of(snapshot(100, 10), START + 105) == {"tokens_per_second": 0.0, "eta_seconds": 945}


@pytest.mark.parametrize(
    "unknown", [{"in_progress_at": None, "output_tokens": 0, "completed": 0}, {"completed": 0}, {"paused": True}]
)
def test_it_does_not_guess_an_end(unknown: dict[str, Any]) -> None:
    assert Rates().of(snapshot(10, 10) | unknown, START + 10)["eta_seconds"] is None


def test_it_ends_with_the_average_of_the_working_time() -> None:
    rates = Rates()
    rates.of(snapshot(900, 90), START + 59)
    final = snapshot(1_000, 100, ended_at=START + 100, final=True)
    assert rates.of(final, START + 3_600) == {"tokens_per_second": 10.0, "eta_seconds": 0}


def test_it_survives_a_clock_that_goes_back() -> None:
    rates = Rates()
    rates.of(snapshot(10, 1), START + 20)
    assert rates.of(snapshot(20, 2), START - 60) == {"tokens_per_second": 0.0, "eta_seconds": None}
