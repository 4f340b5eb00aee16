"""No API string that PostgreSQL cannot store gets as far as a view: 400 with the name of its parameter."""

import json
import re
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

BROKEN = ["a\0b", "\0", "\ud800", "x\udfff"]


def post(api: APIClient, path: str, body: Any) -> Any:
    return api.post(path, json.dumps(body), content_type="application/json")


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize(
    ("wrap", "param"),
    [
        (lambda text: {"metadata": {"k": text}}, "metadata.k"),
        (lambda text: {"metadata": {text: "v"}}, "metadata"),
        (lambda text: {"name": [[{"a": text}]]}, "name.a"),
        (lambda text: {text: 1}, None),
        (lambda text: [text], None),
    ],
)
def test_it_works(api: APIClient, text: str, wrap: Any, param: str | None) -> None:
    response = post(api, "/v1/batches", wrap(text))
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
    assert "NUL" in error["message"]


@pytest.mark.parametrize("text", ["\\u0000", "\\ud800", "\U0001f600", "\ufffd", "é"])
def test_what_only_looks_like_it_is_taken(api: APIClient, text: str) -> None:
    for body in (json.dumps({"input_file_id": text}), json.dumps({"input_file_id": text}, ensure_ascii=False)):
        response = api.post("/v1/batches", body.encode(), content_type="application/json")
        assert "NUL" not in response.json()["error"]["message"]


def routes() -> list[str]:
    return sorted({path for path in _paths(get_resolver().url_patterns, "") if path.startswith("v1/")})


def _paths(patterns: Any, prefix: str) -> Any:
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _paths(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield path


@pytest.mark.parametrize("text", BROKEN[::2])
def test_no_route_stumbles(api: APIClient, text: str) -> None:
    api.raise_request_exception = False
    body = dict.fromkeys(("name", "model", "metadata", "input_file_id", "source", "training_file", "label"), text)
    escaped = "%00" if "\0" in text else "%ED%A0%80"
    for route in routes():
        path = "/" + re.sub("<[^>]*>", f"a{escaped}", route)
        for method in (api.post, api.patch, api.delete, api.put):
            assert method(path, json.dumps(body), content_type="application/json").status_code < 500, path
        for query in ("after", "limit", "order", "q", "status", "model", "purpose", "name", "run"):
            assert api.get(f"{path}?{query}={escaped}").status_code < 500, (path, query)
