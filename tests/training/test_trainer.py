"""The driver of the trainer's child: what the child gets to know, and what is heard of it."""

import json
import os
import time
from pathlib import Path

import pytest
from django.conf import settings

from apps.training.spec import Ended, News, Saved
from apps.training.trainer import Trainer, environment
from tests.training.runs import make_spec

FAKE = """#!/bin/sh
# In place of the trainer's interpreter: says what it was asked, and some news.
echo "asked $*"
echo "cwd $(pwd)"
printf 'half a line'
printf '\\n{"event":"saved","step":2,"folder":"f","digest":"d","bytes":5}\\n'
echo '{"event":"saved","step":"two"}'
echo '{"event":"unknown"}'
trap 'echo "{\\"event\\":\\"ended\\",\\"reason\\":\\"stopped\\",\\"step\\":2,\\"best_step\\":2}"; exit 0' TERM
if [ -n "$FAKE_WAIT" ]; then while true; do sleep 0.05; done; fi
exit 3
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def make_trainer(python: Path, folder: Path, heard: list[News]) -> Trainer:
    spec = make_spec(Path("/models/m"), folder)
    return Trainer(spec, python=python, cwd=settings.BASE_DIR, log=folder / "log.txt", on_news=heard.append)


def test_it_works(python: Path, tmp_path: Path) -> None:
    heard: list[News] = []
    trainer = make_trainer(python, tmp_path / "job", heard)
    trainer.start()
    assert trainer.wait(10) == trainer.poll() == 3
    assert heard == [Saved(step=2, folder="f", digest="d", bytes=5)]
    assert trainer.tail() == [
        f"asked -m apps.training.child.worker {tmp_path}/job/spec.json",
        f"cwd {settings.BASE_DIR}",
        "half a line",
        '{"event":"saved","step":"two"}',
        '{"event":"unknown"}',
    ]
    assert trainer.tail(1) == ['{"event":"unknown"}']
    assert json.loads((tmp_path / "job/spec.json").read_text())["method"] == "sft"
    assert '"digest":"d"' in (tmp_path / "job/log.txt").read_text()


def test_it_stops_the_child(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_PASS_ENV", "FAKE_*")
    monkeypatch.setenv("FAKE_WAIT", "1")
    heard: list[News] = []
    trainer = make_trainer(python, tmp_path / "job", heard)
    trainer.start()
    while not heard:
        assert trainer.poll() is None
        time.sleep(0.01)
    assert trainer.wait(0.1) is None
    assert trainer.group.pgid > 0
    trainer.stop(10)
    assert trainer.poll() == 0
    assert heard[-1] == Ended(reason="stopped", step=2, best_step=2)


def test_the_child_learns_no_secret_and_asks_no_network(tmp_path: Path) -> None:
    secrets = {"DATABASE_URL": "x", "REDIS_URL": "x", "SECRET_KEY": "x", "HF_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    found = environment(make_spec(Path("/models/m"), tmp_path), secrets | {"PATH": "/bin", "OMP_NUM_THREADS": "2"})
    assert found.keys().isdisjoint(secrets)
    assert (found["PATH"], found["OMP_NUM_THREADS"]) == ("/bin", "2")
    offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "UNSLOTH_DISABLE_STATISTICS")
    assert {found[name] for name in offline} == {"1"}
    assert found["WANDB_MODE"] == "disabled"


def test_the_child_writes_into_its_jobs_folder_only(tmp_path: Path) -> None:
    found = environment(make_spec(Path("/models/m"), tmp_path), os.environ)
    for name in ("UNSLOTH_COMPILE_LOCATION", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        assert Path(found[name]).is_relative_to(tmp_path / "cache")


@pytest.mark.parametrize(("device", "visible"), [("cpu", ""), ("1", "1")])
def test_the_child_sees_its_own_device(tmp_path: Path, device: str, visible: str) -> None:
    found = environment(make_spec(Path("/models/m"), tmp_path, device=device), {"CUDA_VISIBLE_DEVICES": "0,1"})
    assert found["CUDA_VISIBLE_DEVICES"] == visible
    assert ("UNSLOTH_FORCE_CPU" in found) == (device == "cpu")
