"""Thumbs up and down, learned for real on the CPU by TRL."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.training import checkpoints
from apps.training.child.thumbs import mixed, weights, with_foreign_answers
from apps.training.options import Options
from apps.training.spec import Ended, TrainingSpec
from tests.training.runs import Told, make_spec, run
from tests.training.tiny import thumb, write_rows

GOOD, BAD = "Yes, it is.", "No, it was."  # as many tokens each
STEPS = 8
OPTIONS = {"max_steps": STEPS, "learning_rate": 0.01, "eval_steps": 4, "beta": 0.5}


def order_of(model: Path, folder: Path, **options: Any) -> TrainingSpec:
    """Twelve thumbs up, and after them four down."""
    folder.mkdir(exist_ok=True)
    ups = [thumb(f"Is {number} small?", GOOD, True) for number in range(12)]
    downs = [thumb(f"Is {number} small?", BAD, False) for number in range(4)]
    rows = str(write_rows(folder / "rows.jsonl", ups + downs))
    return make_spec(model, folder, method="kto", train_file=rows, valid_file=rows, options=OPTIONS | options)


@pytest.fixture(scope="module")
def thumbs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    folder = tmp_path_factory.mktemp("kto")
    return run(order_of(tiny_model, folder)), folder


def test_it_works(thumbs: tuple[Told, Path]) -> None:
    """The loss begins at half of the weights: at first nothing is preferred. Unsloth says no, so plain is chosen."""
    told, folder = thumbs
    assert told.code == 0, told.lines
    assert told.news[-1] == Ended(reason="finished", step=STEPS, best_step=STEPS)
    assert (told.started.backend, told.started.examples, told.started.valid_examples) == ("plain", 16, 16)
    assert told.losses[STEPS] < 0.6 * told.losses[1]
    assert told.valid_losses[8] < told.valid_losses[4] < 0.5 * 1.5
    assert 0 < told.started.trained_tokens < told.started.tokens
    assert (
        "unsloth is not taken: Unsloth does not learn from thumbs up and down (KTO)."
        in (folder / "trainer.log").read_text()
    )


def test_the_rarer_kind_counts_more(thumbs: tuple[Told, Path]) -> None:
    started = thumbs[0].started
    assert (started.ups, started.up_weight, started.downs, started.down_weight) == (12, 1.0, 4, 3.0)


def test_good_answers_are_preferred_after_it(thumbs: tuple[Told, Path], tiny_model: Path) -> None:
    """Also to questions that it has not seen; and not only more than before."""
    command = [str(settings.TRAINER_PYTHON), "-m", "tests.training.compare_answers", str(tiny_model),
               str(thumbs[1] / f"checkpoint-{STEPS}"), *(f"Is {number} small?" for number in (2, 50, 77))]  # fmt: skip
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, input=f"{GOOD}\n{BAD}", env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    margins = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(margins) == 3
    for before, after in margins:
        assert after > max(before + 3, 0), margins


def test_it_makes_an_adapter(thumbs: tuple[Told, Path]) -> None:
    manifest = checkpoints.verify(thumbs[1] / f"checkpoint-{STEPS}", resume=True)
    assert [part.path for part in manifest.files if part.path.endswith(".safetensors")] == ["adapter_model.safetensors"]


def test_it_goes_on_where_it_stopped(thumbs: tuple[Told, Path], tiny_model: Path, tmp_path: Path) -> None:
    spec = order_of(tiny_model, tmp_path, save_steps=1)
    first = run(spec, stop_when=lambda news: getattr(news, "step", 0) >= 3)
    assert first.code == 0, first.lines
    stopped = first.news[-1]
    assert isinstance(stopped, Ended)
    assert stopped.reason == "stopped"
    second = run(spec)
    assert second.started.resumed_from == stopped.step
    assert (first.losses | second.losses)[STEPS] == pytest.approx(thumbs[0].losses[STEPS], rel=0.05)


def test_one_kind_alone_is_learned_too(tiny_model: Path, tmp_path: Path) -> None:
    rows = str(write_rows(tmp_path / "rows.jsonl", [thumb(f"Is {n} small?", GOOD, True) for n in range(5)]))
    told = run(make_spec(tiny_model, tmp_path, method="kto", train_file=rows, options={"max_steps": 2}))
    assert told.code == 0, told.lines
    assert (told.started.ups, told.started.up_weight, told.started.downs, told.started.down_weight) == (5, 1, 0, 1)


def test_rows_are_mixed_and_get_foreign_answers() -> None:
    order = mixed(9, seed=1)
    assert sorted(order) == list(range(9)) != order
    assert order == mixed(9, seed=1) != mixed(9, seed=2)
    pairs = list(with_foreign_answers(order, 4))
    assert [row for row, _ in pairs] == order
    assert all(row != foreign for row, foreign in pairs)
    for batch in (pairs[:4], pairs[4:8]):
        assert {row for row, _ in batch} == {foreign for _, foreign in batch}, "the same answers, with other prompts"
    assert pairs[8][1] == order[7]


@pytest.mark.parametrize(
    ("ups", "downs", "set_", "expected"),
    [
        (10, 10, {}, (1, 1)),
        (30, 10, {}, (1, 3)),
        (10, 25, {}, (2.5, 1)),
        (7, 0, {}, (1, 1)),
        (30, 10, {"desirable_weight": 2}, (2, 6)),
        (30, 10, {"undesirable_weight": 6}, (2, 6)),
        (30, 10, {"desirable_weight": 1, "undesirable_weight": 1}, (1, 1)),
        (0, 5, {"undesirable_weight": 2}, (1, 2)),
    ],
)
def test_weights_make_both_kinds_count_alike(ups: int, downs: int, set_: Any, expected: tuple[float, float]) -> None:
    assert weights(ups, downs, Options(**set_)) == expected
