import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.core.web import Web

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]

CROWD = 8


def test_it_works_for_all_who_ask_first(web: Web) -> None:
    """At once, of a process that has just begun."""
    with ThreadPoolExecutor(CROWD) as crowd:
        answers = list(crowd.map(lambda _: web.request("GET", "/v1/schema"), range(CROWD)))
    assert {status for status, _ in answers} == {200}
    assert len(set(answers)) == 1
    assert json.loads(web.request("GET", "/v1/schema?format=json")[1])["paths"]
    assert web.request("GET", "/v1/schema")[1] == answers[0][1]
