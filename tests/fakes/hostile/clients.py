"""Clients that mean harm, of five kinds, as one program: `python -m tests.fakes.hostile.clients PORT SECONDS [COUNT]`.

None of them has a key. Each opens a connection, does its kind of harm until it is hung up on, and begins again. At the
end one line of JSON says how many connections each kind made.
"""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

COUNT = 64
LARGE = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"  # of 1.4 MB, for everybody
PAUSE = 0.05  # seconds before a client that was hung up on comes again
POST = b"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\n"

Kind = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def half_heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A head that never ends, a few bytes a second."""
    writer.write(b"GET / HTTP/1.1\r\n")
    while not reader.at_eof():
        writer.write(b"X-A: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.5)


async def floods_around_bodies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Chunks' extensions, then trailers, as fast as they are taken."""
    writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 10_000 + b"\r\nx\r\n0\r\n")
    while not reader.at_eof():
        writer.write(b"X-Trailer: " + b"a" * 60_000 + b"\r\n")
        await writer.drain()


async def wrong_keys(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A new wrong key with each request, and a look at the server's health beside it."""
    for number in range(1_000_000):
        key = f"Authorization: Bearer sk-{id(writer)}-{number}"
        writer.write(f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{key}\r\n\r\n".encode())
        await _answered(reader)
        for _ in range(10):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await _answered(reader)


async def slow_bodies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body of few bytes a second."""
    writer.write(POST + b"Content-Length: 60000\r\n\r\n")
    while not reader.at_eof():
        writer.write(b"x" * 10)
        await writer.drain()
        await asyncio.sleep(0.2)


async def slow_readers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for much and read a few bytes a second."""
    writer.write(f"GET {LARGE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    for _ in range(1_000_000):
        if not await reader.read(10):
            return
        await asyncio.sleep(0.5)


KINDS: tuple[Kind, ...] = (half_heads, floods_around_bodies, wrong_keys, slow_bodies, slow_readers)


async def _answered(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))


async def _again_and_again(kind: Kind, port: int, made: Counter[str]) -> None:
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            made[kind.__name__] += 1
            try:
                await kind(reader, writer)
            finally:
                writer.transport.abort()
        await asyncio.sleep(PAUSE)


async def main(port: int, seconds: float, count: int) -> None:
    made: Counter[str] = Counter()
    tasks = [asyncio.create_task(_again_and_again(KINDS[at % len(KINDS)], port, made)) for at in range(count)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else COUNT))
