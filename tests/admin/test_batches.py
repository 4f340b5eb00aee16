from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from apps.accounts.models import Project
from apps.batches.admin.lines import PAGE, read_page
from apps.batches.models import Batch, File
from apps.models.models import Model
from tests.admin.conftest import MakeBatch

LIST = "/admin/batches/batch/"
LINE = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}\n'


def page(batch: Batch, path: str = "change/") -> str:
    return f"{LIST}{batch.pk}/{path}"


def said(response: Any) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def act(client: Client, verb: str, *batches: Batch) -> Any:
    return client.post(LIST, {"action": verb, "_selected_action": [batch.pk for batch in batches]})


def content_of(response: Any) -> bytes:
    async def read() -> bytes:
        return b"".join([part async for part in response.streaming_content])

    return async_to_sync(read)()


def test_it_works(curator: Client, make_batch: MakeBatch) -> None:
    batch = make_batch(6, completed=3, failed=1)
    html = curator.get(LIST).content.decode()
    assert f'data-batch="{batch.uid}"' in html
    assert 'data-bar="completed" style="width:50.00%"' in html
    html = curator.get(page(batch)).content.decode()
    assert "Capital of France?" in html
    assert "Paris." in html
    assert "Too slow." in html


def test_it_shows_a_line(curator: Client, make_batch: MakeBatch) -> None:
    html = curator.get(page(make_batch(completed=6), "lines/2/")).content.decode()
    assert "id-2" in html
    assert "Paris." in html
    assert f"{LIST}" in html


def test_it_rejects_a_line_that_is_not_there(curator: Client, make_batch: MakeBatch) -> None:
    batch = make_batch(3)
    assert curator.get(page(batch, "lines/4/")).status_code == 404
    assert curator.get(page(batch, f"lines/{10**30}/")).status_code == 404


def test_it_never_trusts_what_a_model_wrote(curator: Client, make_batch: MakeBatch) -> None:
    batch = make_batch(completed=6, answer="<script>alert(1)</script>")
    for path in ("change/", "lines/1/"):
        html = curator.get(page(batch, path)).content.decode()
        assert "<script>alert(1)" not in html
        assert "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    "body", ["not json", "[1]", '{"choices": 7}', '{"error": "no"}', '{"choices": [null, {"message": 1}]}']
)
def test_it_survives_an_answer_that_is_no_completion(curator: Client, make_batch: MakeBatch, body: str) -> None:
    batch = make_batch(completed=6)
    batch.results.update(body=body)
    assert curator.get(page(batch)).status_code == 200
    assert curator.get(page(batch, "lines/1/")).status_code == 200


def test_it_pages_through_lines_without_counting(make_batch: MakeBatch) -> None:
    batch = make_batch(120, completed=120)
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        found = read_page(batch, after=after)
        seen += [row.line for row in found.rows]
        after = found.after
    assert seen == list(range(1, 121))


def test_it_filters_lines_by_state_and_custom_id(make_batch: MakeBatch) -> None:
    batch = make_batch(100, completed=60, failed=3)
    assert [row.line for row in read_page(batch, state="failed").rows] == [61, 62, 63]
    assert [row.line for row in read_page(batch, state="pending").rows] == list(range(64, 101))
    assert len(read_page(batch, state="completed").rows) == PAGE
    assert [row.line for row in read_page(batch, state="completed", after=PAGE).rows] == list(range(PAGE + 1, 61))
    assert [row.line for row in read_page(batch, search="id-61").rows] == [61]
    assert read_page(batch, state="pending", search="id-61").rows == []


@pytest.mark.parametrize("query", ["after=x", f"after={10**40}", "state=nonsense", "q=%00", "after=-1"])
def test_it_survives_a_forged_query(curator: Client, make_batch: MakeBatch, query: str) -> None:
    assert curator.get(page(make_batch(3)) + f"?{query}").status_code == 200


