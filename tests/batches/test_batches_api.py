import json
from contextlib import closing
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.accounts.models import ApiKey, Project
from apps.accounts.services import create_api_key
from apps.batches.models import Batch, Request, Shard
from apps.batches.validate import validate_next
from apps.core.leases import Keeper
from apps.models.models import Model
from tests.batches.cast import CHAT, end, end_line, expire, make_batch, make_file, make_running

KEYS = {
    "id", "object", "endpoint", "model", "errors", "input_file_id", "completion_window", "status", "output_file_id",
    "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at",
    "expired_at", "cancelling_at", "cancelled_at", "request_counts", "usage", "metadata", "priority", "paused_at",
    "retry_of", "warnings",
}  # fmt: skip

streamed = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous")


@pytest.fixture
def form(project: Project) -> dict[str, Any]:
    return {"input_file_id": make_file(project).uid, "endpoint": CHAT, "completion_window": "24h"}


def post(api: APIClient, form: Any, **headers: str) -> Any:
    return api.post("/v1/batches", form, format="json", headers={k.replace("_", "-"): v for k, v in headers.items()})


def refused(response: Any, status: int = 400) -> tuple[str | None, str | None]:
    assert response.status_code == status, response.content
    error = response.json()["error"]
    return error["param"], error["code"]


def test_it_works(api: APIClient, form: dict[str, Any]) -> None:
    made = post(api, {**form, "metadata": {"team": "a"}}).json()
    assert set(made) == KEYS
    assert made["object"] == "batch"
    assert made["status"] == "validating"
    assert made["input_file_id"] == form["input_file_id"]
    assert made["expires_at"] == made["created_at"] + 86_400
    assert made["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert made["metadata"] == {"team": "a"}
    nulls = {key for key, value in made.items() if value is None}
    assert nulls == KEYS - {
        "id", "object", "endpoint", "input_file_id", "completion_window", "status", "created_at", "expires_at",
        "request_counts", "metadata", "priority",
    }  # fmt: skip
    assert api.get(f"/v1/batches/{made['id']}").json() == made
    assert Batch.objects.get().created_by == ApiKey.objects.get()


def test_the_optional_parameters(api: APIClient, form: dict[str, Any]) -> None:
    expiry = {"anchor": "created_at", "seconds": 3600}
    made = post(api, {**form, "completion_window": "7d", "output_expires_after": expiry, "priority": -5}).json()
    assert made["expires_at"] == made["created_at"] + 7 * 86_400
    assert made["priority"] == -5
    assert Batch.objects.get().output_expires_after == 3600


def test_nulls_are_as_good_as_nothing(api: APIClient, form: dict[str, Any]) -> None:
    assert post(api, {**form, "metadata": None, "output_expires_after": None}).status_code == 200


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": None}, "input_file_id"),
        ({"input_file_id": ["file-1"]}, "input_file_id"),
        ({"input_file_id": "f" * 51}, "input_file_id"),
        ({"input_file_id": "\0"}, "input_file_id"),
        ({"input_file_id": "\ud800"}, "input_file_id"),
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"endpoint": ["/v1/embeddings"]}, "endpoint"),
        ({"completion_window": "1w"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"completion_window": "721h"}, "completion_window"),
        ({"completion_window": "²h"}, "completion_window"),
        ({"completion_window": 24}, "completion_window"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k": {}}}, "metadata.k"),
        ({"metadata": {"k\0": "v"}}, "metadata"),
        ({"metadata": {"k": "v\0"}}, "metadata.k"),
        ({"metadata": {"\udfff": "v"}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at"}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3599}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1e999}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "x", "seconds": 3600}}, "output_expires_after.anchor"),
        ({"output_expires_after": "1h"}, "output_expires_after"),
        ({"priority": 101}, "priority"),
        ({"priority": 10**30}, "priority"),
        ({"priority": "high"}, "priority"),
    ],
)
def test_it_rejects_a_bad_parameter(api: APIClient, form: dict[str, Any], change: dict[str, Any], param: str) -> None:
    body = json.dumps({**form, **change}).replace("Infinity", "1e999")
    assert refused(api.post("/v1/batches", body, content_type="application/json"))[0] == param
    assert not Batch.objects.exists()


@pytest.mark.parametrize("missing", ["input_file_id", "endpoint", "completion_window"])
def test_it_rejects_what_lacks_a_parameter(api: APIClient, form: dict[str, Any], missing: str) -> None:
    del form[missing]
    assert refused(post(api, form)) == (missing, "missing_required_parameter")


def failed_with(api: APIClient, form: dict[str, Any]) -> dict[str, Any]:
    """The one error of the batch that is made of the form."""
    made = post(api, form).json()
    assert made["status"] == "validating"
    with closing(Keeper()) as keeper:
        assert validate_next(keeper)
    ended = api.get(f"/v1/batches/{made['id']}").json()
    assert ended["status"] == "failed"
    (error,) = ended["errors"]["data"]
    return {**error, "message": error["message"].replace(form["input_file_id"], "ID")}


@pytest.mark.django_db(transaction=True)
def test_a_file_that_is_not_there_fails_the_batch(
    api: APIClient, stranger: APIClient, project: Project, form: dict[str, Any]
) -> None:
    """A stranger's as if there were none."""
    unknown = failed_with(api, {**form, "input_file_id": "file-none"})
    assert (unknown["code"], unknown["param"], unknown["line"]) == ("invalid_request", "input_file_id", None)
    assert unknown["message"].startswith("No such file: ID.")
    assert failed_with(stranger, form) == unknown
    expired = make_file(project)
    expire(expired)
    assert failed_with(api, {**form, "input_file_id": expired.uid}) == unknown


def test_it_rejects_a_file_for_another_purpose(api: APIClient, project: Project, form: dict[str, Any]) -> None:
    file = make_file(project, purpose="fine-tune")
    assert refused(post(api, {**form, "input_file_id": file.uid})) == ("input_file_id", "invalid_value")


def test_the_idempotency_key_may_be_in_the_body(api: APIClient, form: dict[str, Any]) -> None:
    """ogx's client sends it there."""
    first, second = (post(api, {**form, "idempotency_key": "k1"}).json() for _ in range(2))
    assert first == second
    assert post(api, form, Idempotency_Key="k1").json() == first
    changed = {**form, "priority": 1, "idempotency_key": "k1"}
    assert refused(post(api, changed), 409)[1] == "idempotency_key_reused"
    both = post(api, {**form, "idempotency_key": "k1"}, Idempotency_Key="k2")
    assert refused(both) == ("idempotency_key", "invalid_value")
    assert refused(post(api, {**form, "idempotency_key": "a b"}))[1] == "invalid_value"
    assert Batch.objects.count() == 1


def test_the_same_idempotency_key_makes_one_batch(api: APIClient, stranger: APIClient, form: dict[str, Any]) -> None:
    first, second = (post(api, form, Idempotency_Key="k1").json() for _ in range(2))
    assert first == second
    assert Batch.objects.count() == 1
    assert refused(post(api, {**form, "priority": 1}, Idempotency_Key="k1"), 409)[1] == "idempotency_key_reused"
    assert post(stranger, form, Idempotency_Key="k1").json()["id"] != first["id"]  # another project's key


def test_list(api: APIClient, project: Project, stranger: APIClient) -> None:
    batches = [make_batch(project).uid for _ in range(3)]
    body = api.get("/v1/batches?limit=2").json()
    assert [batch["id"] for batch in body["data"]] == batches[:0:-1]
    assert body["has_more"] is True
    rest = api.get(f"/v1/batches?after={body['last_id']}").json()
    assert [batch["id"] for batch in rest["data"]] == batches[:1]
    assert rest["has_more"] is False
    assert set(rest["data"][0]) == KEYS
    assert stranger.get("/v1/batches").json()["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=999999999999", "after=batch_none", "after=%00"])
