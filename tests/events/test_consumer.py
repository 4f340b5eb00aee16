import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import pytest_asyncio
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.test import Client

from apps.accounts.models import Membership, Project
from apps.batches.models import Batch
from apps.core.ids import new_id
from apps.events import consumer
from apps.events.hints import ahint
from tests.events.cast import answer, complete, member, running_batch
from tests.events.page_socket import PageSocket

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "http://localhost:8001"

Dial = Callable[..., Coroutine[Any, Any, PageSocket]]


async def in_database(function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    return await database_sync_to_async(function)(*arguments, **more)


def login(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def batch(project: Project) -> Batch:
    return running_batch(project)


@pytest.fixture
def browser(project: Project) -> Client:
    """Somebody of the project, logged in."""
    return login(member(project))


@pytest_asyncio.fixture
async def dial() -> AsyncIterator[Dial]:
    """Opens a socket as a page of ours would; all are closed with the test."""
    sockets: list[PageSocket] = []

    async def dial(browser: Client | None) -> PageSocket:
        cookie = browser.cookies.output(attrs=[], header="").strip() if browser else ""
        socket = PageSocket(origin=ORIGIN, cookie=cookie)
        assert await socket.connect()
        sockets.append(socket)
        return socket

    yield dial
    for socket in sockets:
        await socket.disconnect()


async def test_it_works(dial: Dial, browser: Client, batch: Batch) -> None:
    socket = await dial(browser)
    await socket.subscribe(batch.uid)
    first = await socket.hear()
    assert first["topic"] == "batch"
    assert (first["progress"]["id"], first["progress"]["completed"]) == (batch.uid, 0)
    await in_database(answer, batch, completed=4, failed=1)
    await ahint("batch", batch.uid)
    tick = (await socket.hear())["progress"]
    assert (tick["completed"], tick["failed"], tick["total"]) == (4, 1, 10)
    assert tick["tokens_per_second"] > 0
    await in_database(complete, batch)
    await ahint("batch", batch.uid)
    final = (await socket.hear())["progress"]
    assert (final["status"], final["final"], final["eta_seconds"]) == ("completed", True, 0)
    assert await socket.is_silent(0.6)


async def test_it_shows_the_state_again_to_who_comes_back(dial: Dial, browser: Client, batch: Batch) -> None:
    socket = await dial(browser)
    await socket.subscribe(batch.uid)
    await socket.hear()
    await in_database(answer, batch, completed=9)  # nobody is told
    again = await dial(browser)
    await again.subscribe(batch.uid)
    assert (await again.hear())["progress"]["completed"] == 9


async def test_it_watches_many(dial: Dial, browser: Client, project: Project) -> None:
    batches = [await in_database(running_batch, project) for _ in range(consumer.SUBSCRIPTIONS)]
    socket = await dial(browser)
    uids = [batch.uid for batch in batches]
    await socket.subscribe(*uids)
    heard = {(await socket.hear())["progress"]["id"] for _ in uids}
    assert heard == set(uids)
    one_more = await in_database(running_batch, project)
    await socket.subscribe(one_more.uid)
    assert (await socket.hear())["error"]["code"] == "too_many"


async def test_it_subscribes_once(dial: Dial, browser: Client, batch: Batch) -> None:
    socket = await dial(browser)
    await socket.subscribe(*[batch.uid] * 3)
    await socket.hear()
    assert await socket.is_silent(0.6)


async def test_it_rejects_a_stranger_as_if_there_were_nothing(dial: Dial, batch: Batch) -> None:
    elsewhere = await in_database(Project.objects.create, name="elsewhere")
    outsider = await in_database(member, elsewhere, "olga")
    socket = await dial(await in_database(login, outsider))
    refusals = []
    for uid in (batch.uid, new_id("batch_")):
        await socket.subscribe(uid)
        error = (await socket.hear())["error"]
        refusals.append((error["code"], error["message"].replace(uid, "…")))
        assert error["id"] == uid
    assert refusals[0] == refusals[1]
    assert refusals[0][0] == "not_found"


async def test_it_rejects_who_is_not_logged_in(dial: Dial, batch: Batch) -> None:
    socket = await dial(None)
    assert await socket.close_code() == consumer.LOGGED_OUT


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
async def test_it_rejects_a_page_of_another_site(browser: Client, origin: str) -> None:
    cookie = browser.cookies.output(attrs=[], header="").strip()
    assert not await PageSocket(origin=origin, cookie=cookie).connect()


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        '{"subscribe": "batch_1"}',
        '{"subscribe": [["batch"]]}',
        '{"subscribe": [["batch", "batch_\\u0000"]]}',
        '{"subscribe": [["batch", "\\ud800"]]}',
        json.dumps({"subscribe": [["batch", "batch_1"]] * 101}),
        '{"subscribe": []' + ', "x": ' + "[" * 20_000,
    ],
)
async def test_it_rejects_nonsense_and_goes_on(dial: Dial, browser: Client, batch: Batch, message: str) -> None:
    socket = await dial(browser)
    await socket.say(message)
    assert (await socket.hear())["error"]["code"] == "invalid_message"
    await socket.subscribe(batch.uid)
    await socket.subscribe(batch.uid, topic="nonsense")
    heard = [await socket.hear(), await socket.hear()]
    assert {"progress", "error"} == {key for message in heard for key in message if key != "topic"}


async def test_it_rejects_a_huge_message(dial: Dial, browser: Client) -> None:
    socket = await dial(browser)
    await socket.say("x" * (consumer.MESSAGE_BYTES + 1))
    assert await socket.close_code() == consumer.TOO_BIG


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "RECHECK_SECONDS", 0.3)


async def test_it_closes_after_a_logout(impatient: None, dial: Dial, browser: Client, batch: Batch) -> None:
    socket = await dial(browser)
    await socket.subscribe(batch.uid)
    await socket.hear()
    await asyncio.sleep(0.8)
    await in_database(browser.logout)
    assert await socket.close_code() == consumer.LOGGED_OUT


async def test_it_closes_when_rights_are_taken_away(impatient: None, dial: Dial, browser: Client, batch: Batch) -> None:
    socket = await dial(browser)
    await socket.subscribe(batch.uid)
    await socket.hear()
    await in_database(Membership.objects.all().delete)
    assert await socket.close_code() == consumer.RIGHTS_CHANGED
