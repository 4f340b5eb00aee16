"""The trainer's child with real Unsloth, on a tiny model: it learns, saves, stops, and goes on as if it had not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from apps.training import checkpoints
from apps.training.checkpoints import RESUME
from apps.training.spec import Ended, Saved, Started, Stepped
from tests.training.runs import Told, facts, make_spec, run
from tests.training.tiny import write_rows

STEPS = 8
OPTIONS: dict[str, Any] = {"max_steps": STEPS, "eval_steps": 4, "save_steps": 3, "dropout": 0.1, "warmup": 0.25}
STOPPED = 5  # the step in which it is asked to stop: in the second epoch, and between two saves


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    """A training without interruption, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return run(make_spec(tiny_model, folder, valid=4, options=OPTIONS)), folder


def test_it_works(whole: tuple[Told, Path]) -> None:
    told, _ = whole
    assert told.code == 0, told.lines
    started = told.started
    assert (started.backend, started.steps, started.resumed_from) == ("unsloth", STEPS, 0)
    assert (started.examples, started.valid_examples, started.cut) == (16, 4, 0)
    assert 0 < started.trained_tokens < started.tokens
    assert list(told.losses) == list(range(1, STEPS + 1))
    assert told.losses[STEPS] < told.losses[1]
    assert told.valid_losses[8] < told.valid_losses[4]
    assert told.news[-1] == Ended(reason="finished", step=STEPS, best_step=8)


def test_it_tells_what_a_step_was_like(whole: tuple[Told, Path]) -> None:
    steps = whole[0].of(Stepped)
    assert [news.epoch for news in steps] == [number / 4 for number in range(1, STEPS + 1)]
    assert [news.learning_rate for news in steps[:2]] == [0, pytest.approx(0.01)]
    for news in steps:
        assert news.grad_norm
        assert news.token_accuracy is not None
        assert news.tokens_per_second > 0
        assert news.memory_bytes > 100e6
    assert steps[3].tokens == whole[0].started.tokens  # one epoch
    assert steps[-1].loss < steps[0].loss


def test_it_evaluates_and_saves_where_it_shall(whole: tuple[Told, Path]) -> None:
    """At every third step, at every evaluation, and at the end."""
    told, folder = whole
    assert list(told.valid_losses) == [4, 8]
    assert list(told.saved) == [3, 4, 6, 8]
    for step, saved in told.saved.items():
        manifest = checkpoints.verify(Path(saved.folder), digest=saved.digest, resume=step == STEPS)
        assert (manifest.step, Path(saved.folder).parent) == (step, folder)
        assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {
            part.path for part in manifest.files
        }
        assert manifest.metrics["train_loss"] == told.losses[step]
        assert manifest.metrics.get("valid_loss") == told.valid_losses.get(step)


def test_only_the_last_checkpoint_can_be_gone_on_from(whole: tuple[Told, Path]) -> None:
    _, folder = whole
    kept = {path.parent.name for pattern in RESUME for path in folder.glob(f"checkpoint-*/{pattern}")}
    assert kept == {f"checkpoint-{STEPS}"}


def test_an_adapter_names_its_base(whole: tuple[Told, Path], tiny_model: Path) -> None:
    config = json.loads((whole[1] / "checkpoint-8/adapter_config.json").read_text())
    assert (config["r"], config["peft_type"]) == (16, "LORA")
    assert config["base_model_name_or_path"] == str(tiny_model)


