"""The admin's pages of exports: list, new, one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import Membership, Project
from apps.datasets.exports.services import start_export
from apps.datasets.models import Export, Run, Star
from apps.models.services import save_hub_token
from tests.datasets.cast import make_reviewer
from tests.datasets.exports import content, drive, exported, make_split, starred_run

pytestmark = pytest.mark.django_db(transaction=True)

NEW, LIST, COUNT = (reverse(f"admin:datasets_export_{name}") for name in ("add", "changelist", "count"))


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def run(project: Project) -> Run:
    return starred_run(project)


@pytest.fixture
def mia(run: Run) -> Client:
    """A curator of the project."""
    return signed_in(User.objects.get(username="mia"))


@pytest.fixture
def viewer(project: Project) -> Client:
    return signed_in(make_reviewer(project, "vic", Membership.Role.VIEWER))


@pytest.fixture
def outsider(db: None) -> Client:
    return signed_in(make_reviewer(Project.objects.create(name="elsewhere"), "otto"))


def change(export: Export) -> str:
    return reverse("admin:datasets_export_change", args=[export.pk])


def do(export: Export, verb: str) -> str:
    return reverse("admin:datasets_export_do", args=[export.pk, verb])


def download(export: Export, kind: str) -> str:
    return reverse("admin:datasets_export_download", args=[export.pk, kind])


def text(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def test_it_works(mia: Client, run: Run) -> None:
    page = text(mia.get(NEW, {"run": run.uid, "starred": "yes", "text": "capital of"}))
    assert f'<option value="{run.uid}" selected>' in page
    assert "star: yes" in page
    assert "words: capital of" in page
    form = {"dataset": run.dataset.uid, "run": run.uid, "format": "chat", "answers": "starred", "starred": "yes"}
    assert mia.get(COUNT, form).json() == {"rows": 3, "pairs": False, "examples": 3}
    made = mia.post(NEW, form)
    export = drive(Export.objects.get())
    assert (made.status_code, made["Location"]) == (302, change(export))
    assert (export.spec["filters"], export.created_by) == ({"starred": "yes"}, User.objects.get(username="mia"))
    page = text(mia.get(change(export)))
    assert export.file
    assert export.file.sha256 in page
    assert b"".join(mia.get(download(export, "file"))) == content(export)
    assert b"".join(mia.get(download(export, "manifest"))).startswith(b"{")


@pytest.mark.parametrize("not_whole", ["leave_out", "include"])
def test_what_becomes_of_unfinished_answers_is_no_filter(mia: Client, run: Run, not_whole: str) -> None:
    """A filter of the page of a run is called `incomplete`; the form has it beside its own choice."""
    form = {"run": run.uid, "format": "chat", "answers": "starred", "not_whole": not_whole}
    assert f'value="{not_whole}"' in text(mia.get(NEW, form)).split('name="not_whole"')[1].split("</select>")[0]
    assert mia.get(COUNT, form).json()["rows"] == 3
    assert mia.get(COUNT, form | {"incomplete": "yes"}).json()["rows"] == 0
    assert mia.get(COUNT, form | {"incomplete": "no"}).json()["rows"] == 3
    assert mia.post(NEW, form | {"dataset": run.dataset.uid, "incomplete": "no"}).status_code == 302
    spec = Export.objects.get().spec
    assert (spec.get("incomplete", "leave_out"), spec["filters"]) == (not_whole, {"incomplete": "no"})


def test_a_split_is_counted(mia: Client, run: Run) -> None:
    split = make_split(run, ["train", "validation", "train"])
    form = {"run": run.uid, "format": "trl", "answers": "starred_pairs", "split": split.uid, "part": "train"}
    assert mia.get(COUNT, form).json() == {"rows": 2, "pairs": True, "examples": 2}


def test_examples_without_such_an_answer_are_counted(mia: Client, run: Run) -> None:
    Star.objects.filter(example__number=1).delete()
    form = {"dataset": run.dataset.uid, "run": run.uid, "format": "chat", "answers": "starred"}
    assert mia.get(COUNT, form).json() == {"rows": 2, "pairs": False, "examples": 3}
    mia.post(NEW, form)
    export = drive(Export.objects.get())
    page = text(mia.get(change(export)))
    assert "2 of 3 examples have a gold star." in page
    assert "examples without such an answer" in page
    (line,) = b"".join(mia.get(download(export, "left-out"))).splitlines()
    assert json.loads(line)["example"] == 1


def test_it_says_what_is_wrong(mia: Client, run: Run) -> None:
    form = {"dataset": run.dataset.uid, "run": run.uid, "format": "dpo", "answers": "starred"}
    assert mia.get(COUNT, form).json()["error"].startswith("OpenAI preference pairs are pairs")
    assert "OpenAI preference pairs are pairs" in text(mia.post(NEW, form))
    assert "is a whole number from 1 to 5" in text(mia.get(NEW, {"run": run.uid, "rating_min": "9"}))
    assert mia.get(COUNT).json() == {"error": "Choose a dataset."}
    assert mia.get(COUNT, {"dataset": "a\0b"}).json() == {"error": "Choose a dataset."}
    assert not Export.objects.exists()


def test_pushing_is_offered_with_a_token(mia: Client, run: Run) -> None:
    assert "save a token that may write" in text(mia.get(NEW, {"run": run.uid}))
    save_hub_token(project=run.project, token="hf_writer_of_mine")
    page = text(mia.get(NEW, {"run": run.uid}))
    assert 'name="repository"' in page
    assert "hf_writer_of_mine" not in page


def test_the_list_asks_a_constant_number_of_queries(mia: Client, run: Run) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            text(mia.get(LIST))
        return len(captured)

    exported(run, "chat")
    before = queries()
    for _ in range(3):
        exported(run, "alpaca")
    assert queries() == before


def test_it_can_be_cancelled_and_deleted(mia: Client, run: Run) -> None:
    export = start_export(dataset=run.dataset, format="chat", run=run)
    assert 'data-watch="export ' in text(mia.get(change(export)))
    assert "cancel it first" in text(mia.post(do(export, "delete"), follow=True))
    mia.post(do(export, "cancel"))
    assert drive(export).status == Export.Status.CANCELLED
    mia.post(do(export, "delete"))
    assert not Export.objects.exists()


@pytest.mark.parametrize("path", ["change", "do", "download"])
def test_it_rejects_strangers(outsider: Client, run: Run, path: str) -> None:
    export = exported(run, "chat")
    ask: dict[str, Callable[[], Any]] = {
        "change": lambda: outsider.get(change(export)),
        "do": lambda: outsider.post(do(export, "delete")),
        "download": lambda: outsider.get(download(export, "file")),
    }
    assert ask[path]().status_code == 404
    page = text(outsider.get(NEW, {"run": run.uid}))
    assert run.uid not in page
    assert run.dataset.name not in page
    assert outsider.get(COUNT, {"run": run.uid}).json() == {"error": "Choose a dataset."}


def test_it_rejects_changes_by_viewers(viewer: Client, run: Run) -> None:
    export = exported(run, "chat")
    page = text(viewer.get(change(export)))
    assert "data-confirm" not in page
    assert viewer.post(do(export, "delete")).status_code == 404
    assert viewer.get(NEW).status_code == 404
    assert viewer.get(COUNT).status_code == 404


def test_hostile_names_stay_text(mia: Client, run: Run) -> None:
    hostile = "<script>alert(1)</script>"
    run.columns.filter(label="large").update(label=hostile)
    run.dataset.name = run.name = hostile
    run.dataset.save()
    run.save()
    export = exported(run, "chat")
    for page in (mia.get(change(export)), mia.get(NEW, {"run": run.uid, "tag": hostile}), mia.get(LIST)):
        assert hostile not in text(page)