def test_it_rejects_a_bad_query(api: APIClient, query: str) -> None:
    assert refused(api.get(f"/v1/batches?{query}"))[0] == query.partition("=")[0]


def test_a_page_costs_the_same_however_many_batches(api: APIClient, project: Project, model: Model) -> None:
    make_running(project, model)
    api.get("/v1/batches")
    with CaptureQueriesContext(connection) as one:
        api.get("/v1/batches")
    for _ in range(5):
        end_line(make_running(project, model), 1)
    with CaptureQueriesContext(connection) as many:
        assert len(api.get("/v1/batches").json()["data"]) == 6
    assert len(one) == len(many) == 2


def test_counts_and_usage_follow_the_lines(api: APIClient, project: Project, model: Model) -> None:
    batch = make_running(project, model)
    path = f"/v1/batches/{batch.uid}"
    assert api.get(path).json()["usage"] is None
    end_line(batch, 1)
    end_line(batch, 2, failed=True)
    shown = api.get(path).json()
    assert shown["status"] == "in_progress"
    assert shown["model"] == "test-model"
    assert shown["request_counts"] == {"total": 3, "completed": 1, "failed": 1}
    assert shown["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 16,
    }


def test_errors_of_the_file_are_a_list(api: APIClient, project: Project) -> None:
    batch = make_batch(project)
    error = {"code": "invalid_json_line", "line": 7, "message": "This line is not JSON.", "param": None}
    batch.advance(Batch.Status.FAILED, errors=[error])
    shown = api.get(f"/v1/batches/{batch.uid}").json()
    assert shown["status"] == "failed"
    assert shown["errors"] == {"object": "list", "data": [error]}
    assert shown["failed_at"]


