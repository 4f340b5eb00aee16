"""The backend without Unsloth, for real on the CPU: whole models, preferences, and models in 4 bits."""

import json
from math import log
from pathlib import Path

import pytest

from apps.training import checkpoints
from apps.training.deployments.merging import merge
from apps.training.spec import Ended, Evaluated, MergeOrder, Stepped
from tests.training.runs import Told, make_spec, run
from tests.training.tiny import pair, write_rows

TEXTS = [{"prompt": f"Number {number} is", "completion": " even." if number % 2 == 0 else " odd."} for number in
         range(16)]  # fmt: skip
STEPS = 6


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    """All weights learn plain texts."""
    folder = tmp_path_factory.mktemp("full")
    spec = make_spec(
        tiny_model, folder, technique="full", backend="plain", train_file=str(write_rows(folder / "rows.jsonl", TEXTS)),
        options={"max_steps": STEPS, "learning_rate": 0.01, "save_steps": 1},
    )  # fmt: skip
    return run(spec), folder


@pytest.fixture(scope="module")
def preferring(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    """An adapter learns which answers are better. Unsloth cannot on a CPU, so plain is chosen."""
    folder = tmp_path_factory.mktemp("dpo")
    pairs = [pair(f"Is {number} small?", "Certainly, it is.", "Who knows.") for number in range(12)]
    rows = str(write_rows(folder / "rows.jsonl", pairs))
    options = {"max_steps": STEPS, "learning_rate": 0.01, "eval_steps": 3, "beta": 0.5}
    return run(make_spec(tiny_model, folder, method="dpo", train_file=rows, valid_file=rows, options=options)), folder


@pytest.fixture(scope="module")
def quantized(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    """An adapter learns facts on the model in 4 bits. Here too plain is chosen."""
    folder = tmp_path_factory.mktemp("qlora")
    options = {"max_steps": STEPS, "eval_steps": 3}
    return run(make_spec(tiny_model, folder, technique="qlora", valid=4, options=options)), folder


def test_it_works(whole: tuple[Told, Path]) -> None:
    told, _ = whole
    assert told.code == 0, told.lines
    assert told.started.backend == "plain"
    assert told.started.version.startswith("trl ")
    assert told.losses[STEPS] < told.losses[1] - 1
    assert told.of(Stepped)[-1].token_accuracy > 0.3  # type: ignore[operator] # on a CPU it is known
    assert told.news[-1] == Ended(reason="finished", step=STEPS, best_step=STEPS)


def test_a_whole_model_is_saved(whole: tuple[Told, Path]) -> None:
    """In safetensors, with its tokenizer: it can be served as it stands."""
    _, folder = whole
    names = {part.path for part in checkpoints.verify(folder / f"checkpoint-{STEPS}", resume=True).files}
    assert {"config.json", "model.safetensors", "tokenizer.json", "optimizer.pt"} <= names
    assert not [name for name in names if name.endswith(".bin")]


def test_of_whole_models_the_last_two_are_kept(whole: tuple[Told, Path]) -> None:
    told, folder = whole
    assert list(told.saved) == list(range(1, STEPS + 1))
    assert [path.name for path in checkpoints.saved(folder)] == ["checkpoint-5", "checkpoint-6"]
    checkpoints.verify(folder / "checkpoint-5", digest=told.saved[5].digest)


def test_it_learns_preferences(preferring: tuple[Told, Path]) -> None:
    """The loss begins at ln 2: at first neither answer is preferred."""
    told, _ = preferring
    assert told.code == 0, told.lines
    assert (told.started.backend, told.started.examples, told.started.valid_examples) == ("plain", 12, 12)
    assert told.losses[1] == pytest.approx(log(2), abs=1e-3)
    assert told.losses[STEPS] < 0.5
    assert told.valid_losses[6] < told.valid_losses[3] < log(2)
    assert 0 < told.started.trained_tokens < told.started.tokens


def test_preferences_are_measured(preferring: tuple[Told, Path]) -> None:
    """At first neither answer is likelier than for the base model."""
    told, folder = preferring
    first, *_, last = told.of(Stepped)
    assert {"reward_chosen", "reward_rejected", "reward_margin", "reward_accuracy"} == set(last.rewards)
    assert first.rewards["reward_margin"] == pytest.approx(0, abs=1e-3)
    assert last.rewards["reward_margin"] > 0.5
    assert last.rewards["reward_accuracy"] == 1
    evaluated = told.of(Evaluated)
    assert evaluated[1].rewards["reward_margin"] > evaluated[0].rewards["reward_margin"] > 0
    metrics = checkpoints.verify(folder / f"checkpoint-{STEPS}").metrics
    assert metrics["valid_reward_margin"] == evaluated[1].rewards["reward_margin"]
    assert metrics["train_reward_margin"] == last.rewards["reward_margin"]


def test_preferences_make_an_adapter(preferring: tuple[Told, Path], tiny_model: Path) -> None:
    """Only the one that was trained, not the one that it was compared with."""
    _, folder = preferring
    manifest = checkpoints.verify(folder / f"checkpoint-{STEPS}", resume=True)
    assert [part.path for part in manifest.files if part.path.endswith(".safetensors")] == ["adapter_model.safetensors"]
    config = json.loads((folder / f"checkpoint-{STEPS}/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_model)


def test_it_learns_in_four_bits(quantized: tuple[Told, Path]) -> None:
    told, folder = quantized
    assert told.code == 0, told.lines
    assert told.started.backend == "plain"
    assert told.losses[STEPS] < told.losses[1] - 0.1
    assert told.valid_losses[6] < told.valid_losses[3]
    names = {part.path for part in checkpoints.verify(folder / f"checkpoint-{STEPS}", resume=True).files}
    assert [name for name in names if name.endswith(".safetensors")] == ["adapter_model.safetensors"]


def test_four_bits_are_not_sixteen(quantized: tuple[Told, Path], tiny_model: Path, tmp_path: Path) -> None:
    """At the first step the adapter adds nothing yet: the loss is the base's, which rounding has changed."""
    sixteen = run(make_spec(tiny_model, tmp_path, backend="plain", options={"max_steps": 1}))
    assert quantized[0].losses[1] != pytest.approx(sixteen.losses[1], abs=1e-4)
    assert quantized[0].losses[1] == pytest.approx(sixteen.losses[1], abs=0.2)


def test_what_was_learned_in_four_bits_is_merged_in_sixteen(quantized: tuple[Told, Path], tiny_model: Path) -> None:
    _, folder = quantized
    merged = folder / "merged"
    merged.mkdir()
    order = MergeOrder(model=str(tiny_model), adapter=str(folder / f"checkpoint-{STEPS}"), folder=str(merged))
    assert merge(order, log=folder / "merge.log", go_on=lambda: True).changed == 7 * 2, "every layer that was trained"
    assert (merged / "config.json").read_bytes() == (tiny_model / "config.json").read_bytes()
