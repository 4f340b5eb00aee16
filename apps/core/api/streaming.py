"""Streamed answers. ASGI reads a plain iterator into memory as a whole, so these are asynchronous.

Whoever reads slowly must keep nothing that others need: the request's database connection goes back before the first
byte (`apps.core.api.handler`), and what reads rows for a stream reads them in pages, with a connection for each chunk.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

CHUNK = 256 * 1024  # bytes handed to the server at a time


async def stream(source: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """The source's bytes in chunks of about CHUNK. It runs in a thread of its own.

    Between two chunks, for as long as the client likes, the thread has no database connection: a source may use
    Django's, for statements that are over before it yields, but no cursor or transaction that outlives a yield.
    """
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
    try:
        for piece in pieces:
            chunk += piece
            if len(chunk) >= CHUNK:
                break
    finally:
        connection.close()
    return bytes(chunk)


def _close(pieces: Iterator[bytes]) -> None:
    if isinstance(pieces, Generator):
        pieces.close()
    connection.close()
