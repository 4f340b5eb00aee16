"""Every answer carries `x-request-id`: the client's, if it sent a sane one, or one of ours."""

import re
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import cast

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from apps.core.ids import new_id

HEADER = "x-request-id"
SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")

SyncHandler = Callable[[HttpRequest], HttpResponseBase]
AsyncHandler = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


def sane_or_new(given: str) -> str:
    return given if SANE.fullmatch(given) else new_id("req_")


@sync_and_async_middleware
def RequestIdMiddleware(get_response: SyncHandler | AsyncHandler) -> SyncHandler | AsyncHandler:  # noqa: N802 - named as Django names middleware
    """Sets `request.request_id` and the answer's header."""

    def begin(request: HttpRequest) -> str:
        request_id = sane_or_new(request.headers.get(HEADER, ""))
        request.request_id = request_id  # type: ignore[attr-defined]
        return request_id

    if iscoroutinefunction(get_response):

        async def handle_async(request: HttpRequest) -> HttpResponseBase:
            request_id = begin(request)
            response = await cast(AsyncHandler, get_response)(request)
            response.headers[HEADER] = request_id
            return response

        return handle_async

    def handle(request: HttpRequest) -> HttpResponseBase:
        request_id = begin(request)
        response = cast(SyncHandler, get_response)(request)
        response.headers[HEADER] = request_id
        return response

    return handle
