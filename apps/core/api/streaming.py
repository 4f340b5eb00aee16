"""Streamed answers. ASGI reads a plain iterator into memory as a whole, so these are asynchronous."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from django.db import connection
from django.http import StreamingHttpResponse

CHUNK = 256 * 1024  # bytes handed to the server at a time


def respond(chunks: AsyncIterator[bytes], headers: dict[str, str], *, status: int = 200) -> StreamingHttpResponse:
    """A streamed answer. The view's database connection goes back to the pool now, not when the client has read all."""
    if not connection.in_atomic_block:
        connection.close()
    return StreamingHttpResponse(chunks, status=status, headers=headers)


async def stream(source: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """The source's bytes in chunks of about CHUNK. It runs in a thread of its own, its database connection too."""
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "stream")
    try:
        pieces = await loop.run_in_executor(thread, source)
        try:
            while chunk := await loop.run_in_executor(thread, _next_chunk, pieces):
                yield chunk
        finally:
            thread.submit(_close, pieces)
    finally:
        thread.shutdown(wait=False)


def _next_chunk(pieces: Iterator[bytes]) -> bytes:
    chunk = bytearray()
    for piece in pieces:
        chunk += piece
        if len(chunk) >= CHUNK:
            break
    return bytes(chunk)


def _close(pieces: Iterator[bytes]) -> None:
    if isinstance(pieces, Generator):
        pieces.close()
    connection.close()
