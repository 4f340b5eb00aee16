"""A data set built to overfit: what is learned by heart helps with nothing else, so training stops at its best."""

import random
from pathlib import Path

import pytest

from apps.training import checkpoints
from apps.training.spec import Ended
from tests.training.runs import Told, make_spec, run
from tests.training.tiny import chat, write_rows

STEPS = 40
PATIENCE = 3
WORDS = [
    first + second for first in ("ba", "do", "ki", "lu", "me", "no", "ra", "sa") for second in ("tor", "lin", "mus")
]


def nonsense(seed: int, count: int) -> list[dict[str, object]]:
    """Every answer has the same frame, which is worth learning, and words that are not."""
    chance = random.Random(seed)
    return [chat(f"Say {number}", f"So: {' '.join(chance.choices(WORDS, k=4))}") for number in range(count)]


@pytest.fixture(scope="module")
def told(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    folder = tmp_path_factory.mktemp("overfit")
    valid = str(write_rows(folder / "valid.jsonl", nonsense(2, 8)))
    spec = make_spec(
        tiny_model, folder, technique="full", train_file=str(write_rows(folder / "rows.jsonl", nonsense(1, 4))),
        valid_file=valid,
        options={"max_steps": STEPS, "eval_steps": 1, "early_stopping": PATIENCE, "learning_rate": 0.02},
    )  # fmt: skip
    return run(spec), folder


def test_it_works(told: tuple[Told, Path]) -> None:
    """The loss on what it sees falls on; that on what it does not rises again."""
    ran, _ = told
    assert ran.code == 0, ran.lines
    ended = ran.news[-1]
    assert isinstance(ended, Ended)
    assert ended.reason == "early"
    assert ended.step == ended.best_step + PATIENCE < STEPS
    assert ran.losses[ended.step] < ran.losses[ended.best_step]
    assert ran.valid_losses[ended.best_step] == min(ran.valid_losses.values())
    assert ran.valid_losses[ended.step] > ran.valid_losses[ended.best_step]


def test_the_best_checkpoint_is_there(told: tuple[Told, Path]) -> None:
    """Of whole models only it and the last two are."""
    ran, folder = told
    ended = ran.news[-1]
    assert isinstance(ended, Ended)
    best = checkpoints.verify(folder / f"checkpoint-{ended.best_step}", digest=ran.saved[ended.best_step].digest)
    assert best.metrics["valid_loss"] == min(ran.valid_losses.values())
    kept = [checkpoints.step_of(path) for path in checkpoints.saved(folder)]
    assert kept == [ended.best_step, ended.step - 1, ended.step]


def test_it_stays_stopped(told: tuple[Told, Path], tiny_model: Path) -> None:
    """A trainer that was killed before it could say so is started again, and does not train on."""
    ran, folder = told
    options = {"max_steps": STEPS, "eval_steps": 1, "early_stopping": PATIENCE, "learning_rate": 0.02}
    again = make_spec(tiny_model, folder, technique="full", train_file=str(folder / "rows.jsonl"), options=options)
    rerun = run(again)
    assert not rerun.losses
    assert rerun.news[-1] == ran.news[-1]
