"""Requests to /v1/fine_tuning/jobs."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.models.models import Model
from tests.training.cast import make_file

PATH = "/v1/fine_tuning/jobs"


@pytest.fixture
def form(project: Project, model: Model) -> dict[str, Any]:
    return {"model": model.name, "training_file": make_file(project).uid}


def post(api: APIClient, form: Any, **headers: str) -> Any:
    return api.post(PATH, form, format="json", headers={k.replace("_", "-"): v for k, v in headers.items()})


def refused(response: Any, status: int = 400) -> tuple[str | None, str | None]:
    assert response.status_code == status, response.content
    error = response.json()["error"]
    return error["param"], error["code"]
