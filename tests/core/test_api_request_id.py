import pytest
from django.test import AsyncClient, Client


def test_it_works(client: Client) -> None:
    first, second = (client.get("/v1").headers["x-request-id"] for _ in range(2))
    assert first.startswith("req_")
    assert first != second


def test_it_keeps_the_clients_own(client: Client) -> None:
    assert client.get("/v1", headers={"x-request-id": "my-trace.1"}).headers["x-request-id"] == "my-trace.1"


@pytest.mark.parametrize("given", ["a b", "x" * 129, "a\nb", "é", '"><script>'])
def test_it_rejects_what_would_not_be_sane_in_a_log(client: Client, given: str) -> None:
    assert client.get("/v1", headers={"x-request-id": given}).headers["x-request-id"].startswith("req_")


async def test_it_works_under_asgi(async_client: AsyncClient) -> None:
    response = await async_client.get("/v1")
    assert response.headers["x-request-id"].startswith("req_")
