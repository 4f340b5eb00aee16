"""A load generator in a process of its own. `python -m bench.asker {…}` prints what each request took, in microseconds.

Keys: `url`; `socket` for a Unix socket; `key`; `model`; `requests`; `concurrency`; `stream`.
"""

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp
import uvloop


async def run(order: dict[str, Any]) -> list[float]:
    """Seconds of each request: to its answer's last byte, for streams to the first token."""
    connector = (
        aiohttp.UnixConnector(order["socket"], limit=0) if order.get("socket") else aiohttp.TCPConnector(limit=0)
    )
    headers = {"content-type": "application/json", "authorization": f"Bearer {order.get('key', '')}"}
    message = {"role": "user", "content": "What is the answer?"}
    body = json.dumps({"model": order["model"], "messages": [message], "stream": order["stream"]}).encode()
    left = iter(range(order["requests"]))
    took: list[float] = []
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def ask() -> None:
            for _ in left:
                began = time.perf_counter()
                async with session.post(order["url"], data=body) as response:
                    if order["stream"]:
                        await _first_token(response)
                        took.append(time.perf_counter() - began)
                    answer = await response.read()
                if response.status != 200:
                    raise RuntimeError(answer.decode())
                if not order["stream"]:
                    took.append(time.perf_counter() - began)

        await asyncio.gather(*[ask() for _ in range(order["concurrency"])])
    return took


async def _first_token(response: aiohttp.ClientResponse) -> None:
    """The first event is the role, the second one has text."""
    seen = b""
    while b'"content":"Answer"' not in seen:
        seen += await response.content.readany()


if __name__ == "__main__":
    print(json.dumps([round(seconds * 1e6) for seconds in uvloop.run(run(json.loads(sys.argv[1])))]))
