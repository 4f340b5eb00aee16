import pytest


@pytest.mark.django_db
def test_it_works(client):
    assert client.get("/v1").status_code == 200
