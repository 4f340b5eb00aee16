"""Addresses that are nobody's: programs get an envelope that says what is missing, people a page."""

import json
from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


def refused(response: Any) -> str:
    assert response.status_code == 404
    assert response["content-type"] == "application/json"
    error = json.loads(response.content)["error"]
    assert (error["type"], error["code"]) == ("not_found_error", "unknown_url")
    message: str = error["message"]
    return message


@pytest.mark.parametrize("path", ["/chat/completions", "/files", "/batches", "/embeddings", "/models"])
def test_it_works(client: Client, path: str) -> None:
    message = refused(client.post(path, b"{}", "application/json"))
    assert f"Did you mean /v1{path}? Set the client's base_url to http://testserver/v1." in message


@pytest.mark.parametrize("path", ["/models", "/batches/batch_1"])
def test_a_route_without_its_v1_is_told_what_is_missing(client: Client, path: str) -> None:
    assert f"/v1{path}?" in refused(client.get(path))


def test_a_doubled_v1_is_told(client: Client) -> None:
    assert "Did you mean /v1/models?" in refused(client.get("/v1/v1/models"))


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/v1/nothing"])
def test_an_unknown_route_points_to_the_reference(client: Client, path: str) -> None:
    assert "See /v1/docs." in refused(client.get(path))


def test_programs_get_json_on_the_api_s_port(client: Client, settings: Any) -> None:
    assert "See /v1/docs." in refused(client.get("/nothing", SERVER_PORT=str(settings.API_PORT)))
    assert "See /v1/docs." in refused(client.post("/nothing", SERVER_PORT=str(settings.WEB_PORT)))


@pytest.mark.parametrize("path", ["/nothing", "/favicon.ico"])
def test_people_get_pages(client: Client, settings: Any, path: str) -> None:
    response = client.get(path, SERVER_PORT=str(settings.WEB_PORT))
    assert (response.status_code, response["content-type"].partition(";")[0]) == (404, "text/html")
