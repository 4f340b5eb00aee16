"""A Hugging Face folder goes to the hub, by the real client, to a hub that runs (tests/fakes/hub)."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from apps.accounts.models import Project
from apps.core import guard
from apps.core.errors import DomainError
from apps.datasets.exports.job import KIND
from apps.datasets.exports.services import cancel_export, start_export
from apps.datasets.models import Example, Export
from apps.models.services import save_hub_token
from tests.datasets.exports import drive, exporter, kept_of, make_split, starred_run
from tests.models.hubs import RunningHub, running_hub

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "hf_writer_of_mine"
REPOSITORY = "mia/capitals"


@pytest.fixture
def hub(tmp_path: Path, settings: Any) -> Iterator[RunningHub]:
    with running_hub(tmp_path / "hub") as hub:
        settings.HF_ENDPOINT = hub.endpoint
        yield hub


@pytest.fixture
def export(project: Project) -> Export:
    """One that waits, of train, validation and train."""
    save_hub_token(project=project, token=TOKEN)
    run = starred_run(project)
    return pushed(run.dataset, run=run, split=make_split(run, ["train", "validation", "train"]))


def pushed(dataset: Any, **choices: Any) -> Export:
    return start_export(dataset=dataset, format="huggingface", repository=REPOSITORY, **choices)


def on(hub: RunningHub) -> dict[str, Path]:
    folder = hub.root / "datasets" / REPOSITORY
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def commits(hub: RunningHub) -> int:
    log = hub.root / "log.jsonl"
    return sum("commit" in json.loads(line) for line in log.read_text().splitlines()) if log.exists() else 0


def test_it_works(hub: RunningHub, export: Export) -> None:
    assert drive(export).status == Export.Status.COMPLETED, export.message
    assert export.message.startswith(f"It is at {hub.endpoint}/datasets/{REPOSITORY}/commit/")
    files = on(hub)
    assert set(files) == {
        ".hub.json", "README.md", "manifest.json", "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
    }  # fmt: skip
    assert json.loads(files[".hub.json"].read_text())["private"] is True
    assert parquet.read_table(files["data/train-00000-of-00001.parquet"]).column("example").to_pylist() == [1, 3]


def test_the_same_export_again_makes_no_new_commit(hub: RunningHub, export: Export) -> None:
    drive(export)
    split = export.dataset.versions.get().splits.get()
    again = drive(pushed(export.dataset, run=export.run, split=split))
    assert again.status == Export.Status.COMPLETED, again.message
    assert commits(hub) == 1


def test_files_of_an_earlier_export_go(hub: RunningHub, export: Export) -> None:
    drive(export)
    drive(pushed(export.dataset, run=export.run))
    assert sorted(name for name in on(hub) if name.startswith("data/")) == ["data/train-00000-of-00001.parquet"]


def test_it_rejects_a_public_repository(hub: RunningHub, export: Export) -> None:
    hub.add(f"datasets/{REPOSITORY}", {"README.md": b"mine"}, tokens=[TOKEN], private=False)
    assert drive(export).status == Export.Status.FAILED
    assert f"{REPOSITORY} is public, and nothing was sent" in export.message
    assert (set(on(hub)), kept_of(export)) == ({".hub.json", "README.md"}, [])


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        ({"tokens": ["hf_somebody_elses"], "private": True}, "may not write to mia/capitals"),
        ({"tokens": [TOKEN], "private": True, "status": 500}, "answers with status 500"),
    ],
)
def test_it_says_why_the_hub_refuses(hub: RunningHub, export: Export, behaviour: dict[str, Any], sentence: str) -> None:
    hub.add(f"datasets/{REPOSITORY}", {"README.md": b"mine"}, **behaviour)
    assert drive(export).status == Export.Status.FAILED
    assert sentence in export.message
    assert TOKEN not in export.message


def test_it_says_that_the_token_is_not_accepted(hub: RunningHub, export: Export) -> None:
    save_hub_token(project=export.project, token="not-a-token-of-the-hub")
    assert "does not accept the project's token" in drive(export).message


def test_it_says_that_the_hub_cannot_be_reached(export: Export, settings: Any) -> None:
    settings.HF_ENDPOINT = "http://127.0.0.1:9"
    assert "http://127.0.0.1:9 cannot be reached" in drive(export).message


def test_it_can_be_cancelled_while_it_is_sent(hub: RunningHub, export: Export) -> None:
    hub.add(f"datasets/{REPOSITORY}", {"README.md": b"mine"}, tokens=[TOKEN], private=True, hold=True)
    with exporter() as keeper:
        assert KIND.duty(keeper)
        wait_until(children)
        cancel_export(export=export)
        wait_until(lambda: not children())
    export.refresh_from_db()
    assert (export.status, kept_of(export), set(on(hub))) == (Export.Status.CANCELLED, [], {".hub.json", "README.md"})


def test_it_rejects_a_project_without_a_token(project: Project) -> None:
    run = starred_run(project)
    with pytest.raises(DomainError, match="has no token of the hub: save one that may write"):
        pushed(run.dataset, run=run)


def test_hostile_names_stay_data_in_the_card(hub: RunningHub, project: Project) -> None:
    save_hub_token(project=project, token=TOKEN)
    name = 'x"\n---\nlicense: mit <script>alert(1)</script> [a](javascript:1)\x85'
    run = starred_run(project, name=name)
    Example.objects.update(key="</script>")
    assert drive(pushed(run.dataset, run=run)).status == Export.Status.COMPLETED
    card = on(hub)["README.md"].read_text()
    head = card.split("---\n")[1]
    assert head.splitlines()[0] == 'pretty_name: "x\\"---license: mit <script>alert(1)</script> [a](javascript:1)"'
    assert "<script>" not in card.split("---\n", 2)[2]


def children() -> list[int]:
    """The processes that send now."""
    return [pid for pid in guard.family(os.getpid()) if b"apps.datasets.exports.push" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
