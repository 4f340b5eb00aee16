"""Every route of the API against everybody who may not use it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from apps.accounts.models import Project, Scope
from apps.accounts.services import create_api_key
from apps.batches.models import Batch, File
from apps.core.api.views import UnknownRoute
from tests.batches.cast import make_batch, make_file
from tests.routes import ROUTES

OUTSIDE = {"v1", "v1/schema", "v1/docs", "v1/"}

SCOPES = {
    (method, f"v1/{path}"): scope for (method, path), scope in ((key.split(" "), at) for key, at in ROUTES.items())
}
BY_PEOPLE = re.compile("/answers/|/items/<|/undo|/assignments")  # a key that is nobody's is refused before
WITH_OBJECT = [route for route in SCOPES if "<" in route[1] and not BY_PEOPLE.search(route[1])]


def routes() -> Iterator[tuple[str, Any]]:
    def walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for pattern in patterns:
            path = prefix + str(pattern.pattern).removeprefix("^")
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, path)
            elif isinstance(pattern, URLPattern):
                yield path, pattern.callback

    return ((path, view) for path, view in walk(get_resolver().url_patterns, "") if path.startswith("v1"))


def address(route: str, file: str = "file-x", batch: str = "batch_x", model: str = "m") -> str:
    route = route.replace("<uid:file_id>", file).replace("<uid:batch_id>", batch).replace("<path:name>", model)
    filled = re.sub("<uid:([a-z]+)_id>", r"\1_1", route).replace("<int:number>", "1")
    assert not re.search("[<>]", filled)
    return f"/{filled}"


def send(client: APIClient, method: str, path: str) -> Any:
    return client.generic(method, path, "{}", content_type="application/json")


def test_every_route_is_listed_here() -> None:
    found = set()
    for path, callback in routes():
        view = getattr(callback, "cls", None)
        if path in OUTSIDE or view is UnknownRoute:
            continue
        assert view is not None, f"{path} is no API view"
        found |= {
            (method.upper(), path) for method in ("get", "post", "put", "patch", "delete") if hasattr(view, method)
        }
    assert found == set(SCOPES)


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "route"), SCOPES)
def test_it_rejects_nobody(method: str, route: str) -> None:
    assert send(APIClient(), method, address(route)).status_code == 401


@pytest.mark.parametrize(("method", "route"), SCOPES)
def test_it_rejects_a_key_without_the_scope(project: Project, method: str, route: str) -> None:
    others = [scope for scope in Scope.values if scope != SCOPES[method, route]]
    _, secret = create_api_key(project=project, name="others", scopes=others)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    response = send(client, method, address(route))
    assert response.status_code == 403
    assert SCOPES[method, route] in response.json()["error"]["message"]


@pytest.mark.parametrize(("method", "route"), WITH_OBJECT)
def test_a_strangers_object_is_a_404(project: Project, stranger: APIClient, method: str, route: str) -> None:
    file = make_file(project)
    batch = make_batch(project, file)
    path = address(route, file.uid, batch.uid)
    mine, none = send(stranger, method, path), send(stranger, method, address(route, "file-none", "batch_none"))
    assert mine.status_code == none.status_code == 404
    assert mine.json()["error"]["code"] == none.json()["error"]["code"]
    assert File.objects.filter(pk=file.pk).exists()
    assert Batch.objects.get().status == Batch.Status.VALIDATING


def test_a_session_opens_no_api_route(admin_client: Any) -> None:
    for method, route in SCOPES:
        assert admin_client.generic(method, address(route)).status_code == 401
