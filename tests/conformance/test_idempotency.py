"""`Idempotency-Key`: whatever is sent twice happens once."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest

from tests.conformance.lines import CHAT, chats, jsonl
from tests.conformance.site import Site

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def all_batches_end(site: Site) -> Iterator[None]:
    yield
    site.wait_until_idle()


def once() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def create(client: openai.OpenAI, file_id: str, headers: dict[str, str], **parameters: Any) -> str:
    return client.batches.create(
        input_file_id=file_id, endpoint=CHAT, completion_window="24h", extra_headers=headers, **parameters
    ).id


def test_it_works(site: Site) -> None:
    file, headers = site.upload(chats("hello")), once()
    first = create(site.client(), file.id, headers)
    assert create(site.client(), file.id, headers) == first
    assert create(site.client(), file.id, once()) != first
    assert create(site.client(), file.id, {}) != first


def test_it_works_for_uploads(site: Site) -> None:
    headers, content = once(), jsonl(chats("hello"))
    files = site.client().files
    first = files.create(file=("in.jsonl", content), purpose="batch", extra_headers=headers)
    before = site.belongings()
    assert files.create(file=("in.jsonl", content), purpose="batch", extra_headers=headers) == first
    with pytest.raises(openai.ConflictError):
        files.create(file=("in.jsonl", content + b"\n"), purpose="batch", extra_headers=headers)
    assert site.has_only(before)


def test_it_rejects_a_key_for_another_request(site: Site) -> None:
    file, headers = site.upload(chats("hello")), once()
    create(site.client(), file.id, headers)
    with pytest.raises(openai.ConflictError) as caught:
        create(site.client(), file.id, headers, metadata={"other": "body"})
    assert caught.value.code == "idempotency_key_reused"
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_it_rejects_an_insane_key(site: Site) -> None:
    file = site.upload(chats("hello"))
    for key in ("x" * 256, "a b"):
        with pytest.raises(openai.BadRequestError):
            create(site.client(), file.id, {"Idempotency-Key": key})


def test_a_key_is_its_projects_own(site: Site) -> None:
    headers = once()
    ours, theirs = site.upload(chats("hello")), site.upload(chats("hello"), "stranger")
    first = create(site.client(), ours.id, headers)
    assert create(site.client("stranger"), theirs.id, headers) != first


def test_a_refused_request_does_not_use_the_key_up(site: Site) -> None:
    headers = once()
    with pytest.raises(openai.BadRequestError):
        create(site.client(), "", headers)
    assert create(site.client(), site.upload(chats("hello")).id, headers).startswith("batch_")


def test_it_survives_requests_at_the_same_time(site: Site) -> None:
    """The client tries again on 409 by itself until the first has its answer; they all get that one."""
    file, headers = site.upload(chats("hello")), once()
    patient = site.client().with_options(max_retries=8)
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: create(patient, file.id, headers), range(8)))
    assert len(made) == 1


class LosesAnswers(httpx2.HTTPTransport):
    """The first answer to each path never comes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(request.url.path)
        response = super().handle_request(request)
        if self.sent.count(request.url.path) == 1:
            response.read()
            raise httpx2.ReadError("lost", request=request)
        return response


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "lost-answer"}])
def test_it_survives_a_lost_answer(site: Site, headers: dict[str, str]) -> None:
    """The SDK sends a request again whose answer never came: still one file, and one batch."""
    before, transport = site.belongings(), LosesAnswers()
    http = openai.DefaultHttpxClient(transport=transport)
    with openai.OpenAI(base_url=site.url, api_key=site.keys["owner"], http_client=http, max_retries=2) as client:
        file = client.files.create(file=jsonl(chats("!slow:600")), purpose="batch", extra_headers=headers)
        batch = create(client, file.id, headers)
        after = site.belongings()
        client.batches.cancel(batch)
    assert sorted(transport.sent) == sorted(2 * ["/v1/files", "/v1/batches", f"/v1/batches/{batch}/cancel"])
    assert (after[0], after[1]) == (before[0] + 1, before[1] + 1)


def test_two_equal_requests_make_two_batches(site: Site) -> None:
    file = site.upload(chats("hello"))
    first = create(site.client(), file.id, {})
    assert create(site.client(), file.id, {}) != first
