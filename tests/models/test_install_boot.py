"""The last step: an engine answers, or the install says why not."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.events.models import Event
from apps.models import jobs
from apps.models.engines import canary
from apps.models.installs import boot
from apps.models.installs.boot import BootKind, settle_boots
from apps.models.models import Install, Model
from apps.models.services import cancel_install, retry_install, start_install
from apps.models.worker import GpuWorker
from tests.fakes.hostile.folders import tiny_adapter, tiny_model
from tests.models.hubs import RunningHub
from tests.models.installs import ControlWorker
from tests.models.test_worker import SLOT, claim, stop
from tests.stack.live import REPOSITORY

__all__ = ["stop"]
pytestmark = pytest.mark.django_db(transaction=True)

DEMO = REPOSITORY / "var" / "models" / "smollm2-135m-instruct"


@pytest.fixture
def gpu(
    stop: Any, control: ControlWorker, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[GpuWorker]:
    monkeypatch.setattr(jobs, "_kinds", {"boot": BootKind()})
    settings.ENGINE_PYTHON = REPOSITORY / "tests/fakes/engine/python"
    settings.LOG_DIR = tmp_path / "log"
    gpu = GpuWorker(SLOT, claim(control.keeper), control.keeper)
    yield gpu
    gpu.close()


def booting(control: ControlWorker, source: str = "acme/tiny", **options: Any) -> Install:
    new = control.drive(start_install(source=source, project=None, **options))
    assert new.status == "booting", new.message
    return new


def test_it_works(hub: RunningHub, control: ControlWorker, gpu: GpuWorker) -> None:
    hub.add("acme/tiny", tiny_model())
    new = booting(control)
    assert [(job.model_id, job.waiting) for job in BootKind().backlog()] == [(new.model_id, 1)]
    assert gpu.step()
    new.refresh_from_db()
    assert (new.status, new.message) == ("ready", "")
    assert new.model
    assert new.model.ready
    assert BootKind().backlog() == []
    event = Event.objects.get(type="model.installed")
    assert event.data == {"id": new.uid}
    assert not retry_install(install=new)


def test_an_adapter_answers_on_its_bases_engine(hub: RunningHub, control: ControlWorker, gpu: GpuWorker) -> None:
    hub.add("acme/tiny", tiny_model())
    hub.add("acme/lora", tiny_adapter())
    first = booting(control)
    gpu.step()
    first.refresh_from_db()
    new = booting(control, "acme/lora")
    assert [job.model_id for job in BootKind().backlog()] == [first.model_id]
    gpu.step()
    new.refresh_from_db()
    assert new.status == "ready"


def test_embeddings_are_asked_for_where_the_model_computes_them(
    hub: RunningHub, control: ControlWorker, gpu: GpuWorker
) -> None:
    hub.add("acme/embed", tiny_model(architectures=["BertModel"]))
    new = booting(control, "acme/embed")
    assert new.model
    assert new.model.runner == "pooling"
    gpu.step()
    new.refresh_from_db()
    assert new.status == "ready"


def test_an_engine_that_does_not_start_ends_the_install_with_its_words(
    hub: RunningHub, control: ControlWorker, gpu: GpuWorker
) -> None:
    hub.add("acme/tiny", tiny_model())
    new = booting(control)
    assert new.model
    folder = new.model.folder
    hidden = folder.rename(folder.with_name("hidden"))
    assert not gpu.step()
    assert settle_boots(control.keeper)
    new.refresh_from_db()
    assert (new.status, new.model_id) == ("failed", None)
    assert "The engine of acme/tiny ended with code" in new.message
    assert not Model.objects.exists()
    assert not gpu.step()
    hidden.rename(folder)
    assert retry_install(install=new)
    sent = hub.sent("acme/tiny")
    control.drive(new)
    assert {path: len(ranges) for path, ranges in hub.sent("acme/tiny").items()} == {
        path: len(ranges) + (path == "config.json") for path, ranges in sent.items()
    }
    assert gpu.step()
    new.refresh_from_db()
    assert new.status == "ready"


def test_an_engine_that_answers_nothing_of_use_ends_the_install(
    hub: RunningHub, control: ControlWorker, gpu: GpuWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", tiny_model())
    new = booting(control)
    monkeypatch.setattr(canary, "request", lambda runner: ("/v1/embeddings", {"input": "x"}))
    gpu.step()
    settle_boots(control.keeper)
    new.refresh_from_db()
    assert (new.status, new.model) == ("failed", None)
    assert "refused a first prompt" in new.message
    assert not gpu.step()


def test_it_survives_an_engine_that_dies_meanwhile(
    hub: RunningHub, control: ControlWorker, gpu: GpuWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", tiny_model())
    new = booting(control)
    body = {"prompt": "!die", "max_tokens": 1}
    monkeypatch.setattr(canary, "request", lambda runner: ("/v1/completions", body))
    gpu.step()
    new.refresh_from_db()
    assert new.status == "failed"
    assert "did not answer a first prompt" in new.message
    settle_boots(control.keeper)
    assert not Model.objects.exists()
    assert not gpu.step()


def test_a_boot_can_be_cancelled(hub: RunningHub, control: ControlWorker) -> None:
    hub.add("acme/tiny", tiny_model())
    new = booting(control)
    assert not settle_boots(control.keeper)
    assert cancel_install(install=new)
    assert settle_boots(control.keeper)
    new.refresh_from_db()
    assert (new.status, new.model) == ("cancelled", None)
    assert not Model.objects.exists()


def test_a_model_that_was_deleted_meanwhile_ends_the_install(hub: RunningHub, control: ControlWorker) -> None:
    hub.add("acme/tiny", tiny_model())
    new = booting(control)
    Model.objects.all().delete()
    assert BootKind().backlog() == []
    assert settle_boots(control.keeper)
    new.refresh_from_db()
    assert (new.status, new.message) == ("failed", boot.NEVER_TRIED)


@pytest.mark.engine
def test_a_real_model_comes_from_the_hub_and_answers(
    hub: RunningHub, control: ControlWorker, stop: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The demo model, served by the hub, booted by the real vLLM."""
    shutil.copytree(DEMO, hub.root / "HuggingFaceTB" / "SmolLM2-135M-Instruct")
    hub.behave("HuggingFaceTB/SmolLM2-135M-Instruct", license="apache-2.0")
    monkeypatch.setattr(jobs, "_kinds", {"boot": BootKind()})
    settings.LOG_DIR = tmp_path / "log"
    new = booting(control, "HuggingFaceTB/SmolLM2-135M-Instruct", engine_settings={"max_model_len": 512})
    gpu = GpuWorker(SLOT, claim(control.keeper), control.keeper)
    try:
        assert gpu.step()
    finally:
        gpu.close()
    new.refresh_from_db()
    assert (new.status, new.message) == ("ready", "")
    assert new.model
    assert (new.model.license, new.model.ready, new.model.runner) == ("apache-2.0", True, "generate")


def test_an_adapter_that_changes_nothing_is_refused(hub: RunningHub, control: ControlWorker, gpu: GpuWorker) -> None:
    hub.add("acme/tiny", tiny_model())
    hub.add("acme/lora", tiny_adapter() | {"fake-engine.txt": "nothing"})
    booting(control)
    gpu.step()
    new = booting(control, "acme/lora")
    gpu.step()
    settle_boots(control.keeper)
    new.refresh_from_db()
    assert new.status == "failed"
    assert "exactly as its base model acme/tiny does" in new.message
    assert not Model.objects.filter(name="acme/lora").exists()
