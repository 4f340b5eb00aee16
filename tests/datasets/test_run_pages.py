"""The pages of runs: the list, a new run with its estimate, one run with its columns and judges."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import Membership, Project
from apps.core.leases import Keeper
from apps.datasets.models import Import, Judge, Run, Split, Version
from apps.models.models import Model
from tests.datasets import batchwork
from tests.datasets.batchwork import completion, refusal, start
from tests.datasets.cast import make_reviewer, make_run, make_version

pytestmark = pytest.mark.django_db(transaction=True)

LIST, NEW, ESTIMATE = "/admin/datasets/run/", "/admin/datasets/run/add/", "/admin/datasets/run/estimate/"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def version(project: Project) -> Version:
    return make_version(project)


@pytest.fixture
def curator(project: Project) -> Client:
    return signed_in(make_reviewer(project, "curator"))


@pytest.fixture
def viewer(project: Project) -> Client:
    return signed_in(make_reviewer(project, "viewer", Membership.Role.VIEWER))


@pytest.fixture
def outsider(db: None) -> Client:
    return signed_in(make_reviewer(Project.objects.create(name="elsewhere"), "outsider", Membership.Role.OWNER))


def html_of(client: Client, path: str, **query: Any) -> str:
    response = client.get(path, query)
    assert response.status_code == 200
    return response.content.decode()


def page_of(run: Run) -> str:
    return reverse("admin:datasets_run_change", args=[run.pk])


def do(client: Client, run: Run, verb: str, **values: Any) -> str:
    """The message that it leaves."""
    response = client.post(reverse("admin:datasets_run_do", args=[run.pk, verb]), values)
    assert response.status_code == 302
    return [str(message) for message in get_messages(response.wsgi_request)][-1]


def wanted(version: Version, /, **more: Any) -> dict[str, Any]:
    return {"dataset": version.dataset.uid, "version": version.number, "models": ["test-model"]} | more


def test_it_works(curator: Client, version: Version, model: Model, keeper: Keeper) -> None:
    """Choose, see the estimate, start, watch, review."""
    page = html_of(curator, NEW, dataset=version.dataset.uid)
    assert 'value="test-model"' in page
    assert "1: 3 examples" in page
    shown = curator.post(ESTIMATE, wanted(version, max_tokens="10", samples="2")).content.decode()
    assert re.search(r"<td[^>]*>60</td>", shown)
    assert "max_tokens is 10" in shown
    made = curator.post(NEW, wanted(version, max_tokens="10", temperature="0.5", stop="END\nSTOP", system="Be brief."))
    run = Run.objects.get()
    assert made["location"] == page_of(run)
    assert run.created_by == User.objects.get(username="curator")
    assert run.parameters == {"temperature": 0.5, "max_tokens": 10, "stop": ["END", "STOP"], "system": "Be brief."}
    going = html_of(curator, page_of(run))
    assert f'data-watch="run {run.uid}"' in going
    assert "Re-run" not in going
    batchwork.finish(keeper)
    ended = html_of(curator, page_of(run))
    assert "data-watch" not in ended
    assert reverse("admin:datasets_run_review", args=[run.pk]) in ended
    assert "Be brief." in ended
    assert run.name in html_of(curator, LIST)


def test_the_list_costs_a_constant_number_of_queries(curator: Client, version: Version, model: Model) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            html_of(curator, LIST)
        return len(seen)

    start(version, model)
    html_of(curator, LIST)
    few = queries()
    for number in range(5):
        start(version, model, name=f"run {number}")
    assert queries() == few


def test_a_run_is_a_part_of_a_split(curator: Client, version: Version, model: Model) -> None:
    counts = {"train": 2, "validation": 0, "test": 1}
    split = Split.objects.create(version=version, name="halves", shares={"train": 70, "test": 30}, counts=counts)
    page = html_of(curator, NEW, dataset=version.dataset.uid, split=f"{split.uid}:test")
    assert f'value="{split.uid}:test" selected' in page
    said = curator.post(NEW, wanted(version, split=f"{split.uid}:test")).content.decode()
    assert "There is no example to ask" in said


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"models": []}, "Choose 1 to 20 models."),
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"temperature": "7"}, "temperature must be a number from 0.0 to 2.0"),
        ({"samples": "99"}, "samples must be from 1 to 8"),
        ({"samples": "many"}, "samples must be a number"),
        ({"more": "{"}, "one JSON object"),
        ({"more": "[1]"}, "one JSON object"),
        ({"more": '{"stream": true}'}, "no parameter &#x27;stream&#x27;"),
        ({"dataset": "dset_none"}, "Choose a dataset."),
    ],
)
def test_it_rejects_what_makes_no_sense(
    curator: Client, version: Version, model: Model, change: dict[str, Any], sentence: str
) -> None:
    """And shows the form again as it was filled in."""
    page = curator.post(NEW, wanted(version, **{"name": "<mine>", **change})).content.decode()
    assert sentence in page
    assert "&lt;mine&gt;" in page
    assert not Run.objects.exists()
    assert 'class="bs-table"' not in curator.post(ESTIMATE, wanted(version, **change)).content.decode()


def test_what_failed_is_asked_again(curator: Client, version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)
    batchwork.finish(keeper, lambda r: refusal() if r.custom_id == "2" else completion("fine"))
    assert "Re-run 1 missing" in html_of(curator, page_of(run))
    assert "asked again, of 1 model" in do(curator, run, "rerun")
    assert "still goes on" in do(curator, run, "rerun")
    batchwork.finish(keeper)
    assert "Re-run" not in html_of(curator, page_of(run))


def test_a_model_is_added_and_a_run_cancelled_and_deleted(
    curator: Client, version: Version, model: Model, other: Model, keeper: Keeper
) -> None:
    run = start(version, model)
    assert "other-model is asked too" in do(curator, run, "add", model="other-model")
    assert "a column of this run already" in do(curator, run, "add", model="other-model")
    assert "Choose a model" in do(curator, run, "add", model="nobody")
    assert "being stopped" in do(curator, run, "cancel")
    assert "nothing to cancel" in do(curator, run, "cancel")
    assert "is deleted" in do(curator, run, "delete")
    assert not Run.objects.exists()


def test_a_judge_is_started_and_cancelled(curator: Client, version: Version, model: Model, keeper: Keeper) -> None:
    run = start(version, model)
    assert "There have to be answers first" in html_of(curator, page_of(run))
    batchwork.finish(keeper)
    assert "judges 3 answers" in do(curator, run, "judge", model="test-model", rubric="Is it right?")
    judge = Judge.objects.get()
    assert judge.created_by == User.objects.get(username="curator")
    assert f'data-judge="{judge.uid}"' in html_of(curator, page_of(run))
    assert "being stopped" in do(curator, run, "cancel-judge", id=judge.uid)
    assert "has ended" in do(curator, run, "cancel-judge", id=judge.uid)
    assert "A rubric has 1 to" in do(curator, run, "judge", model="test-model", rubric=" ")


def test_answers_are_imported(curator: Client, version: Version) -> None:
    run = make_run(version, {"small": ["a", "b", "c"]})
    file = SimpleUploadedFile("gpt.jsonl", b'{"number": 1, "answer": "Paris"}\n')
    assert "gpt.jsonl is being imported" in do(curator, run, "import", file=file, label="elsewhere")
    job = Import.objects.get()
    assert (job.kind, job.run, job.label) == ("answers", run, "elsewhere")
    assert f'data-watch="import {job.uid}"' in html_of(curator, page_of(run))
    assert "Choose a file" in do(curator, run, "import")


def test_hostile_text_is_inert(curator: Client, version: Version, model: Model) -> None:
    hostile = "<script>alert(1)</script>"
    run = start(version, model, name=hostile, parameters={"system": hostile, "stop": [hostile]})
    run.columns.update(label=hostile)
    for page in (html_of(curator, page_of(run)), html_of(curator, LIST)):
        assert hostile not in page
        assert "&lt;script&gt;alert(1)" in page


def test_it_rejects_viewers_and_strangers(
    viewer: Client, outsider: Client, version: Version, model: Model, keeper: Keeper
) -> None:
    run = start(version, model)
    batchwork.finish(keeper)
    page = html_of(viewer, page_of(run))
    assert "<form" not in page.split('id="run"')[1].split("</main>")[0]
    assert (viewer.get(NEW).status_code, viewer.post(ESTIMATE).status_code) == (404, 404)
    assert outsider.get(page_of(run)).status_code == 404
    assert run.name not in html_of(outsider, LIST)
    assert "Choose a dataset" in outsider.post(NEW, wanted(version)).content.decode()
    for client in (viewer, outsider):
        for verb in ("cancel", "rerun", "delete", "add", "judge", "cancel-judge", "import", "unknown"):
            url = reverse("admin:datasets_run_do", args=[run.pk, verb])
            assert client.post(url).status_code == 404
            assert client.get(url).status_code == 405
    assert Run.objects.count() == 1


def test_it_survives_nonsense_in_addresses(curator: Client, version: Version) -> None:
    for query in ({"dataset": "a\0b"}, {"version": "9" * 40}, {"models": "a\0b"}, {"split": "a\0:b"}, {"version": "²"}):
        html_of(curator, NEW, **{"dataset": version.dataset.uid} | query)
