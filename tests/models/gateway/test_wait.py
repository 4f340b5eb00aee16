"""Models that have to be loaded first, engines that die, and swaps in the middle."""

import asyncio
import contextlib
import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from apps.core.owner import owner
from apps.models.engines.engine import EngineFailed
from apps.models.models import Demand, Device, Engine, EngineDeath, Model
from tests.batches.lender import Lender
from tests.models.gateway.cast import CHAT, Asking, chat, eventually, in_database, parsed, show_engine


def wanted(waiting: int) -> bool:
    """Whether the GPU workers see so many who wait."""
    return Demand.objects.filter(owner=owner(), model__name="test-model", waiting=waiting).exists()


@pytest.fixture
def stopped(transactional_db: None, model: Model) -> Model:
    """A model without an engine."""
    show_engine(model, None)
    return model


async def test_it_works(asking: Asking, stopped: Model, lender: Lender) -> None:
    """It asks for the engine, and goes on when there is one."""
    requests = [asking.start(chat(f"number {number}")) for number in range(5)]
    assert await eventually(lambda: wanted(5))
    await in_database(show_engine, stopped, lender)
    answers = [await request.response() for request in requests]
    assert [answer.status for answer in answers] == [200] * 5
    assert await eventually(lambda: wanted(0))


async def test_it_says_when_a_model_is_in_use(asking: Asking, served: Model) -> None:
    request = asking.start(chat("!slow:30"))
    assert await eventually(lambda: wanted(0))
    before = await in_database(Demand.objects.get)
    assert await eventually(lambda: Demand.objects.get().seen_at > before.seen_at)  # renewed while it lasts
    request.hang_up()
    await request.task


async def test_it_gives_up_when_its_time_is_over(
    asking: Asking, stopped: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "INTERACTIVE_WAIT_SECONDS", 0.5)
    answer = await asking.post(chat("x"))
    assert (answer.status, answer.code) == (503, "model_not_loaded")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["x-queue-position"] == "1"
    assert "number 1 " in answer.json["error"]["message"]
    assert await eventually(lambda: not Demand.objects.exists())


async def test_it_says_why_an_engine_does_not_start(
    asking: Asking, stopped: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "INTERACTIVE_WAIT_SECONDS", 0.1)
    failed = {"state": Engine.State.FAILED, "message": "Out of memory. Use a smaller model.\nsecret log"}
    await in_database(lambda: Engine.objects.update(**failed))
    message = (await asking.post(chat("x"))).json["error"]["message"]
    assert "Out of memory. Use a smaller model." in message
    assert "secret" not in message


async def test_it_does_not_wait_for_a_broken_model(asking: Asking, stopped: Model) -> None:
    def breaks() -> None:
        Model.objects.update(broken_until=timezone.now() + timedelta(seconds=90))
        device = Device.objects.get()
        EngineDeath.objects.create(model=stopped, device=device, message="It died of a bad GPU.\nlog")

    await in_database(breaks)
    answer = await asking.post(chat("x"))
    assert (answer.status, answer.code) == (503, "model_broken")
    assert 80 < int(answer.headers["retry-after"]) <= 90
    assert "It died of a bad GPU." in answer.json["error"]["message"]
    assert not await in_database(Demand.objects.filter(waiting__gt=0).exists)


