"""The pages of datasets: the list, one dataset, an upload with its preview."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Membership, Project
from apps.batches.models import File
from apps.core.leases import Keeper
from apps.datasets import duplicates, services
from apps.datasets.imports.job import KIND
from apps.datasets.imports.sources import SAMPLE_ROWS
from apps.datasets.models import Answer, Dataset, DuplicateSearch, Example, Import, Star, Version
from tests.datasets.cast import make_reviewer, make_run, make_version
from tests.datasets.files import jsonl, upload, work_on

pytestmark = pytest.mark.django_db

LIST = "/admin/datasets/dataset/"
HOSTILE = "<script>alert(1)</script>\u202egpj.exe\x1b[31m {{ 7 * 7 }}"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def curator(project: Project) -> Client:
    return signed_in(make_reviewer(project, "curator"))


@pytest.fixture
def viewer(project: Project) -> Client:
    return signed_in(make_reviewer(project, "viewer", Membership.Role.VIEWER))


@pytest.fixture
def outsider(db: None) -> Client:
    return signed_in(make_reviewer(Project.objects.create(name="elsewhere"), "outsider", Membership.Role.OWNER))


def said(response: Any) -> str:
    """The latest message."""
    return [str(message) for message in get_messages(response.wsgi_request)][-1]


def html_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def do(client: Client, dataset: Dataset, verb: str, **values: Any) -> Any:
    return client.post(f"{LIST}{dataset.pk}/do/{verb}/", values)


def test_it_works(curator: Any, project: Project) -> None:
    made = curator.post(
        f"{LIST}add/", {"name": "capitals", "project": project.pk, "star_policy": "shared", "overlap": 1}
    )
    dataset = Dataset.objects.get()
    assert (dataset.created_by, made.url) == (User.objects.get(username="curator"), f"{LIST}{dataset.pk}/upload/")
    file = SimpleUploadedFile("rows.csv", b"question,answer\nCapital of France?,Paris\n")
    sent = curator.post(made.url, {"file": file})
    stored = File.objects.get()
    assert (stored.purpose, sent.url) == ("user_data", f"{LIST}{dataset.pk}/upload/{stored.uid}/")
    html = html_of(curator, sent.url)
    assert "Detected from the first rows: Plain columns." in html
    assert "{{ question }}</textarea>" in html
    assert "Capital of France?" in html
    values = {"shape": "columns", "map_prompt": "Q: {{ question }}", "map_reference": "{{ answer }}", "replace": "on"}
    assert "Q: Capital of France?" in curator.post(f"{sent.url}preview/", values).content.decode()
    begun = curator.post(sent.url, values)
    assert said(begun) == "rows.csv is being imported."
    job = Import.objects.get()
    assert (job.mapping, job.replace, job.skip_bad, job.created_by) == (
        {"prompt": "Q: {{ question }}", "reference": "{{ answer }}"}, True, False, dataset.created_by,
    )  # fmt: skip
    html = html_of(curator, begun.url)
    assert f'data-watch="import {job.uid}"' in html


def test_the_list_shows_what_is_in_each(curator: Client, project: Project) -> None:
    version = make_version(project)
    make_run(version, {"small": ["a", "b", "c"]})
    answer = Answer.objects.all()[0]
    Star.objects.create(example=answer.example, answer=answer, reviewer=User.objects.get(), shared=True)
    row = re.search(r"<tr.*capitals.*?</tr>", html_of(curator, LIST), re.DOTALL)
    assert row
    cells = [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row[0], re.DOTALL)]
    assert cells[-4:-1] == ["3", "1", "1"]


def queries(client: Client, path: str) -> int:
    client.get(path)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def test_pages_cost_the_same_however_much_there_is(curator: Client, project: Project) -> None:
    dataset = make_version(project).dataset
    page = f"{LIST}{dataset.pk}/change/"
    services.find_duplicates(version=dataset.versions.get())  # of what goes on, it is asked whether an attempt failed
    few = queries(curator, LIST), queries(curator, page)
    for number in range(20):
        make_version(project, name=f"other {number}")
        services.start_import(dataset=dataset, file=upload(project, jsonl([{"prompt": "a", "completion": "b"}])))
        Import.objects.all().update(status="completed")
        services.make_split(version=dataset.versions.get(), name=f"split {number}")
        services.find_duplicates(version=dataset.versions.get())
        make_run(dataset.versions.get(), {"small": ["a", "b", "c"]}, name=f"run {number}")
    many = queries(curator, LIST), queries(curator, page)
    assert many == few


def test_examples_are_searched_and_paged(curator: Client, project: Project) -> None:
    version = make_version(project, [f"Question number{n} {'odd' if n % 2 else 'even'}" for n in range(1, 61)])
    page = f"{LIST}{version.dataset.pk}/change/"
    html = html_of(curator, page)
    assert "number25 " in html
    assert "number26 " not in html
    assert "number26 " in html_of(curator, f"{page}?after=25")
    html = html_of(curator, f"{page}?q=odd")
    assert ("number49 " in html, "number2 " in html) == (True, False)
    assert "No example" in html_of(curator, f"{page}?q=nobody")
    assert "No example" in html_of(curator, f"{page}?tag=nobody")
    for nonsense in (
        "q=%00",
        "after=x",
        "after=99999999999999",
        "version=abc",
        "version=77",
        "tag=%00",
        "q=" + "x" * 600,
    ):
        assert curator.get(f"{page}?{nonsense}").status_code == 200


def test_hostile_texts_are_inert(curator: Client, project: Project) -> None:
    dataset = services.create_dataset(project=project, name="a<b>", description=HOSTILE)
    rows = [{"prompt": HOSTILE, "completion": HOSTILE, "id": HOSTILE, "tags": ["<i>"]}]
    file = upload(project, jsonl(rows), "a<script>.jsonl")
    Version.objects.create(dataset=dataset, number=1, examples=1, note=HOSTILE)
    draft = services.preview(file=file).drafts[0]
    made = draft.conversation
    Example.objects.create(
        dataset=dataset, number=1, added_in=1, messages='[{"role": "user", "content": "<script>alert(1)</script>"}]',
        prompt=made.question, reference=draft.reference, key=made.key, tags=list(made.tags), data=draft.data,
        fingerprint="0" * 32,
    )  # fmt: skip
    job = services.start_import(dataset=dataset, file=file)
    Import.objects.filter(pk=job.pk).update(
        status="failed", message=HOSTILE, errors=[{"line": 1, "message": HOSTILE}], skipped=1
    )
    root = f"{LIST}{dataset.pk}/"
    for path in (
        LIST,
        f"{root}change/",
        f"{root}upload/",
        f"{root}upload/{file.uid}/",
        f"{root}examples/1/",
        f"{root}edit/",
    ):
        html = html_of(curator, path)
        assert "<script>alert" not in html
        assert "a<b>" not in html
        assert "<i>" not in html
        if path != f"{root}edit/":  # there it is a form's value
            assert "\u202e" not in html
            assert "\x1b" not in html


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.jsonl", b"", "The submitted file is empty"),
        ("wide.csv", ",".join(f"c{n}" for n in range(10_000)).encode(), "at most 500 can be read"),
        ("rows.json", b"[1]", "This element is no JSON object"),
    ],
)
def test_it_rejects_an_upload(curator: Client, project: Project, name: str, content: bytes, says: str) -> None:
    dataset = services.create_dataset(project=project, name="capitals")
    response = curator.post(f"{LIST}{dataset.pk}/upload/", {"file": SimpleUploadedFile(name, content)}, follow=True)
    assert says in response.content.decode()


def test_it_rejects_a_mapping_with_a_sentence(curator: Client, project: Project) -> None:
    dataset = services.create_dataset(project=project, name="capitals")
    file = upload(project, "frage,antwort\nHauptstadt?,Paris\n", "rows.csv")
    path = f"{LIST}{dataset.pk}/upload/{file.uid}/"
    html = html_of(curator, path)
    assert "Say which column is the prompt" in html
    assert "frage" in html
    values = {"shape": "columns", "map_prompt": "{{ frage.__class__ }}"}
    for response in (curator.post(f"{path}preview/", values), curator.post(path, values)):
        assert response.status_code == 200
        assert "Names must not start with an underscore" in response.content.decode()
    assert "There is no column" in curator.post(path, {"shape": "columns", "map_prompt": "{{ x }}"}).content.decode()
    assert "Shape" in curator.post(path, {"shape": "round"}).content.decode()
    assert not Import.objects.exists()


def test_splits_and_searches_are_begun(curator: Client, project: Project) -> None:
    dataset = make_version(project).dataset
    values = {"name": "s", "train": 60, "validation": 20, "test": 20, "seed": 1}
    assert said(do(curator, dataset, "split", **values)).startswith("s: ")
    assert "has a split 's' already" in said(do(curator, dataset, "split", **values))
    assert "add up to 100" in said(do(curator, dataset, "split", **{**values, "name": "t", "test": 50}))
    assert said(do(curator, dataset, "split", name="u")) == "Train: This field is required."
    assert said(do(curator, dataset, "search", threshold="0.85")) == "The search for duplicates has begun."
    assert "Threshold" in said(do(curator, dataset, "search", threshold="9"))
    search = DuplicateSearch.objects.get()
    assert f'data-watch="duplicates {search.uid}"' in html_of(curator, f"{LIST}{dataset.pk}/change/")
    assert said(do(curator, dataset, "cancel-search", id=search.uid)) == "It is being cancelled."


def test_examples_are_removed(curator: Client, project: Project) -> None:
    dataset = make_version(project).dataset
    assert "Tick the examples" in said(do(curator, dataset, "remove"))
    assert "None of these" in said(do(curator, dataset, "remove", number=["99", "x"]))
    assert said(do(curator, dataset, "remove", number=["1", "3"])) == "capitals v2 is there: 1 example."
    html = html_of(curator, f"{LIST}{dataset.pk}/change/")
    assert "Capital of Peru?" in html
    assert "Capital of France?" not in html
    assert "Capital of France?" in html_of(curator, f"{LIST}{dataset.pk}/change/?version=1")


def test_a_dataset_is_edited_and_deleted(curator: Client, project: Project) -> None:
    dataset = make_version(project).dataset
    path = f"{LIST}{dataset.pk}/edit/"
    make_version(project, name="other")
    bad = curator.post(path, {"name": "other", "star_policy": "shared", "overlap": 1})
    assert "has a dataset &#x27;other&#x27; already" in bad.content.decode()
    curator.post(path, {"name": "towns", "star_policy": "reviewer", "overlap": 3, "description": "d"})
    dataset.refresh_from_db()
    assert (dataset.name, dataset.star_policy, dataset.overlap) == ("towns", "reviewer", 3)
    assert said(do(curator, dataset, "delete")).startswith("towns is deleted")
    assert not Dataset.objects.filter(pk=dataset.pk).exists()


def test_a_viewer_looks_and_changes_nothing(viewer: Client, project: Project) -> None:
    dataset = make_version(project).dataset
    html = html_of(viewer, f"{LIST}{dataset.pk}/change/")
    assert "Capital of Peru?" in html
    assert "/do/" not in re.sub(r'<form method="post" action="[^"]*remove/"', "", html)
    assert "/upload/" not in html.replace("/batches/upload/", "")
    file = upload(project, jsonl([{"prompt": "a", "completion": "b"}]))
    root = f"{LIST}{dataset.pk}/"
    for path in (f"{root}upload/", f"{root}upload/{file.uid}/", f"{root}edit/", f"{LIST}add/"):
        assert viewer.get(path).status_code == 404
    for verb in ("delete", "split", "search", "remove", "remove-duplicates", "cancel-import", "cancel-search"):
        assert do(viewer, dataset, verb, number=["1"]).status_code == 404
    assert viewer.post(f"{root}upload/{file.uid}/preview/").status_code == 404
    assert Version.objects.count() == 1


def test_to_an_outsider_it_does_not_exist(outsider: Client, curator: Client, project: Project) -> None:
    dataset = make_version(project).dataset
    file = upload(project, jsonl([{"prompt": "a", "completion": "b"}]))
    root = f"{LIST}{dataset.pk}/"
    assert "capitals" not in html_of(outsider, LIST)
    paths = ("change/", "upload/", f"upload/{file.uid}/", "edit/", "examples/1/", "duplicates/1/")
    assert {outsider.get(f"{root}{path}").status_code for path in paths} == {404}
    assert do(outsider, dataset, "delete").status_code == 404
    theirs = make_version(Project.objects.get(name="elsewhere"), name="theirs").dataset
    assert outsider.get(f"{LIST}{theirs.pk}/upload/{file.uid}/").status_code == 404
    assert outsider.get(f"{LIST}{theirs.pk}/examples/999/").status_code == 404


def test_what_an_import_left_behind_is_not_shown(curator: Client, project: Project) -> None:
    dataset = make_version(project).dataset
    Example.objects.create(
        dataset=dataset, number=4, added_in=2, messages="[]", prompt="half an import", fingerprint="0" * 32
    )
    assert "half an import" not in html_of(curator, f"{LIST}{dataset.pk}/change/")
    assert curator.get(f"{LIST}{dataset.pk}/examples/4/").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_duplicates_are_looked_at_and_removed(curator: Client, project: Project, keeper: Keeper) -> None:
    dataset = make_version(project, ["One", "Two", "one "]).dataset
    do(curator, dataset, "search", threshold="1")
    work_on(duplicates.KIND, keeper)
    search = DuplicateSearch.objects.get()
    assert "Look at the 1" in html_of(curator, f"{LIST}{dataset.pk}/change/")
    html = html_of(curator, f"{LIST}{dataset.pk}/duplicates/{search.pk}/")
    assert "exact" in html
    assert said(do(curator, dataset, "remove-duplicates", id=search.uid)) == "capitals v2 is there: 2 examples."


@pytest.mark.django_db(transaction=True)
def test_errors_of_an_import_are_listed(curator: Client, project: Project, keeper: Keeper) -> None:
    dataset = services.create_dataset(project=project, name="capitals")
    file = upload(project, jsonl([{"prompt": "a", "completion": "b"}]) + "nonsense\n")
    services.start_import(dataset=dataset, file=file)
    work_on(KIND, keeper)
    html = html_of(curator, f"{LIST}{dataset.pk}/change/")
    assert "1 row with errors" in html
    assert "This line is not valid JSON" in html
    again = f"{LIST}{dataset.pk}/upload/{file.uid}/?skip_bad=on"
    assert again in html
    assert 'name="skip_bad" checked' in html_of(curator, again)
    curator.post(again, {"shape": "completion", "skip_bad": "on"})
    work_on(KIND, keeper)
    assert Import.objects.first().status == "completed"  # type: ignore[union-attr]


@pytest.mark.django_db(transaction=True)
def test_an_upload_that_would_lose_something_is_accepted_first(curator: Any, project: Project, keeper: Keeper) -> None:
    dataset = services.create_dataset(project=project, name="colours")
    row = {"messages": [{"role": "user", "content": "Is coal white?"}], "rejected": "Yes.", HOSTILE: "x"}
    file = upload(project, jsonl([row]) + "nonsense\n", "rows.jsonl")
    page = f"{LIST}{dataset.pk}/upload/{file.uid}/"
    html = html_of(curator, page)
    assert "1 column or key would be lost" in html
    assert "rejected answer elsewhere" in html
    assert "<script>alert" not in html
    values = {"shape": "chat", "skip_bad": "on"}
    assert "1 column or key would be lost" in curator.post(f"{page}preview/", values).content.decode()
    refused = curator.post(page, values)
    assert "&#x27;rejected&#x27; (rejected answer; 1 row, the first in line 1)" in refused.content.decode()
    assert not Import.objects.exists()
    curator.post(page, values | {"accept_losses": "on"})
    work_on(KIND, keeper)
    job = Import.objects.get()
    assert job.status == "completed", job.message
    html = html_of(curator, f"{LIST}{dataset.pk}/change/")
    assert "What became of the columns and keys" in html
    assert job.errors_file
    assert f"/admin/batches/file/{job.errors_file.pk}/download/" in html
    assert "<script>alert" not in html


@pytest.mark.django_db(transaction=True)
def test_an_import_that_failed_for_a_late_loss_can_be_repeated(curator: Any, project: Project, keeper: Keeper) -> None:
    dataset = services.create_dataset(project=project, name="colours")
    row = {"messages": [{"role": "user", "content": "Is coal white?"}]}
    file = upload(project, jsonl([row] * SAMPLE_ROWS + [{**row, "rejected": "Yes."}]), "rows.jsonl")
    page = f"{LIST}{dataset.pk}/upload/{file.uid}/"
    curator.post(page, {"shape": "chat"})
    work_on(KIND, keeper)
    html = html_of(curator, f"{LIST}{dataset.pk}/change/")
    assert "Nothing was imported, since the import would lose" in html
    assert f'href="{page}?accept_losses=on">Import without what is not used' in html
    assert 'name="accept_losses" checked' in html_of(curator, f"{page}?accept_losses=on")
