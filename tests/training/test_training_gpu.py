"""What only a GPU can show of training: QLoRA, preferences with Unsloth, packing, and how well memory is estimated."""

import json
from math import log
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pynvml
import pytest

from apps.models.slots import detect
from apps.training import checkpoints
from apps.training.memory import estimate
from apps.training.options import parse
from apps.training.spec import Stepped
from tests.training.runs import Told, facts, make_spec, run
from tests.training.tiny import DEMO_MODEL, chat, pair, write_rows

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(detect() == ["cpu"], reason="needs an NVIDIA GPU")]

PARAMETERS = 134_515_008  # of the demo model
STEPS = 8
LOOK_SECONDS = 0.05


class Watch(Thread):
    """The most memory that the first GPU had in use meanwhile, less what it had before."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        pynvml.nvmlInit()
        self._gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        self._over = Event()
        self._before = self._most = self._used()

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self._most = max(self._most, self._used())

    def taken(self) -> int:
        self._over.set()
        self.join()
        return self._most - self._before

    def _used(self) -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(self._gpu).used)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.mark.parametrize("backend", ["unsloth", "plain"])
def test_it_learns_with_qlora(folder: Path, backend: str) -> None:
    spec = make_spec(
        DEMO_MODEL, folder / f"qlora-{backend}", technique="qlora", backend=backend, device="0", valid=4,
        options={"max_steps": STEPS, "learning_rate": 1e-3, "eval_steps": 4},
    )  # fmt: skip
    told = run(spec)
    assert told.code == 0, told.lines
    assert told.started.backend == backend
    assert told.losses[STEPS] < told.losses[1] - 0.5
    checkpoints.verify(Path(spec.folder) / f"checkpoint-{STEPS}", resume=True)


@pytest.mark.parametrize("backend", ["unsloth", "plain"])
def test_it_learns_preferences(folder: Path, backend: str) -> None:
    pairs = [pair(f"Is {number} small?", "Certainly, it is.", "Who knows.") for number in range(12)]
    rows = str(write_rows(folder / "pairs.jsonl", pairs))
    spec = make_spec(
        DEMO_MODEL, folder / f"dpo-{backend}", method="dpo", backend=backend, device="0", train_file=rows,
        options={"max_steps": STEPS, "learning_rate": 1e-4, "beta": 0.5},
    )  # fmt: skip
    told = run(spec)
    assert told.code == 0, told.lines
    assert told.started.backend == backend
    assert told.losses[1] == pytest.approx(log(2), abs=0.02)
    assert told.losses[STEPS] < 0.5


def test_it_goes_on_with_the_same_curve(folder: Path) -> None:
    """A GPU adds up in another order each time: the same but for rounding."""
    options = {"max_steps": STEPS, "learning_rate": 1e-3, "save_steps": 3}
    whole = run(make_spec(DEMO_MODEL, folder / "whole", device="0", options=options))
    spec = make_spec(DEMO_MODEL, folder / "stopped", device="0", options=options)
    run(spec, stop_when=lambda news: isinstance(news, Stepped) and news.step == 4)
    rest = run(spec)
    assert rest.started.resumed_from >= 4
    assert rest.losses == {step: pytest.approx(whole.losses[step], rel=0.02) for step in rest.losses}


def test_packing_takes_fewer_steps(folder: Path) -> None:
    rows = str(write_rows(folder / "many.jsonl", facts(200)))
    told = [
        run(
            make_spec(
                DEMO_MODEL,
                folder / f"packing-{packing}",
                device="0",
                train_file=rows,
                options={"packing": packing, "epochs": 1.0, "max_length": 512, "learning_rate": 1e-3},
            )
        )
        for packing in (False, True)
    ]
    assert [ran.code for ran in told] == [0, 0], [ran.lines for ran in told]
    assert told[1].started.steps < told[0].started.steps / 3
    assert told[1].of(Stepped)[-1].loss < told[1].losses[1]


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 16, "max_length": 1024, "gradient_checkpointing": True},
        {"batch_size": 16, "max_length": 1024, "gradient_checkpointing": False},
    ],
)
def test_its_memory_was_estimated_well(folder: Path, options: dict[str, Any]) -> None:
    text = " ".join(f"word{number}" for number in range(1_000))
    rows = str(write_rows(folder / "long.jsonl", [chat(f"Say {number}", text) for number in range(64)]))
    name = f"memory-{options['gradient_checkpointing']}"
    spec = make_spec(
        DEMO_MODEL, folder / name, device="0", train_file=rows, options={**options, "max_steps": 3, "warmup": 0.0}
    )
    watch = Watch()
    watch.start()
    told: Told = run(spec)
    taken = watch.taken()
    assert told.code == 0, told.lines
    need = estimate(
        json.loads((DEMO_MODEL / "config.json").read_text()), parameters=PARAMETERS, method="sft", technique="lora",
        options=parse(options), on_cpu=False,
    )  # fmt: skip
    print(f"\n{need.total >> 20} MiB expected, {taken >> 20} measured: {need.as_dict()}")
    assert need.total == pytest.approx(taken, rel=0.15)
