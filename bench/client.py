"""The yardstick: the simplest fast client that sends a batch file to an engine, and keeps nothing."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvloop


def run(socket: Path, path: Path, *, window: int) -> float:
    """Seconds for every line of the file, `window` in flight; loading the file is not counted."""
    requests = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [(request["url"], json.dumps(request["body"]).encode()) for request in requests]
    started = time.monotonic()
    uvloop.run(_send(socket, iter(lines), window))
    return time.monotonic() - started


async def _send(socket: Path, lines: Iterator[tuple[str, bytes]], window: int) -> None:
    connector = aiohttp.UnixConnector(str(socket), limit=0)
    headers = {"content-type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:

        async def worker() -> None:
            for url, body in lines:
                async with session.post(f"http://engine{url}", data=body) as response:
                    answer = await response.read()
                    if response.status != 200:
                        raise RuntimeError(answer.decode())

        await asyncio.gather(*[worker() for _ in range(window)])
