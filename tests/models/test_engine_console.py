"""`manage.py engine` and `manage.py models`: an operator's verbs against a worker in a thread, on the fake engine."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.core import leases
from apps.core.drain import Flag
from apps.models import costs, jobs
from apps.models.console import follow
from apps.models.demand import InteractiveKind
from apps.models.models import Demand, Engine, Model
from apps.models.plan import Verb
from apps.models.services import register_model
from apps.models.slots import Slot
from apps.models.worker import GpuWorker
from tests.models.test_fleet import background
from tests.models.test_worker import adapter_folder, claim, keeper
from tests.stack.live import REPOSITORY

__all__ = ["keeper"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(params=["0"])
def worker(
    request: pytest.FixtureRequest,
    keeper: leases.Keeper,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[None]:
    """One that works, in a thread, on a slot that is a GPU as far as the fake engine knows (or a CPU)."""
    settings.ENGINE_PYTHON = REPOSITORY / "tests/fakes/engine/python"
    settings.LOG_DIR = tmp_path / "log"
    monkeypatch.setattr(costs, "GPU_DEFAULTS", {**dict.fromkeys(Verb, 0.01), Verb.START: 1.0})
    monkeypatch.setattr(jobs, "_kinds", {"interactive": InteractiveKind()})
    slot, over = Slot.here(request.param), Flag()
    held = claim(keeper, slot.key)

    def work() -> None:
        gpu = GpuWorker(slot, held, keeper)
        while not over.is_set():
            if not gpu.step():
                time.sleep(0.1)
        gpu.close()

    thread = background(work)
    thread.start()
    time.sleep(0.5)
    yield
    over.set()
    thread.join(30)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command(*arguments)
    return capsys.readouterr().out


def test_it_works(worker: None, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No engine ran here yet" in run(capsys, "engine", "status")
    assert "test-model is ready on" in run(capsys, "engine", "start", "test-model")
    assert not Demand.objects.exists()
    assert "Waits for requests, warm" in run(capsys, "engine", "status", "test-model")
    assert "test-model is asleep on" in run(capsys, "engine", "sleep", "test-model")
    assert "An operator asked for it" in run(capsys, "engine", "status")
    assert "test-model is ready on" in run(capsys, "engine", "wake", "test-model")
    assert "test-model is stopped on" in run(capsys, "engine", "stop", "test-model")
    assert "Starting vLLM server" in run(capsys, "engine", "logs", "test-model")


def test_it_starts_the_base_of_an_adapter(
    worker: None, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register_model(name="mine", path=adapter_folder(tmp_path / "mine", rank=8), base=model)
    assert "mine is ready on" in run(capsys, "engine", "start", "mine")
    assert Engine.objects.get().served == ["mine", "test-model"]


def test_it_rejects_names_that_are_not_known(model: Model) -> None:
    with pytest.raises(CommandError, match=r"no model 'test-modle'\. Did you mean test-model\?"):
        call_command("engine", "start", "test-modle")


@pytest.mark.parametrize("verb", ["start", "stop", "sleep", "wake", "status"])
def test_it_rejects_to_wait_for_nobody(model: Model, verb: str) -> None:
    with pytest.raises(CommandError, match="No GPU worker runs: start the site"):
        call_command("engine", verb, "test-model")


@pytest.mark.parametrize("worker", ["cpu"], indirect=True)
def test_it_rejects_what_a_device_cannot(worker: None, model: Model) -> None:
    with pytest.raises(CommandError, match=r"vLLM can on GPUs only\. Stop it instead"):
        call_command("engine", "sleep", "test-model")
    with pytest.raises(CommandError, match="No engine of test-model can"):
        call_command("engine", "stop", "test-model")
    with pytest.raises(CommandError, match="No engine of test-model sleeps"):
        call_command("engine", "wake", "test-model")
    with pytest.raises(CommandError, match="has printed anything on this host"):
        call_command("engine", "logs", "test-model")


def test_it_says_why_an_engine_does_not_start(worker: None, model: Model) -> None:
    (model.folder / "config.json").unlink()
    with pytest.raises(CommandError, match=r"(?s)It failed on .* ended with code 1.*No config\.json"):
        call_command("engine", "start", "test-model")


def test_it_starts_what_is_broken_only_when_told(
    worker: None, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    Model.objects.update(broken_until=timezone.now() + timedelta(minutes=10))
    with pytest.raises(CommandError, match=r"died too often: none is started before .*--anyway"):
        call_command("engine", "start", "test-model")
    assert "broken until" in run(capsys, "models")
    assert "test-model is ready" in run(capsys, "engine", "start", "test-model", "--anyway")


def test_it_survives_ctrl_c(worker: None, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_PASS_ENV", "FAKE_ENGINE_*")
    monkeypatch.setenv("FAKE_ENGINE_LOAD_SECONDS", "5")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    threading.Timer(1, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(CommandError, match="Stopped waiting"):
        call_command("engine", "start", "test-model")
    assert not Demand.objects.exists()


def test_it_follows_a_log_that_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_text("one\ntwo\nthree\n")
    lines = follow([path], lines=2, forever=True)
    assert [next(lines), next(lines)] == ["two", "three"]
    with path.open("a") as file:
        file.write("four\n")
    assert next(lines) == "four"
    path.write_text("5\n")
    assert next(lines) == "5"


def test_it_lists_models(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register_model(name="mine", path=adapter_folder(tmp_path / "mine", rank=8), base=model)
    Model.objects.filter(pk=model.pk).update(
        bytes=3 * 2**30, source="owner/name", engine_settings={"max_model_len": 4096}
    )
    Model.objects.create(name="new", path="/x", ready=False)
    out = run(capsys, "models")
    for text in ("owner/name", "3.0", "max_model_len=4096", "adapter of test-model", "being installed", "stopped"):
        assert text in out
