import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.models.installs.errand import File, Refused
from apps.models.installs.preflight import check_disk
from apps.models.models import Device, HubToken, Install, Model
from apps.models.services import cancel_install, retry_install, save_hub_token, start_install
from tests.fakes.hostile.folders import tiny_adapter, tiny_model, write_files
from tests.models.engines import eventually
from tests.models.hubs import RunningHub
from tests.models.installs import ControlWorker, children, folder, sparse_model

pytestmark = pytest.mark.django_db(transaction=True)


def install(source: str = "acme/tiny", project: Project | None = None, **options: Any) -> Install:
    return start_install(source=source, project=project, **options)


def test_it_works(hub: RunningHub, control: ControlWorker, project: Project) -> None:
    hub.add("acme/tiny", tiny_model(), license="apache-2.0", parameters={"BF16": 4096})
    new = control.drive(install(f"{hub.endpoint}/acme/tiny", project))
    assert (new.status, new.license, new.name) == ("booting", "apache-2.0", "acme/tiny")
    assert new.model
    model = new.model
    assert (model.source, model.revision, model.owned_by, model.runner) == (
        "acme/tiny",
        new.revision,
        "acme",
        "generate",
    )
    assert (model.ready, model.project, model.license) == (False, project, "apache-2.0")
    assert not Model.objects.usable_by(project).exists()
    assert model.folder == folder("acme/tiny", new.revision)
    served = hub.root / "acme/tiny"
    for path in served.iterdir():
        if path.name != ".hub.json":
            assert (model.folder / path.name).read_bytes() == path.read_bytes()
    assert model.bytes == new.bytes_total == new.bytes_done == sum(p.stat().st_size for p in served.glob("[!.]*"))


def test_it_shows_the_steps_and_the_bytes(hub: RunningHub, control: ControlWorker) -> None:
    weights = tiny_model()["model.safetensors"]
    hub.add("acme/tiny", tiny_model() | {"vocab.txt": "x" * 600_000}, rate=300_000)
    new = install()
    seen: list[tuple[str, int]] = []

    def ended() -> bool:
        seen.append((new.status, new.bytes_done))
        return new.status == "booting"

    control.when(new, ended)
    statuses = list(dict.fromkeys(status for status, _ in seen))
    assert statuses[-2:] == ["checking", "booting"] or statuses[-2:] == ["downloading", "booting"]
    amounts = sorted({amount for status, amount in seen if status == "downloading"})
    assert len(amounts) > 2
    assert amounts[-1] <= new.bytes_total
    assert new.bytes_total > 600_000 + len(weights)


@pytest.mark.parametrize(
    ("behaviour", "token", "status", "says"),
    [
        ({"gated": "manual"}, "", "refused", "acme/tiny is gated: accept its licence at"),
        (
            {"gated": "auto"},
            "hf_wrong_token",
            "refused",
            "is gated: the account of the saved token has no access, ask for it at",
        ),
        ({"private": True}, "", "refused", "There is no acme/tiny at"),
        ({"private": True}, "hf_wrong_token", "refused", "the account of the saved token may not see it"),
        ({"status": 410}, "", "refused", "answers with status 410 for acme/tiny"),
        ({"status": 503}, "", "failed", "answers with status 503"),
        ({"parameters": {"BF16": 10**11}}, "", "refused", "Weights 200.0 GB"),
    ],
)
def test_it_rejects_what_the_hub_or_the_machine_does_not_allow(
    hub: RunningHub, control: ControlWorker, behaviour: dict[str, Any], token: str, status: str, says: str
) -> None:
    Device.objects.create(slot="gpu:here:0", name="A small one", memory_bytes=24 * 10**9)
    save_hub_token(project=None, token=token)
    hub.add("acme/tiny", tiny_model(), **behaviour)
    new = control.drive(install())
    assert (new.status, new.model) == (status, None)
    assert says in new.message
    assert new.message.count(". ") < 3
    assert "Traceback" not in new.message
    assert set(hub.sent("acme/tiny")) <= {"config.json"}, "nothing is fetched in vain"