async def test_it_does_not_wait_for_an_adapter_that_its_base_s_engine_refused(asking: Asking, served: Model) -> None:
    problem = "Adapter bias is not supported.\nsecret log"
    await in_database(Model.objects.create, name="adapter", path="/none", base=served, problem=problem)
    answer = await asking.post(chat("x") | {"model": "adapter"})
    assert (answer.status, answer.code) == (503, "adapter_not_served")
    assert "Adapter bias is not supported." in answer.json["error"]["message"]
    assert "secret" not in answer.json["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert not await in_database(Demand.objects.filter(waiting__gt=0).exists)
    assert (await asking.post(chat("x"))).status == 200


async def test_a_broken_model_that_is_served_answers(asking: Asking, served: Model) -> None:
    await in_database(lambda: Model.objects.update(broken_until=timezone.now() + timedelta(seconds=90)))
    assert (await asking.post(chat("x"))).status == 200


async def test_who_hangs_up_wants_no_engine(asking: Asking, stopped: Model) -> None:
    request = asking.start(chat("x"))
    assert await eventually(lambda: wanted(1))
    request.hang_up()
    await request.task
    assert await eventually(lambda: not Demand.objects.exists())


async def test_an_adapter_waits_until_it_is_loaded(asking: Asking, served: Model, lender: Lender) -> None:
    """Its base's engine runs, but does not have it yet."""
    await in_database(Model.objects.create, name="adapter", path="/none", base=served)
    request = asking.start(chat("x") | {"model": "adapter"})
    assert await eventually(lambda: Demand.objects.filter(model__name="adapter", waiting=1).exists())
    await in_database(lambda: Engine.objects.update(served=["test-model", "adapter"]))
    answer = await request.response()  # the fake engine knows nothing of it
    assert (answer.status, answer.json["error"]["message"]) == (404, "The model `adapter` does not exist.")


async def test_engines_of_other_hosts_are_not_ours(asking: Asking, served: Model, monkeypatch: Any) -> None:
    monkeypatch.setattr(settings, "INTERACTIVE_WAIT_SECONDS", 0.1)
    await in_database(lambda: Device.objects.update(slot="gpu:elsewhere:0"))
    assert (await asking.post(chat("x"))).status == 503


async def test_a_swap_in_the_middle_is_not_noticed(
    asking: Asking, served: Model, lender: Lender, tmp_path: Path
) -> None:
    """What was known of the engine is a few seconds old, and its socket is gone."""
    assert (await asking.post(chat("one"))).status == 200
    other = tmp_path / "other"
    other.mkdir()
    lender.engine.stop(5)
    with Lender(other) as successor:
        await in_database(show_engine, served, successor)
        assert (await asking.post(chat("two"))).status == 200


async def test_it_waits_for_the_next_engine_when_one_is_gone(asking: Asking, served: Model, lender: Lender) -> None:
    """Its row says that it serves, until its worker has seen that it died."""
    lender.engine.stop(5)
    request = asking.start(chat("x"))
    assert await eventually(lambda: wanted(1))
    await in_database(lender.restart)
    assert (await request.response()).status == 200


@pytest.mark.parametrize("victim", ["core", "server"])
@pytest.mark.parametrize("stream", [True, False])
async def test_it_asks_again_when_the_engine_died_before_it_answered(
    asking: Asking, served: Model, lender: Lender, stream: bool, victim: str
) -> None:
    request = asking.start(chat("!slow:2 x", stream=stream))
    await asyncio.sleep(0.5)
    if victim == "server":
        os.kill(lender.engine.group.pgid, signal.SIGKILL)  # the guard, and all with it
    else:
        lender.engine.stop(1)
    await in_database(lender.restart)
    answer = await request.response()
    assert answer.status == 200
    assert len(lender.called()) == 2


async def test_it_gives_up_when_a_request_kills_engines(asking: Asking, served: Model, lender: Lender) -> None:
    request = asking.start(chat("!die"))
    await eventually(lambda: not lender.engine.alive())
    with contextlib.suppress(EngineFailed):  # it may not even get to be ready
        await in_database(lender.restart)
    answer = await request.response()
    assert (answer.status, answer.code) == (502, "engine_died")
    assert len(lender.called()) == 2


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses"])
async def test_a_stream_ends_with_an_error_when_the_engine_dies(asking: Asking, served: Model, path: str) -> None:
    """After the first token nothing can be asked again."""
    text = "!pace:0.1 !die-after:3 x"
    body = {CHAT: chat(text), "/v1/completions": {"prompt": text}, "/v1/responses": {"input": text}}[path]
    answer = await asking.post({"model": "test-model", "stream": True} | body, path)
    assert answer.status == 200
    events = parsed(answer.body)
    assert len([event for event in events if "error" not in event and event != "[DONE]"]) == 3
    (error,) = [event["error"] for event in events if "error" in event]
    assert error["code"] == "engine_died"
    assert path != "/v1/responses" or b"event: error\n" in answer.body


async def test_it_gives_an_engine_only_so_long(asking: Asking, served: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REQUEST_TIMEOUT_SECONDS", 0.3)
    answer = await asking.post(chat("!slow:30"))
    assert (answer.status, answer.code) == (504, "engine_timeout")
    assert answer.headers["x-should-retry"] == "false"
    answer = await asking.post(chat("!pace:2 x", stream=True))
    assert json.loads(answer.body.split(b"data: ")[2])["error"]["code"] == "engine_timeout"