def test_cancel(api: APIClient, project: Project) -> None:
    path = f"/v1/batches/{make_batch(project).uid}/cancel"
    cancelled = api.post(path).json()
    assert cancelled["status"] == "cancelling"
    assert cancelled["cancelling_at"]
    assert api.post(path).json() == cancelled  # once more changes nothing


def test_it_rejects_cancelling_what_has_ended(api: APIClient, project: Project, model: Model) -> None:
    batch = make_running(project, model)
    end(batch)
    response = api.post(f"/v1/batches/{batch.uid}/cancel")
    refused(response, 409)
    assert response.json()["error"]["message"] == "Cannot cancel a batch with status 'completed'."


def test_pause_and_resume(api: APIClient, project: Project, model: Model) -> None:
    batch = make_running(project, model)
    path = f"/v1/batches/{batch.uid}"
    assert api.post(f"{path}/pause").json()["paused_at"]
    assert not Batch.objects.runnable().exists()
    refused(api.post(f"{path}/pause"), 409)
    assert api.post(f"{path}/resume").json()["paused_at"] is None
    assert Batch.objects.runnable().exists()
    refused(api.post(f"{path}/resume"), 409)


def test_it_rejects_pausing_what_has_ended(api: APIClient, project: Project, model: Model) -> None:
    batch = make_running(project, model)
    end(batch)
    refused(api.post(f"/v1/batches/{batch.uid}/pause"), 409)


def test_retry_runs_the_failed_lines_again(api: APIClient, project: Project, model: Model) -> None:
    batch = make_running(project, model, lines=4, metadata={"team": "a"})
    for line in range(1, 5):
        end_line(batch, line, failed=line % 2 == 0)
    end(batch)
    made = api.post(f"/v1/batches/{batch.uid}/retry").json()
    assert made["retry_of"] == batch.uid
    assert made["status"] == "in_progress"
    assert made["model"] == "test-model"
    assert made["metadata"] == {"team": "a"}
    assert made["request_counts"] == {"total": 2, "completed": 0, "failed": 0}
    retry = Batch.objects.get(uid=made["id"])
    lines = Request.objects.filter(batch=retry).order_by("line").values_list("line", "custom_id", "body")
    assert list(lines) == [(1, "a2", '{"n": 2}'), (2, "a4", '{"n": 4}')]
    assert Shard.objects.get(batch=retry).lines == 2


def test_it_rejects_a_retry_of_what_still_runs(api: APIClient, project: Project, model: Model) -> None:
    refused(api.post(f"/v1/batches/{make_running(project, model).uid}/retry"), 409)


def test_it_rejects_a_retry_where_nothing_failed(api: APIClient, project: Project, model: Model) -> None:
    batch = make_running(project, model, lines=1)
    end_line(batch, 1)
    end(batch)
    refused(api.post(f"/v1/batches/{batch.uid}/retry"), 409)
    assert Batch.objects.count() == 1


def test_it_rejects_a_retry_of_a_file_with_errors(api: APIClient, project: Project) -> None:
    batch = make_batch(project)
    batch.advance(Batch.Status.FAILED, errors=[])
    refused(api.post(f"/v1/batches/{batch.uid}/retry"), 409)


def test_it_rejects_a_retry_with_a_key_for_other_models(project: Project, model: Model) -> None:
    batch = make_running(project, model, lines=1)
    end_line(batch, 1, failed=True)
    end(batch)
    _, secret = create_api_key(project=project, name="narrow", allowed_models=["other"])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    refused(client.post(f"/v1/batches/{batch.uid}/retry"), 409)


@pytest.mark.django_db(transaction=True)
@streamed
def test_the_output_can_be_read_while_the_batch_runs(api: APIClient, project: Project, model: Model) -> None:
    batch = make_running(project, model)
    end_line(batch, 3)
    end_line(batch, 1)
    end_line(batch, 2, failed=True)
    answer = api.get(f"/v1/batches/{batch.uid}/output")
    lines = [json.loads(line) for line in b"".join(answer).splitlines()]
    assert [line["custom_id"] for line in lines] == ["a1", "a3"]
    assert lines[0]["response"] == {"status_code": 200, "request_id": "req_1", "body": {"line": 1}}
    assert lines[0]["error"] is None
    failed = b"".join(api.get(f"/v1/batches/{batch.uid}/output?failed=true"))
    assert json.loads(failed)["custom_id"] == "a2"
    assert refused(api.get(f"/v1/batches/{batch.uid}/output?failed=x"))[0] == "failed"
