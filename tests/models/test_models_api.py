from pathlib import Path

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import ApiKey, Project
from apps.models.models import Model
from apps.models.services import register_model


def names(api: APIClient) -> list[str]:
    return [model["id"] for model in api.get("/v1/models").json()["data"]]


def test_it_works(api: APIClient, model: Model) -> None:
    expected = {
        "id": "test-model",
        "object": "model",
        "created": int(model.created_at.timestamp()),
        "owned_by": "local",
    }
    assert api.get("/v1/models").json() == {
        "object": "list", "data": [expected], "first_id": "test-model", "last_id": "test-model", "has_more": False,
    }  # fmt: skip
    assert api.get("/v1/models/test-model").json() == expected


def test_a_name_may_hold_slashes(api: APIClient, model: Model) -> None:
    Model.objects.update(name="org/model:v1.5")
    assert api.get("/v1/models/org/model:v1.5").json()["id"] == "org/model:v1.5"
    assert api.get("/v1/models/org%2Fmodel:v1.5").json()["id"] == "org/model:v1.5"


def test_a_projects_own_model_is_a_404_for_strangers(
    api: APIClient, stranger: APIClient, project: Project, model: Model
) -> None:
    register_model(name="ours", path=Path(model.path), project=project)
    assert names(api) == ["ours", "test-model"]
    assert names(stranger) == ["test-model"]
    assert stranger.get("/v1/models/ours").status_code == 404


def test_a_key_may_be_for_some_models_only(api: APIClient, model: Model) -> None:
    register_model(name="other", path=Path(model.path))
    ApiKey.objects.update(allowed_models=["other"])
    assert names(api) == ["other"]
    assert api.get("/v1/models/test-model").status_code == 404


@pytest.mark.parametrize("name", ["none", "%00", "a%00b", "%ff", "..", "é" * 300, "a/b/c/d"])
def test_it_rejects_an_unknown_name(api: APIClient, name: str) -> None:
    response = api.get(f"/v1/models/{name}")
    assert response.status_code == 404
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
