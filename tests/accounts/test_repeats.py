"""No POST of the API has two effects when a stock client sends it again by itself."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import create_api_key
from apps.batches.models import Batch, File
from apps.core.models import IdempotencyKey
from apps.datasets.models import Dataset
from apps.models.models import Model
from tests.accounts.test_permissions import routes
from tests.batches.cast import CHAT, LINE, end, end_line, make_file, make_running

pytestmark = pytest.mark.django_db
HARMLESS = {
    "v1/uploads/<uid:upload_id>/complete",  # the same parts give the same file
    "v1/runs/estimate", "v1/datasets/<uid:dataset_id>/imports/preview",  # they change nothing
    "v1/chat/completions", "v1/completions", "v1/embeddings", "v1/responses",  # the gateway's: answers, not objects
}  # fmt: skip


def test_every_route_is_covered() -> None:
    """A view is by being a `ProjectView`; one that says it is harmless must be named here too."""
    posts = {
        path: getattr(callback.view_class, "post", None)
        for path, callback in routes()
        if "view_class" in vars(callback)
    }
    harmless = {path for path, post in posts.items() if post and not getattr(post, "has_one_effect", False)}
    assert harmless == HARMLESS


def post(api: APIClient, path: str, body: Any, count: int, **options: Any) -> Any:
    response = api.post(path, body, headers={"X-Stainless-Retry-Count": str(count)}, **options)
    assert response.status_code == 200, response.content
    return response.json()


def test_a_batch(api: APIClient, project: Project) -> None:
    form = {"input_file_id": make_file(project).uid, "endpoint": CHAT, "completion_window": "24h"}
    made = [post(api, "/v1/batches", form, count, format="json") for count in (0, 1, 2)]
    assert made[0] == made[1] == made[2]
    assert Batch.objects.count() == 1
    post(api, "/v1/batches", form, 0, format="json")
    assert Batch.objects.count() == 2


def test_a_file(api: APIClient) -> None:
    def form(content: bytes) -> dict[str, Any]:
        return {"file": SimpleUploadedFile("in.jsonl", content), "purpose": "batch"}

    first, again = (post(api, "/v1/files", form(LINE), count) for count in (0, 1))
    assert first == again
    post(api, "/v1/files", form(LINE * 2), 1)  # its first try never came
    assert File.objects.count() == 2


def test_a_dataset(api: APIClient) -> None:
    made = [post(api, "/v1/datasets", {"name": "d"}, count, format="json") for count in (0, 1)]
    assert made[0] == made[1]  # not "this name is taken"
    assert Dataset.objects.count() == 1


def test_verbs(api: APIClient, project: Project, model: Model) -> None:
    batch = make_running(project, model, lines=1)
    paused = [post(api, f"/v1/batches/{batch.uid}/pause", None, count) for count in (0, 1)]
    assert paused[0] == paused[1]  # not "it is paused already"
    end_line(batch, 1, failed=True)
    end(batch)
    retries = [post(api, f"/v1/batches/{batch.uid}/retry", None, count) for count in (0, 1)]
    assert retries[0] == retries[1]
    assert Batch.objects.exclude(retry_of=None).count() == 1


def test_what_is_refused_leaves_nothing(api: APIClient) -> None:
    for count in ("0", "1"):
        assert api.post("/v1/batches", {}, format="json", headers={"X-Stainless-Retry-Count": count}).status_code == 400
    assert not IdempotencyKey.objects.exists()


def test_another_key_of_the_project_is_another_client(api: APIClient, project: Project) -> None:
    form = {"input_file_id": make_file(project).uid, "endpoint": CHAT, "completion_window": "24h"}
    post(api, "/v1/batches", form, 0, format="json")
    other = APIClient()
    other.credentials(HTTP_AUTHORIZATION=f"Bearer {create_api_key(project=project, name='other')[1]}")
    post(other, "/v1/batches", form, 1, format="json")
    assert Batch.objects.count() == 2
