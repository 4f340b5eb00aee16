import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.batches.models import Batch
from apps.core.errors import Conflict
from apps.models import removal
from apps.models.installs import sources
from apps.models.models import Benchmark, Device, Engine, Install, Model
from apps.models.removal import remove_unused_files
from apps.models.services import (
    cancel_install,
    delete_model,
    delete_preview,
    register_model,
    retry_install,
    start_install,
)
from tests.batches.cast import make_running
from tests.fakes.hostile.folders import tiny_model
from tests.models.hubs import RunningHub
from tests.models.installs import ControlWorker

pytestmark = pytest.mark.django_db(transaction=True)


def installed(hub: RunningHub, control: ControlWorker, name: str = "tiny", project: Project | None = None) -> Model:
    if not (hub.root / "acme" / "tiny").exists():
        hub.add("acme/tiny", tiny_model())
    new = control.drive(start_install(source="acme/tiny", name=name, project=project))
    Install.objects.filter(pk=new.pk).update(status="ready")
    Model.objects.filter(name=name).update(ready=True)
    return Model.objects.get(name=name)


def test_it_works(hub: RunningHub, control: ControlWorker) -> None:
    model = installed(hub, control)
    preview = delete_preview(model=model)
    assert preview.bytes_freed >= model.bytes > 8000
    assert (preview.files_stay, preview.blockers, preview.engines) == ("", (), ())
    assert not remove_unused_files(control.keeper)
    delete_model(model=model)
    assert model.folder.exists()
    assert remove_unused_files(control.keeper)
    assert not model.folder.exists()
    assert not remove_unused_files(control.keeper)
    assert Install.objects.get().model is None, "its history stays"


def test_files_that_another_model_uses_stay(hub: RunningHub, control: ControlWorker) -> None:
    one, two = installed(hub, control, "one"), installed(hub, control, "two")
    preview = delete_preview(model=one)
    assert (preview.bytes_freed, preview.shared_with, preview.files_stay) == (0, ("two",), "two use the same files.")
    delete_model(model=one)
    assert not remove_unused_files(control.keeper)
    delete_model(model=two)
    assert remove_unused_files(control.keeper)


def test_a_folder_that_was_not_fetched_stays(control: ControlWorker, tmp_path: Path, settings: Any) -> None:
    settings.MODELS_DIR = tmp_path
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    model = register_model(name="mine", path=folder)
    assert delete_preview(model=model).files_stay == "The folder was not fetched by this server, and stays where it is."
    delete_model(model=model)
    assert not remove_unused_files(control.keeper)
    assert folder.exists()


def test_it_rejects_while_something_needs_it(project: Project, model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    adapter = register_model(name="lora", path=folder, base=model)
    batch = make_running(project, model)
    Benchmark.objects.create(model=model, sweep={})
    found = delete_preview(model=model)
    assert found.adapters == ("lora",)
    uses = {use.what: (use.total, use.running) for use in found.uses}
    assert uses == {"batches": (1, 1), "datasets": (0, 0), "fine-tuning jobs": (0, 0), "deployments": (0, 0)}
    with pytest.raises(Conflict) as error:
        delete_model(model=model)
    for part in (
        "lora ride on test-model: delete them first.",
        "1 batches need test-model now",
        "1 benchmarks measure",
    ):
        assert part in error.value.message
    delete_model(model=adapter)
    Batch.objects.filter(pk=batch.pk).update(status="completed")
    Benchmark.objects.update(status="completed")
    delete_model(model=model)
    batch.refresh_from_db()
    assert (batch.model, batch.model_name) == (None, "test-model")


def test_it_shows_where_it_is_loaded(model: Model) -> None:
    device = Device.objects.create(slot="gpu:here:0", name="A card")
    Engine.objects.create(device=device, model=model, state="ready")
    other = Device.objects.create(slot="gpu:here:1", name="Another")
    Engine.objects.create(device=other, model=model, state="stopped")
    assert delete_preview(model=model).engines == ("A card",)


def test_what_was_fetched_in_vain_goes_and_what_may_be_tried_again_stays(
    hub: RunningHub, control: ControlWorker, settings: Any
) -> None:
    hub.add("acme/tiny", tiny_model() | {"vocab.txt": "x" * 99_000}, hold_at=1000)
    new = start_install(source="acme/tiny", project=None)
    control.drive(new, "downloading")
    control.when(new, lambda: new.bytes_done > 0)
    incoming = sources.files_folder(settings.MODELS_DIR, "acme/tiny", new.revision + ".incoming")
    assert incoming.exists()
    assert not remove_unused_files(control.keeper)
    assert cancel_install(install=new)
    control.drive(new, "cancelled")
    Install.objects.filter(pk=new.pk).update(status="failed")
    assert not remove_unused_files(control.keeper)
    Install.objects.filter(pk=new.pk).update(ended_at="2026-01-01T00:00:00Z")
    assert remove_unused_files(control.keeper)
    assert not incoming.exists()
    new.refresh_from_db()
    hub.behave("acme/tiny")
    assert retry_install(install=new)
    assert control.drive(new).status == "booting"


def test_it_survives_a_kill_between_row_and_files(hub: RunningHub, control: ControlWorker) -> None:
    """Whoever removes them is killed half way: the next one goes on."""
    model = installed(hub, control)
    delete_model(model=model)
    (model.folder / "model.safetensors").unlink()
    assert remove_unused_files(control.keeper)
    assert not model.folder.exists()
    again = installed(hub, control)
    assert (again.folder / "model.safetensors").exists()


def test_files_that_somebody_fills_are_left_alone(hub: RunningHub, control: ControlWorker) -> None:
    model = installed(hub, control)
    delete_model(model=model)
    with removal._locked(model.folder):
        assert not remove_unused_files(control.keeper)
    assert remove_unused_files(control.keeper)


def test_a_project_deletes_its_own_by_the_api(
    hub: RunningHub, control: ControlWorker, api: APIClient, stranger: APIClient, project: Project
) -> None:
    ours, everybodys = installed(hub, control, "acme/ours", project), installed(hub, control, "all")
    assert stranger.delete("/v1/models/acme/ours").json()["error"]["code"] == "model_not_found"
    assert api.delete("/v1/models/none").status_code == 404
    assert api.delete("/v1/models/all").status_code == 403
    assert api.delete("/v1/models/acme/ours").json() == {"id": "acme/ours", "object": "model", "deleted": True}
    assert list(Model.objects.all()) == [everybodys]
    assert ours.name == "acme/ours"
    batch_of = make_running(project, register_model(name="busy", path=everybodys.folder, project=project))
    assert api.delete("/v1/models/busy").status_code == 409
    assert batch_of.model


def test_the_command_shows_what_goes_and_asks(
    hub: RunningHub, control: ControlWorker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = installed(hub, control)
    monkeypatch.setattr("sys.stdin", StringIO("n\n"))
    output = StringIO()
    with pytest.raises(CommandError, match="Nothing was done"):
        call_command("delete_model", "tiny", stdout=output)
    with pytest.raises(CommandError, match="Add --yes"):
        call_command("delete_model", "tiny", stdout=output)  # at the input's end
    assert "are freed" in capsys.readouterr().out
    assert Model.objects.filter(pk=model.pk).exists()
    call_command("delete_model", "tiny", "--yes", stdout=output)
    assert "tiny is deleted." in output.getvalue()
    assert not Model.objects.exists()
    with pytest.raises(CommandError, match="There is no model"):
        call_command("delete_model", "tiny", "--yes")
    shutil.rmtree(model.folder)
