"""What a route does not know of a request's body is refused, not passed over."""

import ast
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.batches.models import Batch
from tests.batches.cast import CHAT, LINE, make_file

pytestmark = pytest.mark.django_db
APPS = Path(__file__).resolve().parents[2] / "apps"


@pytest.fixture
def batch(project: Project) -> dict[str, Any]:
    return {"input_file_id": make_file(project).uid, "endpoint": CHAT, "completion_window": "24h"}


def refused(response: Any) -> tuple[str, str, str]:
    assert response.status_code == 400, response.content
    error = response.json()["error"]
    return error["code"], error["param"], error["message"]


def test_it_works(api: APIClient, batch: dict[str, Any]) -> None:
    assert refused(api.post("/v1/batches", {**batch, "metdata": {"a": "b"}}, format="json")) == (
        "unknown_parameter", "metdata", "Unrecognized request argument supplied: metdata. Did you mean metadata?",
    )  # fmt: skip
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    ("path", "body", "param", "nearest"),
    [
        ("/v1/batches", {"output_expires_after": {"anchor": "created_at", "second": 4000}},
         "output_expires_after.second", "output_expires_after.seconds"),
        ("/v1/batches", {"input_file": "file-1"}, "input_file", "input_file_id"),
        ("/v1/batches", {"zzz": 1}, "zzz", ""),
        ("/v1/uploads", {"file_name": "a"}, "file_name", "filename"),
        ("/v1/fine_tuning/jobs", {"n_epochs": 3}, "n_epochs", ""),
        ("/v1/fine_tuning/jobs", {"hyperparameters": {"epochs": 3}},
         "hyperparameters.epochs", "hyperparameters.n_epochs"),
        ("/v1/fine_tuning/jobs", {"method": {"type": "dpo", "dpo": {"hyperparameters": {"betta": 1}}}},
         "method.dpo.hyperparameters.betta", "method.dpo.hyperparameters.beta"),
        ("/v1/datasets", {"nmae": "a"}, "nmae", "name"),
        ("/v1/runs", {"model": ["a"]}, "model", "models"),
        ("/v1/exports", {"fromat": "chat"}, "fromat", "format"),
        ("/v1/batches", {"x" * 5000: 1}, "x" * 100, ""),
    ],
)  # fmt: skip
def test_a_name_is_refused_with_the_nearest_right_one(
    api: APIClient, path: str, body: dict[str, Any], param: str, nearest: str
) -> None:
    guess = f" Did you mean {nearest}?" if nearest else ""
    message = f"Unrecognized request argument supplied: {param}.{guess}"
    assert refused(api.post(path, body, format="json")) == ("unknown_parameter", param, message)


@pytest.mark.parametrize("body", [[], "text", 5, None])
def test_a_body_that_has_no_names_is_refused_as_before(api: APIClient, body: Any) -> None:
    assert api.post("/v1/batches", body, format="json").status_code == 400


def test_a_form_s_field_is_refused_too(api: APIClient) -> None:
    form = {"file": SimpleUploadedFile("in.jsonl", LINE), "purpose": "batch", "expires_after": "3600"}
    code, param, message = refused(api.post("/v1/files", form))
    assert (code, param) == ("unknown_parameter", "expires_after")
    assert "expires_after[" in message


def test_it_can_be_let_through_and_is_named(api: APIClient, batch: dict[str, Any], settings: Any) -> None:
    settings.REQUEST_UNKNOWN_FIELDS = "warn"
    response = api.post("/v1/batches", {**batch, "metdata": {}, "a\r\nb: c\u00e9": 1}, format="json")
    assert response.status_code == 200
    assert response.headers["x-ignored-parameter"] == (
        "Unrecognized request argument supplied: metdata. Did you mean metadata?, "
        r"Unrecognized request argument supplied: a\r\nb: c\xe9."
    )
    assert "x-ignored-parameter" not in api.post("/v1/batches", batch, format="json").headers


def test_no_view_reads_a_body_in_another_way() -> None:
    """So that a new route cannot forget it."""
    readers = {
        str(path.relative_to(APPS))
        for path in APPS.glob("**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "data" and ast.unparse(node.value).endswith("request")
    }
    assert readers == {"core/api/bodies.py", "core/api/repeats.py"}
