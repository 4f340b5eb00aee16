import json
from pathlib import Path
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.events.progress import authorize
from apps.models.installs.progress import InstallTopic
from apps.models.models import Install, Model
from apps.models.services import start_install

SOURCE = {"source": "acme/tiny"}


def post(api: APIClient, body: Any, **headers: str) -> Any:
    return api.post("/v1/models/install", json.dumps(body), content_type="application/json", headers=headers)


def end(install_id: str, status: str) -> None:
    Install.objects.filter(uid=install_id).update(status=status, ended_at="2026-01-01T00:00:00Z")


def test_it_works(api: APIClient, project: Project) -> None:
    settings = {"max_model_len": 4096}
    body = post(api, SOURCE | {"name": "tiny", "engine_settings": settings}).json()
    install = Install.objects.get()
    assert (install.source, install.name, install.project, install.engine_settings) == (
        "acme/tiny",
        "tiny",
        project,
        settings,
    )
    assert body["object"] == "model.install"
    assert (body["id"], body["model"], body["status"], body["bytes_total"]) == (install.uid, "tiny", "queued", 0)
    assert api.get(f"/v1/models/installs/{install.uid}").json() == body
    listed = api.get("/v1/models/installs").json()
    assert (listed["object"], listed["data"], listed["has_more"]) == ("list", [body], False)


def test_its_pages_follow_each_other(api: APIClient) -> None:
    ids = [post(api, SOURCE | {"name": f"m{number}"}).json()["id"] for number in range(5)]
    first = api.get("/v1/models/installs?limit=3").json()
    rest = api.get(f"/v1/models/installs?limit=3&after={first['last_id']}").json()
    assert [row["id"] for row in first["data"] + rest["data"]] == ids[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)


def test_sent_twice_with_one_key_it_is_one_install(api: APIClient) -> None:
    first, second = (post(api, SOURCE, **{"Idempotency-Key": "k1"}).json() for _ in range(2))
    assert first == second
    assert Install.objects.count() == 1
    assert post(api, {"source": "acme/other"}, **{"Idempotency-Key": "k1"}).status_code == 409


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "source"),
        ({"source": "nonsense"}, 400, "source"),
        ({"source": "/etc"}, 400, "source"),
        ({"source": "https://evil.example/a/b"}, 400, "source"),
        (SOURCE | {"name": "a b"}, 400, "name"),
        (SOURCE | {"name": "installs/x"}, 400, "name"),
        (SOURCE | {"name": "test-model"}, 400, "name"),
        (SOURCE | {"base": "nobody"}, 404, "base"),
        (SOURCE | {"engine_settings": {"trust_remote_code": True}}, 400, "engine_settings"),
        (SOURCE | {"engine_settings": {"max_model_len": "long"}}, 400, "engine_settings"),
        (SOURCE | {"engine_settings": []}, 400, "engine_settings"),
    ],
)
def test_it_rejects(api: APIClient, model: Model, body: dict[str, Any], status: int, param: str) -> None:
    answer = post(api, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert not Install.objects.exists()


def test_it_rejects_a_name_that_is_being_installed(api: APIClient) -> None:
    assert post(api, SOURCE).status_code == 200
    answer = post(api, SOURCE)
    assert "A model is called 'acme/tiny' already" in answer.json()["error"]["message"]


def test_only_an_administrator_installs_from_a_folder(project: Project, db: None, tmp_path: Path) -> None:
    curator, root = User.objects.create_user("curator"), User.objects.create_superuser("root")
    for user in (None, curator):
        with pytest.raises(DomainError, match="Only an administrator"):
            start_install(source=str(tmp_path), project=project, created_by=user)
    assert start_install(source=str(tmp_path), project=project, created_by=root).status == "queued"
    with pytest.raises(DomainError, match="There is no folder"):
        start_install(source="/no/such/folder", project=None)


def test_it_can_be_cancelled_and_tried_again(api: APIClient) -> None:
    path = f"/v1/models/installs/{post(api, SOURCE).json()['id']}"
    assert api.post(f"{path}/retry").status_code == 409
    assert api.post(f"{path}/cancel").status_code == 200
    assert Install.objects.get().cancel_requested_at
    assert api.post(f"{path}/cancel").status_code == 200
    end(path.rpartition("/")[2], "refused")
    assert api.post(f"{path}/cancel").status_code == 409
    again = api.post(f"{path}/retry").json()
    assert (again["status"], again["message"], again["ended_at"]) == ("queued", "", None)
    assert Install.objects.get().cancel_requested_at is None


def test_what_is_ready_is_not_tried_again(api: APIClient, model: Model) -> None:
    path = f"/v1/models/installs/{post(api, SOURCE).json()['id']}"
    end(path.rpartition("/")[2], "ready")
    assert api.post(f"{path}/retry").status_code == 409


def test_a_stranger_sees_nothing(api: APIClient, stranger: APIClient, project: Project) -> None:
    uid = post(api, SOURCE).json()["id"]
    assert stranger.get("/v1/models/installs").json()["data"] == []
    for method, path in (("get", uid), ("post", f"{uid}/cancel"), ("post", f"{uid}/retry"), ("get", f"{uid}/events")):
        answer = getattr(stranger, method)(f"/v1/models/installs/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "install_not_found")
    assert Install.objects.get().cancel_requested_at is None
    topic = InstallTopic()
    assert topic.authorize(project, uid)
    assert not topic.authorize(Project.objects.exclude(pk=project.pk).get(), uid)
    assert not authorize("install", User.objects.create_user("nobody"), uid)
    assert authorize("install", User.objects.create_superuser("root"), uid)


@pytest.mark.django_db(transaction=True)
async def test_its_events_end_with_its_end(api: APIClient, key: str) -> None:
    install = await database_sync_to_async(post)(api, SOURCE)
    uid = install.json()["id"]
    await database_sync_to_async(end)(uid, "ready")
    answer = await AsyncClient().get(f"/v1/models/installs/{uid}/events", headers={"Authorization": f"Bearer {key}"})
    told = b"".join([chunk async for chunk in answer]).decode()  # type: ignore[attr-defined]
    assert [line for line in told.splitlines() if line.startswith("event")] == ["event: progress", "event: done"]
    assert json.loads(told.splitlines()[1].removeprefix("data: "))["status"] == "ready"
