"""What is learned is what is served: chat templates of the installed packages, with the engine itself as the judge.

In `make test` each template meets some of the conversations, by turns; `make soak` tries all with all.
"""

from pathlib import Path

import pytest
from django.conf import settings

from tests.training import corpus, template_table
from tests.training.as_served import Outcome, Pair, outcomes

EVERY = 5  # conversations, of which a template meets one in the quick test
NOTHING = {"vllm/kimi_audio"}  # of which nothing can be learned: its template writes no answers
FAMILIES = 25  # that there are at least


@pytest.fixture(scope="module")
def templates() -> dict[str, str]:
    return corpus.templates(settings.TRAINER_PYTHON, settings.ENGINE_PYTHON)


def pairs(templates: dict[str, str], every: int = 1) -> list[Pair]:
    return [
        (template, conversation)
        for at, template in enumerate(templates)
        for number, conversation in enumerate(corpus.conversations())
        if (at + number) % every == 0
    ]


def assert_as_served(found: list[Outcome]) -> None:
    wrong = [outcome for outcome in found if outcome.wrong]
    assert not wrong, "\n".join(map(str, wrong[:20]))
    assert all(
        outcome.left_out.endswith(".") or "refuses it" in outcome.left_out for outcome in found if outcome.left_out
    )


def test_it_works(templates: dict[str, str], tmp_path: Path) -> None:
    names = {name: text for name, text in templates.items() if not name.endswith("_training")}
    found = outcomes(names, pairs(names, EVERY), tmp_path / "model")
    assert_as_served(found)
    assert len(names) >= 2 * FAMILIES
    assert sum(not outcome.left_out for outcome in found) > 0.8 * len(found)
    learned = {outcome.template for outcome in found if not outcome.left_out}
    assert names.keys() - learned <= NOTHING


def test_the_table_keeps_the_rows_of_other_sources() -> None:
    table = "".join(template_table.row(name, [("", "")]) for name in ("trl/gone", "trl/llama3", "public/phi"))
    rows = {name: template_table.row(name, [("It hides an answer.", "")]) for name in ("trl/llama3", "own/mine")}
    assert template_table.merged(table, rows) == (
        "| `public/phi` | 1 of 1 |  |\n| `trl/llama3` | 0 of 1 | 1: It hides an answer |\n"
    )


@pytest.mark.soak
def test_every_template_with_every_conversation(templates: dict[str, str], tmp_path: Path) -> None:
    found = outcomes(templates, pairs(templates), tmp_path / "model")
    assert_as_served(found)
    assert len(found) == 40 * len(templates)
    learned = {outcome.template for outcome in found if not outcome.left_out}
    assert templates.keys() - learned <= NOTHING
