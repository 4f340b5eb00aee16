"""What a training is done with where nobody chose, and why."""

from typing import Any

import pytest

from apps.training.options import parse
from apps.training.presets import MOST_EPOCHS, TOKENS, Data, Plan, plan, steps_of, usual

SMALL, LARGE = 135e6, 70e9
FORTY = Data(40, 1_900)
"""Twenty facts in two wordings each."""


def planned(data: Data = FORTY, parameters: float = SMALL, **more: Any) -> Plan:
    return plan(parameters, data, **{"chosen": {}, **more})


def test_thumbs_need_two_rows_at_once() -> None:
    """The largest models take one at once, which KTO cannot learn from."""
    assert (usual(70e9)["batch_size"], usual(70e9, "kto")["batch_size"]) == (1, 2)
    for rows in (12, 40_000):
        assert plan(70e9, Data(rows, rows * 50), chosen={}, method="kto").options["batch_size"] >= 2


def test_it_works() -> None:
    found = planned()
    options = parse(found.options)
    assert options.batch_size * options.accumulation == 4
    assert found.steps == steps_of(40, options) >= 200
    assert found.reason.startswith(f"40 rows, 1,900 tokens: {options.epochs:g} epochs with 4 examples a step make")
    assert found.warning == ""


@pytest.mark.parametrize("rows", [1, 2, 10, 11, 39, 100, 999, 1_000, 5_001, 20_000, 1_000_000])
@pytest.mark.parametrize("tokens_of_row", [1, 47, 260, 2_000, 100_000])
@pytest.mark.parametrize("parameters", [1e6, SMALL, 3e9, 8e9, LARGE])
def test_it_fits_whatever_there_is(rows: int, tokens_of_row: int, parameters: float) -> None:
    for method in ("sft", "dpo"):
        found = planned(Data(rows, rows * tokens_of_row), parameters, method=method)
        options = parse(found.options)
        assert 1 <= options.epochs <= MOST_EPOCHS
        assert options.epochs == 1 or options.epochs * rows * tokens_of_row <= TOKENS
        assert options.batch_size <= usual(parameters)["batch_size"], "what fits the device at once"
        assert found.steps >= 1
        assert found.reason


def test_many_rows_need_fewer_epochs_and_more_of_them_a_step() -> None:
    few, many = parse(planned(Data(40, 2_000)).options), parse(planned(Data(50_000, 2_500_000)).options)
    assert few.epochs > 3 >= many.epochs >= 1
    assert few.batch_size * few.accumulation < many.batch_size * many.accumulation
    assert few.learning_rate > many.learning_rate, "so many steps may be small"


def test_long_rows_need_fewer_steps_than_short_ones() -> None:
    assert planned(Data(40, 40 * 1_500)).steps < planned(Data(40, 40 * 50)).steps


def test_large_models_whole_models_and_preferences_learn_at_lower_rates() -> None:
    rate = usual(SMALL)["learning_rate"]
    assert usual(LARGE)["learning_rate"] < rate
    assert usual(SMALL, technique="full")["learning_rate"] == pytest.approx(rate / 10)
    assert usual(SMALL, "dpo")["learning_rate"] == pytest.approx(rate / 10)


def test_what_was_chosen_counts_more() -> None:
    chosen = {"epochs": 2.5, "learning_rate": 3e-5, "batch_size": 3, "accumulation": 5, "rank": 4}
    found = planned(chosen=chosen)
    assert {name: found.options[name] for name in chosen} == chosen
    assert found.reason.endswith("As you set it: epochs, batch_size, accumulation, learning_rate.")


def test_the_epochs_follow_a_chosen_batch() -> None:
    found = planned(chosen={"batch_size": 8})
    assert found.options["accumulation"] == 1
    assert found.steps >= 200


def test_openais_multiplier_is_of_the_usual_rate() -> None:
    usually = planned().options["learning_rate"]
    assert planned(multiplier=0.5).options["learning_rate"] == pytest.approx(usually / 2)
    assert planned(multiplier=0.5, chosen={"learning_rate": 1e-4}).options["learning_rate"] == 1e-4


@pytest.mark.parametrize(
    ("chosen", "cure"),
    [({"epochs": 3}, "Set epochs to 20"), ({"max_steps": 15}, "Set max_steps to 200"),
     ({"epochs": 3, "batch_size": 4, "accumulation": 2}, "Set epochs to 40"),
     ({"batch_size": 64, "accumulation": 2}, "Set batch_size to 4 and accumulation to 1"),
     ({"learning_rate": 1e-6}, "Set learning_rate to 0.00"),
     ({"epochs": 2, "learning_rate": 1e-5}, "20 and learning_rate to")],
)  # fmt: skip
def test_it_warns_where_so_few_steps_cannot_teach(chosen: dict[str, Any], cure: str) -> None:
    warning = planned(chosen=chosen).warning
    assert "can hardly teach" in warning
    assert cure in warning


@pytest.mark.parametrize("chosen", [{}, {"epochs": 10}, {"max_steps": 100}, {"learning_rate": 5e-3}])
def test_it_does_not_warn_of_what_may_be_enough(chosen: dict[str, Any]) -> None:
    assert planned(chosen=chosen).warning == ""


def test_it_never_warns_of_its_own_choice() -> None:
    for rows in (10, 40, 300, 5_000, 100_000):
        for tokens in (5, 50, 500, 5_000):
            assert planned(Data(rows, rows * tokens)).warning == "", (rows, tokens)


def test_tokens_that_were_not_counted_are_said_to_be_about_so_many() -> None:
    assert planned(Data(40, 1_900, exact=False)).reason.startswith("40 rows, about 1,900 tokens:")
