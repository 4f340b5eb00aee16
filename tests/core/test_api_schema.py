import re
from io import StringIO

import pytest
from django.core.management import call_command
from django.test import Client

from tests.accounts.test_permissions import SCOPES


def test_it_works() -> None:
    """Valid, and nothing in it had to be guessed."""
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=StringIO())


@pytest.mark.django_db
def test_anybody_may_read_it(client: Client) -> None:
    response = client.get("/v1/schema?format=json")
    assert response.status_code == 200
    schema = response.json()
    described = {(method.upper(), path) for path, methods in schema["paths"].items() for method in methods}
    assert len(described) == len(SCOPES)
    assert schema["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"


@pytest.mark.django_db
def test_every_route_declares_its_refusals(client: Client) -> None:
    for methods in client.get("/v1/schema?format=json").json()["paths"].values():
        for operation in methods.values():
            assert {"401", "403"} <= set(operation["responses"])
            assert operation["security"] == [{"apiKey": []}]


@pytest.mark.django_db
def test_the_docs_need_no_other_host(client: Client) -> None:
    page = client.get("/v1/docs")
    assert page.status_code == 200
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.content.decode())
