"""What is said of something that is tried again, while it waits."""

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.core import attempts
from apps.core.models import Attempt
from apps.core.waiting import with_reason, with_reasons

pytestmark = pytest.mark.django_db(transaction=True)

OPEN = {"final": False}
LATER = timezone.now() + timedelta(hours=1)


def tried(key: str, attempts: int, *, began: bool = False, error: str = "", at: datetime = LATER) -> None:
    Attempt.objects.create(key=key, attempts=attempts, began=began, error=error, next_at=at)


def message(*keys: str) -> str:
    return str(with_reason(OPEN, *keys)["message"])


def test_it_works() -> None:
    tried("x:1", 2, error="a file that it needs is gone")
    assert message("x:1") == (
        "2 of 5 attempts failed, the last one because a file that it needs is gone."
        f" It is tried again at {LATER:%H:%M:%S} UTC."
    )


def test_the_first_attempt_is_nothing_to_speak_of() -> None:
    tried("x:1", 1, began=True)
    assert message("x:1") == message("x:2") == ""


def test_an_attempt_that_has_begun_says_how_the_one_before_ended() -> None:
    tried("x:1", 2, began=True, error="it is nested too deeply")
    tried("x:2", 3, began=True)
    assert message("x:1").endswith("because it is nested too deeply. Attempt 2 has begun.")
    assert message("x:2") == f"2 of 5 attempts failed, the last one because {attempts.DIED}. Attempt 3 has begun."


def test_a_full_disk_is_no_failed_attempt() -> None:
    tried("x:1", 0)
    tried("x:2", 0, at=timezone.now() - timedelta(seconds=1))
    assert message("x:1").startswith("The disk of the server, or of its database, is full. It is tried again at")
    assert message("x:2") == ""


def test_the_one_that_failed_most_often_is_told() -> None:
    tried("x:1", 1, error="one")
    tried("x:2", 3, error="three")
    assert "because three." in message("x:1", "x:2")


def test_what_has_a_message_or_an_end_is_left_alone() -> None:
    tried("x:1", 1)
    ended = {"final": True, "message": ""}
    told = {"final": False, "message": "The hub asks to wait."}
    with CaptureQueriesContext(connection) as queries:
        assert with_reasons([(ended, ["x:1"]), (told, ["x:1"])]) == [ended, told]
    assert len(queries) == 0


def test_several_cost_one_query() -> None:
    tried("x:1", 1, error="one")
    tried("y:2", 2, error="two")
    with CaptureQueriesContext(connection) as queries:
        first, second, third = with_reasons([(OPEN, ["x:1"]), (OPEN, ["x:2"]), (OPEN, ["x:3", "y:2"])])
    assert len(queries) == 1
    assert ["one" in first["message"], second["message"], "two" in third["message"]] == [True, "", True]