@pytest.fixture(scope="module")
def stopped(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    """The same training, asked to stop."""
    folder = tmp_path_factory.mktemp("stopped")
    spec = make_spec(tiny_model, folder, valid=4, options=OPTIONS)
    return run(spec, stop_when=lambda news: isinstance(news, Stepped) and news.step == STOPPED), folder


def test_asked_to_stop_it_saves_what_it_learned(stopped: tuple[Told, Path], whole: tuple[Told, Path]) -> None:
    told, folder = stopped
    ended = told.news[-1]
    assert isinstance(ended, Ended)
    assert (told.code, ended.reason, ended.step) == (0, "stopped", max(told.losses))
    assert STOPPED <= ended.step < STEPS
    assert checkpoints.latest(folder) == folder / f"checkpoint-{ended.step}"
    assert told.losses == {step: whole[0].losses[step] for step in told.losses}  # the same seed, the same curve


def test_going_on_is_as_if_it_had_not_stopped(
    stopped: tuple[Told, Path], whole: tuple[Told, Path], tiny_model: Path, tmp_path: Path
) -> None:
    """What lies behind the last sealed checkpoint, and what is broken, goes away first."""
    folder = shutil.copytree(stopped[1], tmp_path / "job")
    (folder / "checkpoint-3/adapter_model.safetensors").write_bytes(b"broken")
    shutil.copytree(folder / "checkpoint-4", folder / f"checkpoint-{STEPS}")
    (folder / f"checkpoint-{STEPS}/manifest.json").unlink()
    told = run(make_spec(tiny_model, folder, valid=4, options=OPTIONS))
    last = max(stopped[0].losses)
    assert told.started.resumed_from == last
    assert told.losses == {step: loss for step, loss in whole[0].losses.items() if step > last}
    assert told.valid_losses == {8: whole[0].valid_losses[8]}
    assert told.news[-1] == whole[0].news[-1]
    assert told.of(Stepped)[-1].tokens == whole[0].of(Stepped)[-1].tokens
    assert not (folder / "checkpoint-3").exists()
    gone = [line for line in told.lines if line.endswith("It is deleted.")]
    assert "checkpoint-3 is damaged" in gone[0]
    assert f"checkpoint-{STEPS} was never completed" in gone[1]


def test_it_says_so_again_when_it_was_killed_after_its_last_save(
    whole: tuple[Told, Path], tiny_model: Path, tmp_path: Path
) -> None:
    """Also which checkpoints there are: nobody may have written that down."""
    folder = shutil.copytree(whole[1], tmp_path / "job")
    *saved, ended = run(make_spec(tiny_model, folder, valid=4, options=OPTIONS)).news
    assert ended == whole[0].news[-1]
    assert [(news.step, news.digest) for news in saved if isinstance(news, Saved)] == [
        (step, before.digest) for step, before in whole[0].saved.items()
    ]


def test_it_refuses_to_fill_the_disk(tiny_model: Path, tmp_path: Path) -> None:
    told = run(make_spec(tiny_model, tmp_path, reserve_bytes=10**18, options={"max_steps": 1}))
    assert (told.code, told.failed.code) == (1, "disk_full")
    assert "1000000000.00 GB stay free (TRAINING_DISK_RESERVE_BYTES)" in told.failed.message
    assert not list(tmp_path.glob("checkpoint-*"))


def test_it_stops_when_the_loss_is_no_number(tiny_model: Path, tmp_path: Path) -> None:
    """Nothing is saved of it."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-128] + b"\xc0\x7f" * 64)  # NaN in bfloat16
    told = run(make_spec(model, tmp_path / "job", options={"max_steps": 3}))
    assert told.failed.code == "diverged"
    assert "from 0.02 to 0.004" in told.failed.message
    assert not told.saved


def test_it_names_the_lines_that_teach_nothing(tiny_model: Path, tmp_path: Path) -> None:
    long = facts(1)[0]
    long["messages"][0]["content"] = "word " * 200
    rows = write_rows(tmp_path / "rows.jsonl", [long, long])
    told = run(make_spec(tiny_model, tmp_path, train_file=str(rows)))
    assert told.failed.code == "bad_data"
    assert "Line 1: its first 128 tokens have no answer: raise max_length." in told.failed.message
    assert not told.of(Started)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"technique": "qlora", "backend": "unsloth"}, "Unsloth trains a model in 4 bits on a GPU only."),
        ({"method": "dpo", "backend": "unsloth"}, "Unsloth learns preferences on a GPU only."),
    ],
)
def test_it_rejects_what_it_cannot_do_here(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    told = run(make_spec(tiny_model, tmp_path, **changes))
    assert (told.code, told.failed.code, told.failed.message) == (1, "unsupported", message)
