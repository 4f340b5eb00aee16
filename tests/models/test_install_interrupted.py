"""Whatever is killed, stopped or lost, an install goes on, and what is on disk is not fetched again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from apps.models.installs import errand
from apps.models.models import Install, Model
from apps.models.services import start_install
from tests.fakes.hostile.folders import safetensors, tiny_model
from tests.models.engines import all_gone, eventually
from tests.models.hubs import RunningHub
from tests.models.installs import ControlWorker, children, folder, sparse_model

pytestmark = pytest.mark.django_db(transaction=True)

SIZE = 5_000_000
FORTY_PERCENT = 2_000_000
WIRE = 512 * 1024  # bytes that a killed process may not have taken from the wire

WORKER = (
    "import django; django.setup()\n"
    "from apps.core.drain import drain\n"
    "from apps.core.duties import ControlWorker\n"
    "drain('control:0', 'control', ControlWorker)"
)


@pytest.fixture(autouse=True)
def large(hub: RunningHub) -> dict[str, Any]:
    """A model whose weights take a while."""
    tensor = {"w": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}
    weights = safetensors(tensor, 0) + random.Random(0).randbytes(SIZE)
    files = tiny_model() | {"model.safetensors": weights}
    hub.add("acme/large", files, hold_at=FORTY_PERCENT)
    return files


def install(name: str = "large") -> Install:
    return start_install(source="acme/large", name=name, project=None)


def held(new: Install, files: dict[str, Any]) -> bool:
    """Whether all is here that the hub has sent: the weights up to where it holds them, and the other files."""
    return 0 < new.bytes_total <= new.bytes_done + len(files["model.safetensors"]) - FORTY_PERCENT


def transfers(hub: RunningHub) -> int:
    """How often the hub has begun, and stopped, to send the weights."""
    return len(hub.sent("acme/large").get("model.safetensors", ()))


def kill_children(hub: RunningHub) -> None:
    """With -9; returns when the hub has seen it: a process is gone before the last of its threads closes its files."""
    before = transfers(hub)
    for child in children():
        os.kill(child, signal.SIGKILL)
    assert eventually(lambda: transfers(hub) > before)


def all_but_the_configuration_once(hub: RunningHub) -> bool:
    """The configuration is read before the download too, for the fit."""
    return hub.sent_twice("acme/large", besides="config.json") == 0


def is_the_hubs(new: Install, files: dict[str, Any]) -> bool:
    assert new.model
    return bool((new.model.folder / "model.safetensors").read_bytes() == files["model.safetensors"])


def test_it_works_after_a_kill_of_the_child_at_40_percent(
    hub: RunningHub, control: ControlWorker, large: dict[str, Any]
) -> None:
    new = install()
    control.when(new, lambda: held(new, large))
    kill_children(hub)
    hub.behave("acme/large")
    control.drive(new)
    assert (new.status, is_the_hubs(new, large)) == ("booting", True)
    first, second = hub.sent("acme/large")["model.safetensors"]
    assert first == (0, FORTY_PERCENT)
    assert second == (FORTY_PERCENT, len(large["model.safetensors"]))
    assert all_but_the_configuration_once(hub)


def test_a_kill_in_full_flow_costs_what_was_on_the_wire(
    hub: RunningHub, control: ControlWorker, large: dict[str, Any]
) -> None:
    hub.behave("acme/large", rate=600_000)
    new = install()
    for share in (0.2, 0.5, 0.8):
        control.when(new, lambda share=share: new.bytes_done >= share * SIZE)  # type: ignore[misc]
        control.when(new, lambda: len(children()) == 1)
        kill_children(hub)
    control.drive(new)
    assert (new.status, is_the_hubs(new, large)) == ("booting", True)
    assert hub.sent_twice("acme/large", besides="config.json") <= 3 * WIRE
    assert len(hub.sent("acme/large")["model.safetensors"]) == 4


def test_it_survives_a_hub_that_hangs_up(hub: RunningHub, control: ControlWorker, large: dict[str, Any]) -> None:
    hub.behave("acme/large", drop_at=FORTY_PERCENT)
    new = control.drive(install())
    assert (new.status, is_the_hubs(new, large)) == ("booting", True)
    assert all_but_the_configuration_once(hub)


def test_a_download_that_stalls_is_noticed_and_goes_on(
    hub: RunningHub, control: ControlWorker, large: dict[str, Any], settings: Any
) -> None:
    settings.MODEL_STALL_SECONDS = 2
    new = install()
    control.when(new, lambda: new.bytes_done >= FORTY_PERCENT)
    (stalled,) = children()
    control.when(new, lambda: children() not in ([], [stalled]))
    hub.behave("acme/large")
    control.drive(new)
    assert (new.status, is_the_hubs(new, large)) == ("booting", True)
    assert all_but_the_configuration_once(hub)


def test_a_child_that_hangs_is_replaced(
    hub: RunningHub, control: ControlWorker, large: dict[str, Any], settings: Any
) -> None:
    settings.MODEL_STALL_SECONDS = 2
    new = install()
    control.when(new, lambda: new.bytes_done >= FORTY_PERCENT)
    os.kill(children()[0], signal.SIGSTOP)
    hub.behave("acme/large")
    assert control.drive(new).status == "booting"


def test_what_never_comes_is_given_up_with_a_sentence(
    hub: RunningHub, control: ControlWorker, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MODEL_STALL_SECONDS = 2
    monkeypatch.setattr(errand, "PAUSES", (0,))
    new = control.drive(install())
    assert (new.status, new.message) == ("failed", "Nothing came for 2 s. What is here is kept: try again.")


def test_two_installs_of_one_commit_share_the_files(
    hub: RunningHub, control: ControlWorker, large: dict[str, Any]
) -> None:
    one, two = install("one"), install("two")
    for new in (one, two):
        control.when(new, lambda new=new: new.bytes_done >= FORTY_PERCENT)  # type: ignore[misc]
    assert len(children()) == 2
    hub.behave("acme/large")
    for new in (one, two):
        assert control.drive(new).status == "booting"
    assert one.model != two.model
    assert {model.folder for model in Model.objects.all()} == {folder("acme/large", one.revision)}
    assert all_but_the_configuration_once(hub)
    third = control.drive(install("three"))
    assert third.status == "booting"
    assert all_but_the_configuration_once(hub)


def test_who_joined_goes_on_when_the_first_is_killed(
    hub: RunningHub, control: ControlWorker, large: dict[str, Any]
) -> None:
    one, two = install("one"), install("two")
    for new in (one, two):
        control.when(new, lambda new=new: held(new, large))  # type: ignore[misc]
    kill_children(hub)
    hub.behave("acme/large")
    for new in (one, two):
        assert control.drive(new).status == "booting"
    assert all_but_the_configuration_once(hub)


def test_it_rejects_files_that_were_changed_since(hub: RunningHub, control: ControlWorker) -> None:
    hub.behave("acme/large")
    first = control.drive(install("one")).model
    assert first
    (first.folder / "run.py").write_text("print('pwned')")
    second = control.drive(install("two"))
    assert second.status == "failed"
    assert "run.py was added or removed. Delete the models that use this folder" in second.message


@pytest.fixture
def workers(process_env: dict[str, str], hub: RunningHub) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Real control workers: call `begin` to have one more."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def begin(workers: list["subprocess.Popen[bytes]"], hub: RunningHub, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    ours = {"HF_ENDPOINT": hub.endpoint, "MODELS_DIR": str(django_settings.MODELS_DIR)}
    process = subprocess.Popen([sys.executable, "-c", WORKER], cwd=django_settings.BASE_DIR, env={**env, **ours})
    workers.append(process)
    return process


def wait(new: Install, *statuses: str, more_than: int = -1) -> None:
    def reached() -> bool:
        new.refresh_from_db()
        return new.status in statuses and new.bytes_done > more_than

    assert eventually(reached, 60), f"{new.status}: {new.message}"


@pytest.mark.parametrize("step", ["resolving", "downloading", "checking"])
def test_it_survives_a_kill_of_the_control_worker_in_each_step(
    hub: RunningHub,
    workers: list["subprocess.Popen[bytes]"],
    process_env: dict[str, str],
    large: dict[str, Any],
    step: str,
    tmp_path: Path,
) -> None:
    if step == "resolving":  # its first look at the configuration is not answered
        hub.behave("acme/large", hold_at=100)
    new = start_install(source=str(sparse_model(tmp_path)), project=None) if step == "checking" else install()
    first = begin(workers, hub, process_env)
    wait(new, step, more_than=FORTY_PERCENT - 1 if step == "downloading" else -1)
    assert eventually(lambda: children(first.pid))
    orphans = children(first.pid)
    before = transfers(hub)
    first.kill()
    first.wait()
    killed = time.monotonic()
    assert eventually(lambda: all_gone(set(orphans)) and (step != "downloading" or transfers(hub) > before))
    hub.behave("acme/large")
    begin(workers, hub, process_env)
    wait(new, "booting")
    assert time.monotonic() - killed < 30
    assert Model.objects.get(name=new.name).ready is False
    assert all_but_the_configuration_once(hub)


def test_it_survives_two_control_workers_at_once(
    hub: RunningHub, workers: list["subprocess.Popen[bytes]"], process_env: dict[str, str]
) -> None:
    hub.behave("acme/large")
    installs = [install(f"m{number}") for number in range(4)]
    begin(workers, hub, process_env)
    ours = {"HF_ENDPOINT": hub.endpoint, "MODELS_DIR": str(django_settings.MODELS_DIR)}
    other = [sys.executable, "-c", WORKER.replace("control:0", "control:1")]
    workers.append(subprocess.Popen(other, cwd=django_settings.BASE_DIR, env={**process_env, **ours}))
    for new in installs:
        wait(new, "booting")
    assert all_but_the_configuration_once(hub)