def test_it_filters_and_searches(curator: Client, make_batch: MakeBatch) -> None:
    running, done = make_batch(), make_batch(2, completed=2, status="completed")
    Batch.objects.filter(pk=done.pk).update(created_at="2026-01-05T12:00Z", metadata={"name": "spring"})
    queries = [
        "status__exact=completed",
        f"project__id__exact={done.project_id}&status__exact=completed",
        f"model__id__exact={done.model_id}&created_at_to=2026-01-05",
        "created_at_from=2026-01-05&created_at_to=2026-01-05",
        "q=spring",
        f"q={done.uid}",
    ]
    for query in queries:
        html = curator.get(f"{LIST}?{query}").content.decode()
        assert (done.uid in html, running.uid in html) == (True, False), query
    assert curator.get(f"{LIST}?created_at_from=soon").status_code == 200


def test_filters_offer_only_what_the_user_may_see(outsider: Client, make_batch: MakeBatch) -> None:
    batch = make_batch()
    Model.objects.update(project=batch.project)
    html = outsider.get(LIST).content.decode()
    assert "test-model" not in html
    assert f'value="{batch.project_id}"' not in html.partition("By project")[2]


def test_it_asks_the_same_number_of_queries_for_any_number_of_rows(
    curator: Client, make_batch: MakeBatch, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    def pages() -> list[str]:
        return [LIST, page(batch), page(batch, "lines/1/"), "/admin/", "/admin/batches/file/", "/admin/models/model/"]

    batch = make_batch(4, completed=1, failed=1)
    costs = []
    for path in pages():
        with CaptureQueriesContext(connection) as queries:
            curator.get(path)
        costs.append(len(queries))
    assert max(costs) <= 14
    batch = [make_batch(60, completed=30, failed=20) for _ in range(12)][-1]
    for path, cost in zip(pages(), costs, strict=True):
        with django_assert_max_num_queries(cost):
            curator.get(path)


def test_it_pauses_resumes_and_cancels(curator: Client, make_batch: MakeBatch) -> None:
    batch = make_batch()
    assert "is paused" in said(act(curator, "pause", batch))
    assert "goes on" in said(act(curator, "resume", batch))
    assert "is being cancelled" in said(curator.post(page(batch, "do/cancel/")))
    batch.refresh_from_db()
    assert (batch.status, batch.paused_at) == ("cancelling", None)


def test_it_retries_failed_lines(curator: Client, make_batch: MakeBatch) -> None:
    batch = make_batch(4, completed=1, failed=3, status="completed")
    assert batch.uid in said(act(curator, "retry", batch))
    assert batch.retries.get().requests.count() == 3
    assert batch.retries.get().uid[:10] in curator.get(page(batch)).content.decode()


def test_it_says_for_each_batch_what_happened(curator: Client, make_batch: MakeBatch) -> None:
    running, done = make_batch(), make_batch(2, completed=2, status="completed")
    words = said(act(curator, "cancel", running, done))
    assert f"{running} is being cancelled" in words
    assert f"{done} is completed: it cannot be cancelled" in words


def test_it_offers_only_what_can_be_done(curator: Client, viewer: Client, make_batch: MakeBatch) -> None:
    running, done = make_batch(), make_batch(2, completed=2, status="completed")
    assert "do/cancel/" in curator.get(page(running)).content.decode()
    assert "/do/" not in curator.get(page(done)).content.decode()
    assert "/do/" not in viewer.get(page(running)).content.decode()


def test_it_rejects_changes_by_a_viewer(viewer: Client, make_batch: MakeBatch) -> None:
    batch = make_batch()
    act(viewer, "cancel", batch)
    assert "viewer" in said(viewer.post(page(batch, "do/cancel/")))
    batch.refresh_from_db()
    assert batch.status == "in_progress"
    assert viewer.get(f"{LIST}add/").status_code == 404


def test_it_rejects_an_action_by_get(curator: Client, make_batch: MakeBatch) -> None:
    assert curator.get(page(make_batch(), "do/cancel/")).status_code == 405


@pytest.mark.parametrize("path", ["change/", "lines/1/", "download/output/", "download/input/", "history/"])
def test_it_does_not_exist_for_a_stranger(outsider: Client, make_batch: MakeBatch, path: str) -> None:
    batch = make_batch(completed=6)
    assert outsider.get(page(batch, path)).status_code == 404
    assert batch.uid not in outsider.get(LIST).content.decode()
    assert batch.uid[:14] not in outsider.get("/admin/").content.decode()


def test_it_rejects_a_strangers_action(outsider: Client, make_batch: MakeBatch) -> None:
    batch = make_batch()
    act(outsider, "cancel", batch)
    assert outsider.post(page(batch, "do/cancel/")).status_code == 404
    batch.refresh_from_db()
    assert batch.status == "in_progress"


def new_batch(client: Client, project: Project, content: bytes = LINE, name: str = "a.jsonl", **values: Any) -> Any:
    fields = {"endpoint": "/v1/chat/completions", "project": project.pk, "completion_window": "24h", "priority": 3}
    return client.post(f"{LIST}add/", {**fields, "file": SimpleUploadedFile(name, content), **values})


def test_it_creates_a_batch_from_an_upload(curator: Client, project: Project) -> None:
    response: HttpResponse = new_batch(curator, project)
    batch = Batch.objects.get()
    assert response["Location"] == page(batch)
    assert (batch.status, batch.priority, batch.project) == ("validating", 3, project)
    assert content_of(curator.get(page(batch, "download/input/"))) == LINE


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "a.txt"}, "let its name end in .jsonl"),
        ({"content": b""}, "empty"),
        ({"completion_window": "soon"}, "completion_window must be"),
        ({"priority": 1000}, "less than or equal to 100"),
        ({"endpoint": "/v1/images"}, "not one of the available choices"),
    ],
)
def test_it_rejects_a_bad_upload(curator: Client, project: Project, values: dict[str, Any], words: str) -> None:
    assert words in new_batch(curator, project, **values).content.decode()
    assert not Batch.objects.exists()