@pytest.mark.parametrize(
    ("source", "says"),
    [("acme/none", "There is no acme/none at"), ("acme/tiny@v9", "acme/tiny has no revision 'v9'")],
)
def test_it_rejects_what_is_not_there(hub: RunningHub, control: ControlWorker, source: str, says: str) -> None:
    hub.add("acme/tiny", tiny_model())
    new = control.drive(install(source))
    assert new.status == "refused"
    assert says in new.message


def test_a_hub_that_is_away_is_asked_again_and_then_named(
    hub: RunningHub, control: ControlWorker, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.models.installs.errand.PAUSES", (0, 0, 0))
    settings.HF_ENDPOINT = "http://127.0.0.1:9"
    new = control.drive(install())
    assert new.status == "failed"
    assert "http://127.0.0.1:9 cannot be reached" in new.message


def test_a_gated_model_comes_with_the_projects_token(hub: RunningHub, control: ControlWorker, project: Project) -> None:
    hub.add("acme/tiny", tiny_model(), gated="manual", tokens=["hf_the_projects"])
    save_hub_token(project=None, token="hf_everybodys")
    new = control.drive(install(project=project))
    assert new.status == "refused"
    save_hub_token(project=project, token="hf_the_projects")
    assert retry_install(install=new)
    assert control.drive(new).status == "booting"
    assert HubToken.objects.get(project=project).hint == "…ects"
    assert "hf_the_projects" not in json.dumps(list(Install.objects.values("message", "fit")))


def test_it_rejects_what_the_disk_has_no_room_for(hub: RunningHub, control: ControlWorker, settings: Any) -> None:
    settings.MODEL_DISK_RESERVE_BYTES = 10**18
    hub.add("acme/tiny", tiny_model())
    new = control.drive(install())
    assert new.status == "refused"
    assert "0.00 GB would be fetched" in new.message
    assert "1000000000.00 GB stay free (MODEL_DISK_RESERVE_BYTES)" in new.message


def test_it_rejects_more_than_the_quota(hub: RunningHub, control: ControlWorker, settings: Any) -> None:
    settings.MODEL_MAX_BYTES = 1000
    hub.add("acme/tiny", tiny_model())
    assert "MODEL_MAX_BYTES" in control.drive(install()).message


def test_it_rejects_other_bytes_than_the_hub_announced(hub: RunningHub, control: ControlWorker) -> None:
    """What is wrong is fetched again at the next try, and nothing else is."""
    files = tiny_model()
    evil = {"model.safetensors": "x" * len(files["model.safetensors"]), "README.md": "# Evil"}
    hub.add("acme/tiny", files)
    new = install()
    for lies, says in (
        (evil, "The hub sent other bytes for README.md than it announced: try again."),
        ({"README.md": "# Tiny and more"}, "The hub sent more of README.md than the 6 bytes that it announced"),
        ({}, "The hub sent other bytes for model.safetensors than it announced: try again."),
    ):
        hub.behave("acme/tiny", lies=lies)
        control.drive(new)
        assert (new.status, new.model) == ("failed", None)
        assert says in new.message
        assert retry_install(install=new)
    assert control.drive(new).status == "booting"
    assert len(hub.sent("acme/tiny")["tokenizer.json"]) == 1


def test_what_fits_tightly_is_said_with_its_numbers(hub: RunningHub, control: ControlWorker) -> None:
    Device.objects.create(slot="gpu:here:0", name="A big one", memory_bytes=80 * 10**9)
    hub.add("acme/tiny", tiny_model())
    new = control.drive(install())
    assert new.fit["verdict"] == "fits"
    assert new.fit["devices"][0]["slot"] == "gpu:here:0"
    assert "A big one: Weights 0.00 GB + KV cache" in new.fit["sentence"]


def test_nobody_knows_whether_it_fits_before_a_device_is_known(hub: RunningHub, control: ControlWorker) -> None:
    hub.add("acme/tiny", tiny_model())
    assert control.drive(install()).fit["verdict"] == "unknown"


@pytest.mark.parametrize(
    "sizes",
    [{"num_hidden_layers": 10**12}, {"hidden_size": "x"}, {"num_attention_heads": -1}, {"text_config": [1]},
     {"layer_types": 7}, {"head_dim": 10**400}],
)  # fmt: skip
def test_it_rejects_sizes_that_no_model_has(hub: RunningHub, control: ControlWorker, sizes: dict[str, Any]) -> None:
    hub.add("acme/tiny", tiny_model(**sizes))
    new = control.drive(install())
    assert (new.status, new.refusals[0]["file"]) == ("refused", "config.json"), new.message


def test_a_local_folder_goes_the_same_way_and_stays_where_it_is(
    hub: RunningHub, control: ControlWorker, tmp_path: Path
) -> None:
    write_files(tmp_path / "mine", tiny_model())
    new = control.drive(install(str(tmp_path / "mine")))
    assert new.status == "booting"
    assert new.model
    assert (new.model.folder, new.model.name, new.model.owned_by) == (tmp_path / "mine", "mine", "local")
    assert len(new.model.revision) == 40
    (tmp_path / "mine" / "run.py").write_text("")
    bad = control.drive(install(str(tmp_path / "mine"), name="again"))
    assert (bad.status, bad.refusals[0]["file"]) == ("refused", "run.py")


def test_an_adapter_finds_its_base(hub: RunningHub, control: ControlWorker, project: Project) -> None:
    hub.add("acme/lora", tiny_adapter())
    new = control.drive(install("acme/lora"))
    assert (new.status, new.message) == (
        "refused",
        "It is a LoRA adapter, and its base model is not here: install acme/tiny first, or say which model is its base"
        " (base).",
    )
    hub.add("acme/tiny", tiny_model())
    base = control.drive(install()).model
    assert base
    Model.objects.filter(pk=base.pk).update(ready=True)
    assert retry_install(install=new)
    control.drive(new)
    assert new.model
    assert (new.status, new.model.base, new.model.runner) == ("booting", base, "generate")


def test_it_rejects_an_adapter_of_another_base(hub: RunningHub, control: ControlWorker) -> None:
    hub.add("acme/tiny", tiny_model())
    hub.add("acme/lora", tiny_adapter(width=128))
    base = control.drive(install()).model
    assert base
    Model.objects.filter(pk=base.pk).update(ready=True)
    base.refresh_from_db()
    new = control.drive(install("acme/lora", base=base))
    assert new.status == "refused"
    assert "trained on another model" in new.message
    whole = control.drive(install("acme/tiny", name="whole", base=base))
    assert whole.message == "acme/tiny is a whole model, not an adapter: leave the base out."


@pytest.mark.parametrize("when", ["queued", "resolving", "downloading", "checking"])
def test_it_can_be_cancelled_in_each_step(hub: RunningHub, control: ControlWorker, when: str, tmp_path: Path) -> None:
    hub.add("acme/tiny", tiny_model() | {"vocab.txt": "x" * 200_000}, hold_at=100 if when == "resolving" else 1000)
    new = install(str(sparse_model(tmp_path)) if when == "checking" else "acme/tiny")
    if when != "queued":
        control.drive(new, when)
    assert cancel_install(install=new)
    assert not cancel_install(install=new)
    control.drive(new, seconds=5)
    assert (new.status, new.message) == ("cancelled", "Cancelled.")
    assert new.ended_at
    assert not cancel_install(install=new)
    assert not Model.objects.exists()
    assert eventually(lambda: not children(), 3)


def test_the_disks_room_counts_what_is_there(tmp_path: Path, settings: Any) -> None:
    settings.MODEL_DISK_RESERVE_BYTES = 0
    target = tmp_path / "a--b" / ("c" * 40)
    enough = shutil.disk_usage(tmp_path).free
    file = File("model.safetensors", enough + 10_000_000_000)
    with pytest.raises(Refused, match="would be fetched"):
        check_disk(target, [file])
    incoming = tmp_path / "a--b" / ("c" * 40 + ".incoming") / file.path
    incoming.parent.mkdir(parents=True)
    with incoming.open("wb") as sparse:
        sparse.truncate(20_000_000_000)
    check_disk(target, [file])
