"""Clients that leave, read slowly, or come in crowds."""

import asyncio
import gc
from typing import Any

import psutil
import pytest
import uvicorn

from apps.models.gateway import asgi
from apps.models.models import Model
from tests.batches.lender import Lender
from tests.models.gateway.cast import Asking, chat, eventually, in_database
from tests.stack.live import free_ports

CROWD = 1_000
MIB = 1024**2


async def idle(lender: Lender) -> bool:
    """Whether the engine soon has no request left."""
    return bool(await in_database(lender.engine.drain, 2))


async def busy(lender: Lender) -> bool:
    return not await in_database(lender.engine.drain, 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_it_works(asking: Asking, served: Model, lender: Lender, stream: bool) -> None:
    """Who hangs up ends the generation."""
    request = asking.start(chat("!slow:30 x", stream=stream))
    assert await eventually(lambda: not lender.engine.drain(0))
    request.hang_up()
    await request.task
    assert await idle(lender)
    assert request.sent.empty()


async def test_who_hangs_up_in_a_stream_ends_it(asking: Asking, served: Model, lender: Lender) -> None:
    request = asking.start(chat("!pace:0.05 " + "word " * 2_000, stream=True))
    for _ in range(5):
        await request.message()
    assert await busy(lender)
    request.hang_up()
    await request.task
    assert await idle(lender)


async def test_who_hangs_up_while_it_sends_is_not_answered(asking: Asking, served: Model, lender: Lender) -> None:
    request = asking.start(b"")
    request._inbox.get_nowait()
    request._inbox.put_nowait({"type": "http.request", "body": b'{"model"', "more_body": True})
    request.hang_up()
    await request.task
    assert request.sent.empty()
    assert lender.called() == []


async def test_a_cancelled_server_ends_the_generation(asking: Asking, served: Model, lender: Lender) -> None:
    request = asking.start(chat("!slow:30 x"))
    assert await eventually(lambda: not lender.engine.drain(0))
    request.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request.task
    assert await idle(lender)


async def test_it_survives_a_slow_client(asking: Asking, served: Model, lender: Lender) -> None:
    """It reads a message at a time; meanwhile others are answered, and what it has not read stays with the engine."""
    slow = asking.start(chat("word " * 200_000, stream=True), reading=1)
    await slow.message()
    gc.collect()
    before = psutil.Process().memory_info().rss
    assert (await asking.post(chat("quick"))).status == 200
    await asyncio.sleep(1)
    assert psutil.Process().memory_info().rss - before < 8 * MIB  # of 40
    slow.hang_up()
    await slow.task


async def test_it_survives_a_crowd(asking: Asking, served: Model, lender: Lender) -> None:
    """Over real sockets: each waits for its answer, none is lost, and each costs some kilobytes."""
    (port,) = free_ports(1)
    server = uvicorn.Server(
        uvicorn.Config(asking.application, port=port, lifespan="off", log_config=None, backlog=CROWD, ws="none")
    )
    serving = asyncio.create_task(server.serve())
    assert await eventually(lambda: server.started)
    await asking.post(chat("warm"))
    before = psutil.Process().memory_info().rss
    crowd = [asyncio.create_task(_ask(port, asking, number)) for number in range(CROWD)]
    answers = await asyncio.gather(*crowd)
    grown = psutil.Process().memory_info().rss - before  # both ends are in this process
    assert [answer for answer in answers if b" 200 OK" not in answer or b"[DONE]" not in answer] == []
    assert grown < CROWD * 128 * 1024
    assert asgi.gateway()._shared.meter._inside == {}
    server.should_exit = True
    await serving


async def _ask(port: int, asking: Asking, number: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"model":"test-model","stream":true,"messages":[{"role":"user","content":"!slow:1 %d"}]}' % number
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {asking.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer: Any = await reader.read()
    writer.close()
    return bytes(answer)
