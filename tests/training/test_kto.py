"""Thumbs up and down, learned for real on the CPU by TRL."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.training import checkpoints
from apps.training.child.thumbs import mixed, weights, with_foreign_answers
from apps.training.options import Options
from apps.training.spec import Ended, Evaluated, Stepped
from tests.training.runs import Told, make_spec, run
from tests.training.tiny import thumb, write_rows

GOOD, BAD = "Yes, it is.", "No, it was."  # as many tokens each
STEPS, SAVED = 12, 6
OPTIONS = {"max_steps": STEPS, "learning_rate": 0.01, "eval_steps": SAVED, "save_steps": SAVED, "beta": 0.5}


@dataclass(frozen=True)
class Thumbs:
    """A training whose first trainer was killed after it had saved, and what the second one said."""

    killed: Told
    told: Told
    folder: Path


@pytest.fixture(scope="module")
def thumbs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Thumbs:
    """Twelve thumbs up, and after them four down."""
    folder = tmp_path_factory.mktemp("kto")
    ups = [thumb(f"Is {number} small?", GOOD, True) for number in range(12)]
    downs = [thumb(f"Is {number} small?", BAD, False) for number in range(4)]
    rows = str(write_rows(folder / "rows.jsonl", ups + downs))
    spec = make_spec(tiny_model, folder, method="kto", train_file=rows, valid_file=rows, options=OPTIONS)
    killed = run(spec, stop_when=lambda news: isinstance(news, Stepped) and news.step > SAVED, by=signal.SIGKILL)
    return Thumbs(killed, run(spec), folder)


def test_it_works(thumbs: Thumbs) -> None:
    """The loss begins at half of the weights: at first nothing is preferred. Unsloth says no, so plain is chosen."""
    told, killed = thumbs.told, thumbs.killed
    assert told.code == 0, told.lines
    assert told.news[-1] == Ended(reason="finished", step=STEPS, best_step=STEPS)
    assert (told.started.backend, told.started.examples, told.started.valid_examples) == ("plain", 16, 16)
    assert told.losses[STEPS] < 0.6 * killed.losses[1]
    assert told.valid_losses[STEPS] < killed.valid_losses[SAVED] < 0.5 * 1.5
    assert 0 < told.started.trained_tokens < told.started.tokens
    assert (
        "unsloth is not taken: Unsloth does not learn from thumbs up and down (KTO)."
        in (thumbs.folder / "trainer.log").read_text()
    )


def test_it_survives_kill_nine(thumbs: Thumbs) -> None:
    """Another goes on from the checkpoint, and what it does again comes out as it did before."""
    killed, told = thumbs.killed, thumbs.told
    assert killed.code == -signal.SIGKILL
    assert list(killed.saved) == [SAVED]
    assert told.started.resumed_from == SAVED
    assert told.saved[SAVED].digest == killed.saved[SAVED].digest
    assert list(told.losses) == list(range(SAVED + 1, STEPS + 1))
    again = killed.losses.keys() & told.losses.keys()
    assert again
    assert {step: told.losses[step] for step in again} == pytest.approx({step: killed.losses[step] for step in again})


def test_thumbs_are_measured(thumbs: Thumbs) -> None:
    """A batch without thumbs down has no reward of bad answers, and no margin."""
    steps = thumbs.killed.of(Stepped) + thumbs.told.of(Stepped)
    whole = [news.rewards for news in steps if "reward_margin" in news.rewards]
    for rewards in whole:
        assert set(rewards) == {"reward_chosen", "reward_rejected", "reward_margin", "kl"}
        assert rewards["reward_margin"] == pytest.approx(rewards["reward_chosen"] - rewards["reward_rejected"])
    assert {"kl"} < set(steps[0].rewards)
    assert whole[0]["reward_margin"] < 1 < whole[-1]["reward_margin"]
    (first,), (last,) = thumbs.killed.of(Evaluated), thumbs.told.of(Evaluated)
    assert first.rewards["reward_margin"] < last.rewards["reward_margin"]
    assert last.rewards["reward_rejected"] < 0 < last.rewards["kl"]


def test_the_rarer_kind_counts_more(thumbs: Thumbs) -> None:
    started = thumbs.told.started
    assert (started.ups, started.up_weight, started.downs, started.down_weight) == (12, 1.0, 4, 3.0)


def test_good_answers_are_preferred_after_it(thumbs: Thumbs, tiny_model: Path) -> None:
    """Also to questions that it has not seen; and not only more than before."""
    questions = [f"Is {number} small?" for number in (2, 50, 77)]
    command = [str(settings.TRAINER_PYTHON), "-m", "tests.training.compare_answers", str(tiny_model),
               str(thumbs.folder / f"checkpoint-{STEPS}"), *questions]  # fmt: skip
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, input=f"{GOOD}\n{BAD}", env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    margins = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(margins) == 3
    for before, after in margins:
        assert after > max(before + 3, 0), margins


def test_it_makes_an_adapter(thumbs: Thumbs) -> None:
    manifest = checkpoints.verify(thumbs.folder / f"checkpoint-{STEPS}", resume=True)
    assert [part.path for part in manifest.files if part.path.endswith(".safetensors")] == ["adapter_model.safetensors"]


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
