"""Django's ASGI handler, with what it lacks: bodies without a declared length, and streams that hold no connection."""

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import IO, Any, cast

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

FRAMING = (b"content-length", b"transfer-encoding")

Headers = Iterable[tuple[bytes, bytes]]


class Handler(ASGIHandler):
    """The server has read the body and knows its size; the views get it, however the body was carried."""

    def create_request(
        self, scope: Mapping[str, Any], body_file: IO[bytes]
    ) -> tuple[ASGIRequest, None] | tuple[None, HttpResponseBase]:
        """Django's parsers and DRF's take a request without Content-Length to be empty."""
        size = body_file.seek(0, os.SEEK_END)
        body_file.seek(0)
        return super().create_request({**scope, "headers": _framed(scope["headers"], size)}, body_file)

    def load_middleware(self, is_async: bool = True) -> None:
        """All of a request in one thread, and once there. WhiteNoise is not async, and Django would change between
        thread and event loop around it and around each hook of each middleware; each change waits for both."""
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        """A stream's client may read for hours: the request's connection goes back to the pool before the first byte.

        Here, after all middleware, no view that streams can forget it. WhiteNoise's files stream, too: of what is no
        async iterator, Django would make a list first, as large as the file for each client.
        """
        response: HttpResponseBase = await super().run_get_response(request)
        if isinstance(response, StreamingHttpResponse):
            await sync_to_async(connections.close_all)()
            if not response.is_async:
                response.streaming_content = _one_by_one(cast(Iterator[bytes], response.streaming_content))
        return response


async def _one_by_one(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (part := await sync_to_async(lambda: next(parts, None))()) is not None:
        yield part


def _framed(headers: Headers, size: int) -> list[tuple[bytes, bytes]]:
    """With the length that the body has, as if every client had declared it."""
    declared = any(name in FRAMING for name, _ in headers)
    rest = [(name, value) for name, value in headers if name not in FRAMING]
    return [*rest, (b"content-length", b"%d" % size)] if declared or size else rest
