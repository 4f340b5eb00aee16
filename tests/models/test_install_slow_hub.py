"""A hub that drips, holds, or asks to wait: noticed, said in a sentence while it lasts, and never tried for ever."""

import email.utils
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.models.installs import errand, installation
from apps.models.installs.progress import snapshot_of
from apps.models.installs.transfer import retry_after
from apps.models.models import Install
from apps.models.services import start_install
from tests.fakes.hostile.folders import safetensors, tiny_model
from tests.models.hubs import RunningHub
from tests.models.installs import ControlWorker, sparse_model

pytestmark = pytest.mark.django_db(transaction=True)

SIZE = 2_000_000
HALF = 1_000_000


@pytest.fixture
def files(hub: RunningHub) -> dict[str, Any]:
    tensor = {"w": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}
    files = tiny_model() | {"model.safetensors": safetensors(tensor, 0) + random.Random(0).randbytes(SIZE)}
    hub.add("acme/large", files)
    return files


def install() -> Install:
    return start_install(source="acme/large", project=None)


def said(control: ControlWorker, new: Install, *words: str) -> None:
    """Wait for a message with these words while it goes on; pages, API and commands show it."""
    control.when(new, lambda: all(word in snapshot_of(new)["message"] for word in words))
    assert new.status not in Install.ENDED


def is_whole(new: Install, files: dict[str, Any]) -> bool:
    assert new.status == "booting", new.message
    assert new.model
    return bool((new.model.folder / "model.safetensors").read_bytes() == files["model.safetensors"])


def test_a_hold_is_said_within_seconds(hub: RunningHub, control: ControlWorker, files: dict[str, Any]) -> None:
    hub.behave("acme/large", hold_at=HALF)
    new = install()
    said(control, new, "The hub has sent nothing for ", " s.")
    assert new.status == "downloading"
    hub.behave("acme/large")
    assert is_whole(control.drive(new), files)
    assert new.message == ""


def test_a_trickle_is_a_stall(
    hub: RunningHub, control: ControlWorker, files: dict[str, Any], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after a bounded number of tries, though each of them brings something; then it goes on where it was."""
    monkeypatch.setattr(errand, "PAUSES", (0,))
    monkeypatch.setattr(installation, "FETCH_TRIES", 2)
    settings.MODEL_STALL_SECONDS, settings.MODEL_MIN_BYTES_PER_SECOND = 2, 100_000
    hub.behave("acme/large", rate=10_000)
    new = control.drive(install())
    assert new.status == "failed"
    assert "bytes came in 2 s, fewer than MODEL_MIN_BYTES_PER_SECOND asks for. What is here is kept" in new.message
    tries = len(hub.sent("acme/large")["model.safetensors"])
    assert 1 <= tries <= 2  # a busy machine may be as slow to ask as the hub is to answer
    hub.behave("acme/large")
    (kept,) = settings.MODELS_DIR.rglob("model.safetensors")
    start = kept.stat().st_size
    again = start_install(source="acme/large", name="again", project=None)
    assert is_whole(control.drive(again), files)
    last = hub.sent("acme/large")["model.safetensors"][-1]
    assert 0 < last[0] == start


def test_what_is_slow_but_not_too_slow_is_left_alone(
    hub: RunningHub, control: ControlWorker, files: dict[str, Any], settings: Any
) -> None:
    settings.MODEL_STALL_SECONDS, settings.MODEL_MIN_BYTES_PER_SECOND = 3, 10_000
    hub.behave("acme/large", rate=500_000)
    assert is_whole(control.drive(install()), files)
    assert len(hub.sent("acme/large")["model.safetensors"]) == 1


@pytest.mark.parametrize("of_files", [False, True], ids=["look-up", "files"])
def test_it_waits_as_long_as_the_hub_asks(
    hub: RunningHub, control: ControlWorker, files: dict[str, Any], of_files: bool
) -> None:
    hub.behave("acme/large", busy={"status": 429, "retry_after": 2, "times": 1, "files": of_files})
    began = time.monotonic()
    new = install()
    said(control, new, "answers with status 429. It asks to wait. It goes on in ", " s.")
    assert is_whole(control.drive(new), files)
    assert time.monotonic() - began > 2
    assert new.message == ""


def test_a_hub_may_say_until_when(hub: RunningHub, control: ControlWorker, files: dict[str, Any]) -> None:
    until = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    hub.behave("acme/large", busy={"status": 429, "retry_after": until, "times": 2})
    assert is_whole(control.drive(install()), files)


def test_waiting_does_not_use_up_tries(hub: RunningHub, control: ControlWorker, files: dict[str, Any]) -> None:
    hub.behave("acme/large", busy={"status": 429, "retry_after": 0, "times": 6})
    assert is_whole(control.drive(install()), files)


def test_a_wait_without_an_end_is_given_up(hub: RunningHub, control: ControlWorker, files: dict[str, Any]) -> None:
    hub.behave("acme/large", busy={"status": 429, "retry_after": 99_999, "times": 99})
    new = control.drive(install())
    assert new.status == "failed"
    assert "It asks to wait 1667 min: try again then. What is here is kept." in new.message


def test_a_hub_that_is_out_of_order_is_asked_again(
    hub: RunningHub, control: ControlWorker, files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errand, "PAUSES", (1,))
    hub.behave("acme/large", busy={"status": 502, "times": 2, "files": True})
    new = install()
    said(control, new, "answers with status 502. It goes on in ")
    assert is_whole(control.drive(new), files)


def test_a_file_that_became_another_is_not_continued(
    hub: RunningHub, control: ControlWorker, files: dict[str, Any], settings: Any
) -> None:
    settings.MODEL_STALL_SECONDS = 2
    hub.behave("acme/large", hold_at=HALF)
    new = install()
    control.when(new, lambda: new.bytes_done >= HALF)
    hub.behave("acme/large", hold_at=HALF, lies={"model.safetensors": "x" * (SIZE * 2)})
    control.drive(new)
    assert new.status == "failed"
    assert "The hub has another version of the file now (4,000,000 bytes, not " in new.message


def test_a_hub_that_knows_no_parts_sends_the_whole(
    hub: RunningHub, control: ControlWorker, files: dict[str, Any], settings: Any
) -> None:
    settings.MODEL_STALL_SECONDS = 2
    hub.behave("acme/large", hold_at=HALF)
    new = install()
    control.when(new, lambda: new.bytes_done >= HALF)
    hub.behave("acme/large", whole=True)
    assert is_whole(control.drive(new), files)


def test_a_folder_s_check_has_a_total(control: ControlWorker, tmp_path: Any) -> None:
    new = start_install(source=str(sparse_model(tmp_path)), project=None)
    control.when(new, lambda: new.status == "checking" and new.bytes_done > 0)
    assert 3 * 10**9 < new.bytes_total < 3.1 * 10**9


@pytest.mark.parametrize(
    ("value", "check"),
    [
        ("45", lambda wait: wait == 45),
        (" 0 ", lambda wait: wait == 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", lambda wait: wait == 0),
        ("", lambda wait: wait is None),
        ("soon", lambda wait: wait is None),
        ("-5", lambda wait: wait is None),
        ("²", lambda wait: wait is None),
    ],
)
def test_both_forms_of_retry_after_are_read(value: str, check: Callable[[float | None], bool]) -> None:
    assert check(retry_after({"retry-after": value}))