def test_it_rejects_another_project(outsider: Client, project: Project) -> None:
    assert "not one of the available choices" in new_batch(outsider, project).content.decode()
    assert not File.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_it_downloads_what_there_is_so_far(curator: Client, make_batch: MakeBatch) -> None:
    batch = make_batch(6, completed=3, failed=1)
    response = curator.get(page(batch, "download/output/"))
    assert response["Content-Disposition"].startswith("attachment")
    assert content_of(response).count(b"\n") == 3
    assert content_of(curator.get(page(batch, "download/errors/"))).count(b"Too slow.") == 1


def test_a_batch_that_the_server_could_not_do_blames_no_line(viewer: Client, make_batch: MakeBatch) -> None:
    batch = make_batch(6, completed=3, status="failed")
    sentence = "The server could not do this: it was tried 5 times."
    Batch.objects.update(errors=[{"code": "server_error", "message": sentence, "line": None, "param": None}])
    html = viewer.get(page(batch)).content.decode()
    assert sentence in html
    assert "What went wrong in the server" in html
    assert "What is wrong with the input file" not in html
    assert "Paris." in html


def test_a_batch_whose_input_is_wrong_shows_no_counts(viewer: Client, make_batch: MakeBatch) -> None:
    batch = make_batch(0, status="failed")
    errors = [{"code": "invalid_request", "message": "method must be POST.", "line": 2, "param": "method"}]
    Batch.objects.update(errors=errors, model=None, model_name="")
    html = viewer.get(page(batch)).content.decode()
    assert "What is wrong with the input file" in html
    assert "method must be POST." in html
    assert not any(wrong in html for wrong in ("0 of 0", "tokens out", "not known yet", 'id="lines"'))
