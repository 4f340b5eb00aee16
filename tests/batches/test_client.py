import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.batches import client
from apps.batches.client import Client, EngineGone, Line, Outcome
from tests.batches.lender import Lender

CHAT = "/v1/chat/completions"


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[Lender]:
    with Lender(tmp_path) as lender:
        yield lender


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACK_OFF", (0.05, 0.1))


def line(text: str, number: int = 1, url: str = CHAT) -> Line:
    body = {"model": "test-model", "messages": [{"role": "user", "content": text}]}
    return Line(shard=1, batch=1, number=number, custom_id=f"a{number}", url=url, body=json.dumps(body))


async def ask(lender: Lender, *lines: Line, attempts: int = 3, seconds: float = 5) -> list[Outcome]:
    spec = lender.engine
    async with Client(spec.spec.socket, alive=spec.alive, attempts=attempts, timeout=seconds) as asking:
        return list(await asyncio.gather(*(asking.answer(line) for line in lines)))


async def test_it_works(lender: Lender) -> None:
    (outcome,) = await ask(lender, line("Hello there"))
    assert (outcome.failed, outcome.status_code, outcome.error_code, outcome.attempts) == (False, 200, "", 1)
    assert json.loads(outcome.body)["choices"][0]["message"]["content"] == "Answer to: Hello there"
    assert outcome.output_tokens == 4
    assert outcome.input_tokens > 0
    assert outcome.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("url", "field"), [(CHAT, "messages"), ("/v1/completions", "prompt"), ("/v1/responses", "input")]
)
async def test_its_lines_go_after_people(tmp_path: Path, url: str, field: str) -> None:
    priorities = tmp_path / "priorities"
    with Lender(tmp_path, FAKE_ENGINE_PRIORITIES=str(priorities)) as lender:
        asked = json.dumps({"model": "test-model", field: [{"role": "user", "content": "}"}]})
        (outcome,) = await ask(lender, Line(shard=1, batch=1, number=1, custom_id="a", url=url, body=f" {asked}\n"))
    assert not outcome.failed
    assert priorities.read_text() == "1\n"


async def test_it_keeps_many_under_way(lender: Lender) -> None:
    outcomes = await ask(lender, *(line(f"number {number}", number) for number in range(500)))
    assert [outcome.line.number for outcome in outcomes] == list(range(500))
    assert not any(outcome.failed for outcome in outcomes)


@pytest.mark.parametrize("marker", ["!500-once", "!429-once"])
async def test_it_tries_the_engine_s_trouble_again(lender: Lender, marker: str) -> None:
    (outcome,) = await ask(lender, line(f"x {marker}"))
    assert (outcome.failed, outcome.attempts) == (False, 2)


async def test_it_gives_up_after_its_attempts_and_keeps_the_last_answer(lender: Lender) -> None:
    (outcome,) = await ask(lender, line("x !500"))
    assert (outcome.failed, outcome.status_code, outcome.attempts) == (True, 500, 3)
    assert "marked !500" in outcome.body
    assert len(lender.called()) == 3


async def test_it_rejects_garbage_as_an_answer(lender: Lender) -> None:
    (outcome,) = await ask(lender, line("x !garbage"))
    assert (outcome.failed, outcome.status_code, outcome.error_code, outcome.attempts) == (
        True,
        None,
        "engine_error",
        3,
    )
    assert "not valid JSON" in outcome.error_message


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"[]", None),
        (b'{"usage": 3}', None),
        (b'{"usage": {"prompt_tokens": -1}}', None),
        (b'{"usage": {"prompt_tokens": 9999999999}}', None),
        (b'{"x": "\x00"}', None),
        (b'{"x": "\xff"}', None),
        (b'{"usage": null}', 200),
        (b'{\n  "usage": {"prompt_tokens": null}\n}\n', 200),
        (b'{"x": "\\u0000"}', 200),
    ],
)
def test_it_takes_nothing_that_the_database_would_not(raw: bytes, status: int | None) -> None:
    outcome = client._outcome(line("x"), 200, raw, 1, 1)
    assert outcome.status_code == status
    assert "\n" not in outcome.body.strip()


async def test_it_does_not_try_a_bad_request_again(lender: Lender) -> None:
    (outcome,) = await ask(lender, line("x !400"))
    assert (outcome.failed, outcome.status_code, outcome.attempts) == (True, 400, 1)
    assert len(lender.called()) == 1


async def test_it_gives_an_attempt_only_so_long(lender: Lender) -> None:
    (outcome,) = await ask(lender, line("x !slow:30"), attempts=2, seconds=0.2)
    assert (outcome.failed, outcome.error_code, outcome.attempts) == (True, "engine_error", 2)


async def test_it_says_when_the_engine_died(lender: Lender) -> None:
    with pytest.raises(EngineGone):
        await ask(lender, line("x !die"), attempts=10)


async def test_it_says_when_the_engine_s_core_died(lender: Lender) -> None:
    asking = asyncio.create_task(ask(lender, line("x !slow:30"), attempts=10))
    await asyncio.sleep(0.3)
    os.kill(lender.engine.group.pgid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(EngineGone):
        await asking
    assert time.monotonic() - began < 5
